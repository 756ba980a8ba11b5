"""Samples of the queue, and the workers that are there: what operators see of work that waits.

Revision ID: 0005
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for statement in _UP.split(";\n"):
        op.get_bind().execute(text(statement))


def downgrade() -> None:
    for statement in _DOWN.split(";\n"):
        op.get_bind().execute(text(statement))


# Both tables are written by the new code alone, and read by it alone: older processes go on beside them.
_UP = """
CREATE TABLE compute_workers (
    credential text NOT NULL,
    worker_id text NOT NULL,
    task_type text NOT NULL,
    model text NOT NULL,
    session text NOT NULL DEFAULT '',
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (credential, worker_id, task_type, model)
);
CREATE TABLE compute_samples (
    sampled_at timestamptz NOT NULL,
    task_type text NOT NULL,
    model text NOT NULL,
    ready int NOT NULL DEFAULT 0,
    delayed int NOT NULL DEFAULT 0,
    processing int NOT NULL DEFAULT 0,
    oldest_seconds double precision NOT NULL DEFAULT 0,
    done int NOT NULL DEFAULT 0,
    failed int NOT NULL DEFAULT 0,
    done_total bigint NOT NULL DEFAULT 0,
    failed_total bigint NOT NULL DEFAULT 0,
    workers int NOT NULL DEFAULT 0,
    PRIMARY KEY (sampled_at, task_type, model)
);
CREATE INDEX ix_compute_samples_queue ON compute_samples (task_type, model, sampled_at);
ALTER TABLE compute_maintenance ADD COLUMN sampled_at timestamptz
"""

_DOWN = """
ALTER TABLE compute_maintenance DROP COLUMN sampled_at;
DROP TABLE compute_samples;
DROP TABLE compute_workers
"""
