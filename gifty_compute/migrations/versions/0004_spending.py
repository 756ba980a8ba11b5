"""What providers were paid, in a table: a budget of a day outlives Redis and every process.

Revision ID: 0004
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0004"
down_revision = "0003"

_UP = """
CREATE TABLE IF NOT EXISTS compute_spending (
    day date NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    client text NOT NULL,
    usd numeric NOT NULL DEFAULT 0,
    estimated_usd numeric NOT NULL DEFAULT 0,
    answers bigint NOT NULL DEFAULT 0,
    unpriced bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (day, provider, model, client)
);
CREATE TABLE IF NOT EXISTS compute_spending_writers (
    writer text PRIMARY KEY,
    flush bigint NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS ix_compute_spending_writers_written ON compute_spending_writers (written_at);
"""
_DOWN = """
DROP TABLE IF EXISTS compute_spending_writers;
DROP TABLE IF EXISTS compute_spending;
"""


def upgrade() -> None:
    op.get_bind().execute(text(_UP))


def downgrade() -> None:
    op.get_bind().execute(text(_DOWN))
