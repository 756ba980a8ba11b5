"""The poll worker: work over HTTP, for machines that reach neither PostgreSQL nor Redis."""
