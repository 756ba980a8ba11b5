"""Ids of new tasks begin with the time: neighbours in the queue are neighbours in the key's index, too.

Revision ID: 0003
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"

# Before PostgreSQL 18 there is no such function, and ids stay random: that costs log, and nothing else.
_UP = "ALTER TABLE compute_tasks ALTER COLUMN id SET DEFAULT uuidv7()"
_DOWN = "ALTER TABLE compute_tasks ALTER COLUMN id SET DEFAULT gen_random_uuid()"


def upgrade() -> None:
    if op.get_bind().scalar(text("SELECT to_regprocedure('uuidv7()') IS NOT NULL")):
        op.get_bind().execute(text(_UP))


def downgrade() -> None:
    op.get_bind().execute(text(_DOWN))
