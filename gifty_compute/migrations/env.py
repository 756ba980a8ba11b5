"""Alembic's entry: runs the revisions on the connection, and inside the transaction, of the caller."""

from alembic import context

from gifty_compute.migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
context.run_migrations()
