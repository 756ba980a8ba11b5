"""The low road: tasks as rows of PostgreSQL, and the announcements that tell Celery of them."""
