-- Who is told of ends: compute_callbacks, written by triggers in the transaction that ends a task or a batch.
-- A row is due until it is delivered or dead; `due_at` is both the time of the next try and, during a try, the
-- end of its lease.

-- name: lease_callbacks
-- Takes what is due: of each receiver that is not :busy the one that has waited longest, of :limit receivers,
-- beginning with random ones. Until the lease ends nobody else takes it; a sender that dies leaves it due then.
-- The recursive part steps from receiver to receiver through ix_compute_callbacks_due, so one with a million
-- rows costs no more than one with ten.
WITH RECURSIVE receivers AS (
    (
        SELECT c.receiver
        FROM compute_callbacks c
        WHERE c.due_at IS NOT NULL
        ORDER BY c.receiver
        LIMIT 1
    )
    UNION ALL
    SELECT next.receiver
    FROM receivers r
    CROSS JOIN LATERAL (
        SELECT c.receiver
        FROM compute_callbacks c
        WHERE c.due_at IS NOT NULL AND c.receiver > r.receiver
        ORDER BY c.receiver
        LIMIT 1
    ) AS next
),
turns AS MATERIALIZED (
    SELECT receiver
    FROM receivers
    WHERE NOT receiver = ANY (CAST(:busy AS text[]))
    ORDER BY md5(receiver || :dice)
),
due AS MATERIALIZED (
    SELECT waiting.id
    FROM turns
    CROSS JOIN LATERAL (
        SELECT c.id
        FROM compute_callbacks c
        WHERE c.due_at IS NOT NULL AND c.receiver = turns.receiver AND c.due_at <= now()
        ORDER BY c.due_at
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS waiting
    LIMIT :limit
)
UPDATE compute_callbacks AS c
SET due_at = now() + make_interval(secs => :lease_seconds),
    tries = c.tries + 1
FROM due
WHERE c.id = due.id
  AND c.due_at <= now()
RETURNING c.*

-- name: callback_task
-- The task of a callback (the primary key). Of vectors that are over :most_numbers it only says that they are
-- there: no callback is that long.
SELECT t.*, v.dtype, v.rows, v.dim, v.data, b.task_id IS NOT NULL AS has_more
FROM compute_tasks t
LEFT JOIN compute_task_vectors v ON v.task_id = t.id AND CAST(v.rows AS bigint) * v.dim <= :most_numbers
LEFT JOIN compute_task_vectors b ON b.task_id = t.id AND CAST(b.rows AS bigint) * b.dim > :most_numbers
WHERE t.id = :id

-- name: delivered
-- The receiver has it.
UPDATE compute_callbacks
SET delivered_at = now(),
    due_at = NULL,
    dead_at = NULL,
    error = NULL
WHERE id = :id
  AND delivered_at IS NULL
RETURNING id

-- name: undelivered
-- A try failed: due again after the delay, or dead when its time is over. Only the holder of the lease says so.
UPDATE compute_callbacks
SET due_at = CASE
        WHEN begun_at + make_interval(secs => :give_up_seconds) > now() + make_interval(secs => :delay)
        THEN now() + make_interval(secs => :delay)
    END,
    dead_at = CASE
        WHEN begun_at + make_interval(secs => :give_up_seconds) <= now() + make_interval(secs => :delay)
        THEN now()
    END,
    error = :error
WHERE id = :id
  AND due_at = :leased_until
RETURNING dead_at IS NOT NULL AS dead

-- name: resend
-- Due at once, with all of its time before it, whatever became of it: by hand.
UPDATE compute_callbacks
SET due_at = now(),
    begun_at = now(),
    tries = 0,
    delivered_at = NULL,
    dead_at = NULL,
    error = NULL
WHERE id = :id
RETURNING *

-- name: resend_dead
-- The same for :limit dead ones, of one receiver or of all (ix_compute_callbacks_dead).
UPDATE compute_callbacks AS c
SET due_at = now(),
    begun_at = now(),
    tries = 0,
    dead_at = NULL,
    error = NULL
FROM (
    SELECT d.id
    FROM compute_callbacks d
    WHERE d.dead_at IS NOT NULL
      AND (CAST(:receiver AS text) IS NULL OR d.receiver = :receiver)
    ORDER BY d.dead_at
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
) AS dead
WHERE c.id = dead.id
RETURNING c.id

-- name: list_callbacks
-- A page, newest first: the dead, the due, or all of one task or batch (ix_compute_callbacks_dead, _due, _task,
-- _batch).
SELECT c.*
FROM compute_callbacks c
WHERE CASE :state
        WHEN 'dead' THEN c.dead_at IS NOT NULL
        WHEN 'due' THEN c.due_at IS NOT NULL
        ELSE true
      END
  AND (CAST(:task_id AS uuid) IS NULL OR c.task_id = CAST(:task_id AS uuid))
  AND (CAST(:batch_id AS uuid) IS NULL OR c.batch_id = CAST(:batch_id AS uuid))
  AND (
        CAST(:before AS text) IS NULL
        OR (c.created_at, c.id) < (SELECT b.created_at, b.id FROM compute_callbacks b WHERE b.id = :before)
      )
ORDER BY c.created_at DESC, c.id DESC
LIMIT :limit

-- name: count_callbacks
-- How many are dead and how many wait, counted no further than :enough (ix_compute_callbacks_dead,
-- ix_compute_callbacks_due).
SELECT
    (
        SELECT count(*)
        FROM (SELECT FROM compute_callbacks WHERE dead_at IS NOT NULL LIMIT :enough) AS dead
    ) AS dead,
    (
        SELECT count(*)
        FROM (SELECT FROM compute_callbacks WHERE due_at IS NOT NULL LIMIT :enough) AS due
    ) AS due
