"""The task table: created, or adopted in place where Gifty's backend has made one already.

Revision ID: 0001
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import text

from gifty_compute.errors import InvalidConfig

revision = "0001"
down_revision = None

# The contract's twelve columns: name, type, default.
_COLUMNS = {
    "id": ("uuid", "gen_random_uuid()"),
    "task_type": ("text", None),
    "priority": ("text", "'low'"),
    "status": ("text", "'pending'"),
    "payload": ("jsonb", None),
    "result": ("jsonb", None),
    "error": ("text", None),
    "worker_id": ("text", None),
    "created_at": ("timestamptz", "now()"),
    "updated_at": ("timestamptz", "now()"),
    "started_at": ("timestamptz", None),
    "completed_at": ("timestamptz", None),
}
_STATUSES = ("pending", "processing", "completed", "failed", "cancelled")


def upgrade() -> None:
    if _scalar("SELECT to_regclass('compute_tasks')") is None:
        _create()
    else:
        _adopt()
    _extend()


def downgrade() -> None:
    _run_all(_DROP)
    if _scalar("SELECT to_regclass('gifty_compute_adopted')") is None:
        _run("DROP TABLE compute_tasks")
        return
    for definition in _rows("SELECT definition FROM gifty_compute_adopted"):
        _run(definition["definition"])
    _run("DROP TABLE gifty_compute_adopted")


def _run(sql: str, **parameters: Any) -> None:
    op.get_bind().execute(text(sql), parameters)


def _run_all(script: str) -> None:
    for statement in script.split(";\n"):
        _run(statement)


def _scalar(sql: str) -> Any:
    return op.get_bind().execute(text(sql)).scalar()


def _rows(sql: str) -> list[dict[str, Any]]:
    return [dict(row) for row in op.get_bind().execute(text(sql)).mappings()]


def _create() -> None:
    optional = {"result", "error", "worker_id", "started_at", "completed_at"}
    columns = ",\n".join(
        f"{name} {kind}{'' if name in optional else ' NOT NULL'}{f' DEFAULT {default}' if default else ''}"
        for name, (kind, default) in _COLUMNS.items()
    )
    _run(f"CREATE TABLE compute_tasks ({columns}, PRIMARY KEY (id))")


def _adopt() -> None:
    """Widens the columns where that is safe for code that writes to them, and never drops a row.

    Timestamps keep their type: a client may insist on it, and our connections speak UTC in either.
    """
    found = {row["column_name"]: row for row in _rows(_FOUND_COLUMNS)}
    missing = [name for name in _COLUMNS if name not in found]
    if missing:
        raise InvalidConfig(f"compute_tasks exists, but lacks {', '.join(missing)}; it is not Gifty's table")
    if found["id"]["data_type"] != "uuid":
        message = f"compute_tasks.id is {found['id']['data_type']}, not uuid: ids of the contract are UUIDs"
        raise InvalidConfig(message)
    _run("CREATE TABLE gifty_compute_adopted (definition text NOT NULL)")
    for index in _rows(_FOUND_INDEXES):
        _run("INSERT INTO gifty_compute_adopted VALUES (:definition)", definition=index["definition"])
        _run(f"DROP INDEX {index['name']}")
    for name, (kind, default) in _COLUMNS.items():
        if kind in ("text", "jsonb") and found[name]["data_type"] != kind:
            _run(f"ALTER TABLE compute_tasks ALTER COLUMN {name} DROP DEFAULT")
            _run(f"ALTER TABLE compute_tasks ALTER COLUMN {name} TYPE {kind} USING {name}::text::{kind}")
        if default:
            _run(f"ALTER TABLE compute_tasks ALTER COLUMN {name} SET DEFAULT {default}")
    strangers = _rows(
        f"SELECT DISTINCT status FROM compute_tasks WHERE status NOT IN {_STATUSES} LIMIT 3"  # noqa: S608  # constants
    )
    if strangers:
        names = ", ".join(repr(row["status"]) for row in strangers)
        raise InvalidConfig(f"compute_tasks.status holds {names}; known are {', '.join(_STATUSES)}")


def _extend() -> None:
    _run_all(_ADD)
    _run(_JSON_OF_VECTORS)
    _run(_VIEW)


_FOUND_COLUMNS = """
SELECT column_name, udt_name AS data_type
FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = 'compute_tasks'
"""

# Indexes that begin with status, priority or task_type: each status change would have to write them.
_FOUND_INDEXES = """
SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition
FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = 'compute_tasks'::regclass
  AND NOT i.indisunique
  AND a.attname IN ('status', 'priority', 'task_type')
"""

# Every added column has a default, so that a row inserted with Gifty's columns alone is a whole task.
_ADD = """
ALTER TABLE compute_tasks
    ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY,
    ADD COLUMN rank smallint GENERATED ALWAYS AS (CASE priority WHEN 'high' THEN 0 ELSE 1 END) STORED,
    ADD COLUMN lane text NOT NULL DEFAULT '',
    ADD COLUMN model text,
    ADD COLUMN space text,
    ADD COLUMN attempt int NOT NULL DEFAULT 0,
    ADD COLUMN failures int NOT NULL DEFAULT 0,
    ADD COLUMN max_attempts int NOT NULL DEFAULT 5 CHECK (max_attempts BETWEEN 1 AND 20),
    ADD COLUMN available_at timestamptz,
    ADD COLUMN suspect boolean NOT NULL DEFAULT false,
    ADD COLUMN in_company boolean NOT NULL DEFAULT false,
    ADD COLUMN credential text,
    ADD COLUMN session text,
    ADD COLUMN claim_id uuid,
    ADD COLUMN bare boolean NOT NULL DEFAULT false,
    ADD COLUMN lease_seconds double precision NOT NULL DEFAULT 1800,
    ADD COLUMN lease_expires_at timestamptz,
    ADD COLUMN batch_id uuid,
    ADD COLUMN metadata jsonb,
    ADD COLUMN progress real,
    ADD COLUMN request_id text,
    ADD COLUMN idempotency_key text,
    ADD COLUMN request_hash bytea;
ALTER TABLE compute_tasks
    ADD CONSTRAINT ck_compute_tasks_status
    CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled'));
UPDATE compute_tasks
SET attempt = 1, bare = true, lease_expires_at = now() + make_interval(secs => lease_seconds)
WHERE status = 'processing';
CREATE INDEX ix_compute_tasks_ready ON compute_tasks (task_type, model, rank, lane, seq)
    WHERE status = 'pending' AND available_at IS NULL AND NOT suspect AND model IS NOT NULL;
CREATE INDEX ix_compute_tasks_suspect ON compute_tasks (task_type, model, rank, seq)
    WHERE status = 'pending' AND available_at IS NULL AND suspect;
CREATE INDEX ix_compute_tasks_lease ON compute_tasks (lease_expires_at) WHERE status = 'processing';
CREATE INDEX ix_compute_tasks_claim ON compute_tasks (claim_id) WHERE status = 'processing';
CREATE INDEX ix_compute_tasks_delayed ON compute_tasks (available_at)
    WHERE status = 'pending' AND available_at IS NOT NULL;
CREATE INDEX ix_compute_tasks_unplaced ON compute_tasks (seq) WHERE status = 'pending' AND model IS NULL;
CREATE UNIQUE INDEX ix_compute_tasks_seq ON compute_tasks (seq);
CREATE INDEX ix_compute_tasks_failed ON compute_tasks (seq) WHERE status = 'failed';
CREATE INDEX ix_compute_tasks_cancelled ON compute_tasks (seq) WHERE status = 'cancelled';
CREATE INDEX ix_compute_tasks_batch ON compute_tasks (batch_id, seq) WHERE batch_id IS NOT NULL;
CREATE UNIQUE INDEX uq_compute_tasks_idempotency ON compute_tasks (lane, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
ALTER TABLE compute_tasks SET (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02
);
CREATE TABLE compute_task_vectors (
    task_id uuid PRIMARY KEY REFERENCES compute_tasks (id) ON DELETE CASCADE,
    dtype text NOT NULL CHECK (dtype IN ('float32', 'float16')),
    rows int NOT NULL,
    dim int NOT NULL,
    data bytea NOT NULL,
    CHECK (length(data) = rows * dim * CASE dtype WHEN 'float32' THEN 4 ELSE 2 END)
);
ALTER TABLE compute_task_vectors ALTER COLUMN data SET STORAGE EXTERNAL
"""

# IEEE 754 by hand: PostgreSQL has no cast from bytea to real. About 1 ms a vector of 384; for readers of the
# view who want numbers, everybody else reads the bytes.
_JSON_OF_VECTORS = """
CREATE FUNCTION compute_vectors_json(data bytea, dtype text, n int, dim int) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT COALESCE(jsonb_agg(vector ORDER BY r), '[]'::jsonb)
    FROM (
        SELECT r, jsonb_agg(
            CASE
                WHEN dtype = 'float32' THEN to_jsonb((
                    CASE WHEN bits >> 31 = 1 THEN -1 ELSE 1 END
                    * CASE WHEN (bits >> 23) & 255 = 0 THEN (bits & 8388607) * 2.0::float8 ^ -149
                           ELSE (1 + (bits & 8388607) / 8388608.0::float8)
                                * 2.0::float8 ^ (((bits >> 23) & 255) - 127) END)::real)
                ELSE to_jsonb((
                    CASE WHEN bits >> 15 = 1 THEN -1 ELSE 1 END
                    * CASE WHEN (bits >> 10) & 31 = 0 THEN (bits & 1023) * 2.0::float8 ^ -24
                           ELSE (1 + (bits & 1023) / 1024.0::float8)
                                * 2.0::float8 ^ (((bits >> 10) & 31) - 15) END)::real)
            END ORDER BY c) AS vector
        FROM generate_series(0, n - 1) AS r
        CROSS JOIN generate_series(0, dim - 1) AS c
        CROSS JOIN LATERAL (
            SELECT CASE dtype
                WHEN 'float32' THEN get_byte(data, (r * dim + c) * 4)::bigint
                    + (get_byte(data, (r * dim + c) * 4 + 1)::bigint << 8)
                    + (get_byte(data, (r * dim + c) * 4 + 2)::bigint << 16)
                    + (get_byte(data, (r * dim + c) * 4 + 3)::bigint << 24)
                ELSE get_byte(data, (r * dim + c) * 2)::bigint
                    + (get_byte(data, (r * dim + c) * 2 + 1)::bigint << 8)
            END AS bits
        ) AS word
        GROUP BY r
    ) AS lines
$$
"""

_VIEW = """
CREATE VIEW compute_task_results AS
SELECT t.id, t.task_type, t.priority, t.status, t.model, t.space, t.batch_id, t.metadata, t.error,
       t.worker_id, t.created_at, t.completed_at,
       CASE WHEN v.task_id IS NULL THEN t.result
            ELSE t.result || jsonb_build_object(
                'embeddings', compute_vectors_json(v.data, v.dtype, v.rows, v.dim)) END AS result,
       v.dtype, v.rows, v.dim, v.data AS vectors
FROM compute_tasks t
LEFT JOIN compute_task_vectors v ON v.task_id = t.id
"""

_DROP = """
DROP VIEW compute_task_results;
UPDATE compute_tasks t
SET result = t.result
    || jsonb_build_object('embeddings', compute_vectors_json(v.data, v.dtype, v.rows, v.dim))
FROM compute_task_vectors v
WHERE v.task_id = t.id;
DROP FUNCTION compute_vectors_json;
DROP TABLE compute_task_vectors;
DROP INDEX ix_compute_tasks_ready, ix_compute_tasks_suspect, ix_compute_tasks_lease, ix_compute_tasks_claim,
    ix_compute_tasks_delayed, ix_compute_tasks_unplaced, ix_compute_tasks_seq, ix_compute_tasks_batch,
    ix_compute_tasks_failed, ix_compute_tasks_cancelled,
    uq_compute_tasks_idempotency;
ALTER TABLE compute_tasks
    DROP CONSTRAINT ck_compute_tasks_status,
    DROP COLUMN seq, DROP COLUMN rank, DROP COLUMN lane, DROP COLUMN model, DROP COLUMN space,
    DROP COLUMN attempt, DROP COLUMN failures, DROP COLUMN max_attempts, DROP COLUMN available_at,
    DROP COLUMN suspect, DROP COLUMN in_company, DROP COLUMN credential, DROP COLUMN session,
    DROP COLUMN claim_id, DROP COLUMN bare, DROP COLUMN lease_seconds, DROP COLUMN lease_expires_at,
    DROP COLUMN batch_id, DROP COLUMN metadata, DROP COLUMN progress, DROP COLUMN request_id,
    DROP COLUMN idempotency_key, DROP COLUMN request_hash
"""
