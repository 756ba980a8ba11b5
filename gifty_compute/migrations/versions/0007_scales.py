"""What scale the scores of a worker token's notebook are on.

Revision ID: 0007
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0007"
down_revision = "0006"

_UP = "ALTER TABLE compute_worker_tokens ADD COLUMN score_scale text"
_DOWN = "ALTER TABLE compute_worker_tokens DROP COLUMN score_scale"


def upgrade() -> None:
    op.get_bind().execute(text(_UP))


def downgrade() -> None:
    op.get_bind().execute(text(_DOWN))
