"""Generations, history, batches, callbacks, worker tokens, claims that can be replayed.

Revision ID: 0002
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for statement in _UP.split(";\n"):
        op.get_bind().execute(text(statement))
    for function in (_HISTORY, _TELL, _TELL_OF_BATCH):
        op.get_bind().execute(text(function))
    for statement in _TRIGGERS.split(";\n"):
        op.get_bind().execute(text(statement))


def downgrade() -> None:
    for statement in _DOWN.split(";\n"):
        op.get_bind().execute(text(statement))


_UP = """
ALTER TABLE compute_tasks
    ADD COLUMN generation int NOT NULL DEFAULT 1,
    ADD COLUMN revision int NOT NULL DEFAULT 0,
    ADD COLUMN tokens int NOT NULL DEFAULT 0,
    ADD COLUMN missed smallint NOT NULL DEFAULT 0,
    ADD COLUMN callback_url text,
    ADD COLUMN position int,
    ADD COLUMN history jsonb,
    ADD COLUMN referee boolean NOT NULL DEFAULT false;
DROP INDEX ix_compute_tasks_claim;
CREATE INDEX ix_compute_tasks_holder ON compute_tasks (credential, worker_id, session)
    WHERE status = 'processing';
CREATE INDEX ix_compute_tasks_batch_status ON compute_tasks (batch_id, status, completed_at)
    WHERE batch_id IS NOT NULL;
CREATE INDEX ix_compute_tasks_ended ON compute_tasks (status, completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX ix_compute_tasks_referee ON compute_tasks (id) WHERE referee;
CREATE TABLE compute_batches (
    id uuid PRIMARY KEY,
    client text NOT NULL,
    idempotency_key text,
    request_hash bytea,
    request_id text,
    total int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    counts jsonb,
    generation int NOT NULL DEFAULT 1,
    cancel_requested_at timestamptz,
    retry_requested_at timestamptz,
    callback_url text,
    finish_by timestamptz,
    max_cost numeric CHECK (max_cost >= 0),
    cost_usd numeric NOT NULL DEFAULT 0,
    reserved_usd numeric NOT NULL DEFAULT 0,
    plan jsonb
);
CREATE UNIQUE INDEX uq_compute_batches_idempotency ON compute_batches (client, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX ix_compute_batches_open ON compute_batches (created_at) WHERE finished_at IS NULL;
CREATE TABLE compute_callbacks (
    id text PRIMARY KEY,
    task_id uuid REFERENCES compute_tasks (id) ON DELETE CASCADE,
    batch_id uuid REFERENCES compute_batches (id) ON DELETE CASCADE,
    type text NOT NULL,
    url text NOT NULL,
    receiver text NOT NULL GENERATED ALWAYS AS (
        left(lower(split_part(split_part(url, '://', 2), '/', 1)), 255)
    ) STORED,
    created_at timestamptz NOT NULL DEFAULT now(),
    begun_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz DEFAULT now(),
    tries int NOT NULL DEFAULT 0,
    delivered_at timestamptz,
    dead_at timestamptz,
    error text,
    CHECK ((task_id IS NULL) <> (batch_id IS NULL))
);
CREATE INDEX ix_compute_callbacks_due ON compute_callbacks (receiver, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ix_compute_callbacks_dead ON compute_callbacks (dead_at) WHERE dead_at IS NOT NULL;
CREATE INDEX ix_compute_callbacks_task ON compute_callbacks (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX ix_compute_callbacks_batch ON compute_callbacks (batch_id) WHERE batch_id IS NOT NULL;
CREATE TABLE compute_worker_tokens (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    hash bytea NOT NULL UNIQUE,
    task_types text[] NOT NULL DEFAULT '{}',
    trust text NOT NULL DEFAULT 'trusted' CHECK (trust IN ('trusted', 'untrusted')),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT '',
    expires_at timestamptz,
    revoked_at timestamptz,
    quarantined_at timestamptz,
    verified int NOT NULL DEFAULT 0,
    valid_in_a_row int NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX uq_compute_worker_tokens_name ON compute_worker_tokens (name) WHERE revoked_at IS NULL;
CREATE TABLE compute_checks (
    id uuid PRIMARY KEY,
    task_id uuid NOT NULL REFERENCES compute_tasks (id) ON DELETE CASCADE,
    attempt int NOT NULL,
    generation int NOT NULL,
    token_id uuid NOT NULL REFERENCES compute_worker_tokens (id) ON DELETE CASCADE,
    worker_id text NOT NULL,
    stage text NOT NULL CHECK (stage IN ('held', 'taken', 'asked', 'same', 'different', 'unknown')),
    referee_id uuid,
    digest bytea NOT NULL,
    result jsonb,
    dtype text,
    rows int,
    dim int,
    data bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    judged_at timestamptz,
    UNIQUE (task_id, attempt)
);
CREATE INDEX ix_compute_checks_token ON compute_checks (token_id, created_at);
CREATE INDEX ix_compute_checks_referee ON compute_checks (referee_id) WHERE stage IN ('held', 'asked');
CREATE INDEX ix_compute_checks_digest ON compute_checks (token_id, digest);
CREATE TABLE compute_claims (
    claim_id uuid PRIMARY KEY,
    claimed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_compute_claims_age ON compute_claims USING brin (claimed_at);
CREATE TABLE compute_maintenance (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    passed_at timestamptz NOT NULL
)
"""

# The present attempt is in the row's own columns; those that ended without a result of their own are here,
# twenty at most. So the common way, one claim and one result, writes no history.
_HISTORY = """
CREATE FUNCTION compute_history(t compute_tasks, ending text) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT COALESCE(CASE WHEN jsonb_array_length(t.history) >= 20 THEN t.history - 0 ELSE t.history END, '[]')
        || jsonb_build_object(
            'attempt', t.attempt, 'generation', t.generation, 'credential', t.credential,
            'worker_id', t.worker_id, 'session', t.session,
            'from', t.started_at, 'until', now(), 'lease_until', t.lease_expires_at, 'end', ending)
$$
"""

# Triggers, because an end must never miss its callback: who ends a task writes it in the same transaction, be
# it this version, an older one that is still running, or an operator by SQL.
_TELL = """
CREATE FUNCTION compute_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO compute_callbacks (id, task_id, type, url)
    VALUES (
        new.id || '.' || new.generation || '.task.' || new.status, new.id, 'task.' || new.status,
        new.callback_url
    )
    ON CONFLICT (id) DO NOTHING;
    RETURN NULL;
END
$$
"""

_TELL_OF_BATCH = """
CREATE FUNCTION compute_tell_of_batch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO compute_callbacks (id, batch_id, type, url)
    VALUES (
        new.id || '.' || new.generation || '.batch.finished', new.id, 'batch.finished', new.callback_url
    )
    ON CONFLICT (id) DO NOTHING;
    RETURN NULL;
END
$$
"""

_TRIGGERS = """
CREATE TRIGGER compute_tasks_tell AFTER UPDATE OF status ON compute_tasks FOR EACH ROW
    WHEN (new.callback_url IS NOT NULL AND old.status <> new.status AND new.status IN ('completed', 'failed'))
    EXECUTE FUNCTION compute_tell();
CREATE TRIGGER compute_batches_tell AFTER UPDATE OF finished_at ON compute_batches FOR EACH ROW
    WHEN (new.callback_url IS NOT NULL AND old.finished_at IS NULL AND new.finished_at IS NOT NULL
        AND new.cancel_requested_at IS NULL)
    EXECUTE FUNCTION compute_tell_of_batch()
"""

_DOWN = """
DROP TRIGGER compute_tasks_tell ON compute_tasks;
DROP TRIGGER compute_batches_tell ON compute_batches;
DROP FUNCTION compute_tell;
DROP FUNCTION compute_tell_of_batch;
DROP FUNCTION compute_history(compute_tasks, text);
DROP TABLE compute_callbacks;
DROP TABLE compute_batches;
DROP TABLE compute_checks;
DROP TABLE compute_worker_tokens;
DROP TABLE compute_claims;
DROP TABLE compute_maintenance;
DROP INDEX ix_compute_tasks_holder, ix_compute_tasks_batch_status, ix_compute_tasks_ended,
    ix_compute_tasks_referee;
CREATE INDEX ix_compute_tasks_claim ON compute_tasks (claim_id) WHERE status = 'processing';
ALTER TABLE compute_tasks
    DROP COLUMN generation, DROP COLUMN revision, DROP COLUMN tokens, DROP COLUMN missed,
    DROP COLUMN callback_url, DROP COLUMN position, DROP COLUMN history, DROP COLUMN referee
"""
