"""A client's tasks in order: lists are of one client's rows, and read no other client's.

Processes of the version before go on while this runs and after it. Their `list`, which names no client, sorts
the table until they are replaced; nothing else of theirs reads the indexes that go.

Revision ID: 0006
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0006"
down_revision = "0005"

# The collation keeps the indexes to statements that name it. Without it the planner took the first for the
# steps from lane to lane of a claim, which then read every row that has ended.
_UP = """
CREATE INDEX ix_compute_tasks_lane ON compute_tasks (lane COLLATE "C", seq);
CREATE INDEX ix_compute_tasks_lane_failed ON compute_tasks (lane COLLATE "C", seq) WHERE status = 'failed';
CREATE INDEX ix_compute_tasks_lane_cancelled ON compute_tasks (lane COLLATE "C", seq)
    WHERE status = 'cancelled';
DROP INDEX ix_compute_tasks_seq, ix_compute_tasks_failed, ix_compute_tasks_cancelled
"""
_DOWN = """
CREATE UNIQUE INDEX ix_compute_tasks_seq ON compute_tasks (seq);
CREATE INDEX ix_compute_tasks_failed ON compute_tasks (seq) WHERE status = 'failed';
CREATE INDEX ix_compute_tasks_cancelled ON compute_tasks (seq) WHERE status = 'cancelled';
DROP INDEX ix_compute_tasks_lane, ix_compute_tasks_lane_failed, ix_compute_tasks_lane_cancelled
"""


def upgrade() -> None:
    for statement in _UP.split(";\n"):
        op.get_bind().execute(text(statement))


def downgrade() -> None:
    for statement in _DOWN.split(";\n"):
        op.get_bind().execute(text(statement))
