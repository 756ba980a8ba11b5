-- Batches that must be done by a time and may cost money: where they stand, and what is set aside for them.

-- name: due_batches
-- Open batches with finish_by and max_cost, by kind and model of what is left (ix_compute_batches_open,
-- ix_compute_tasks_batch_status). The rate is that of workers alone.
SELECT b.id, b.client, b.created_at, b.finish_by, b.max_cost, b.cost_usd + b.reserved_usd AS cost_usd, now() AS now,
       w.task_type, w.model, w.n AS left, w.in_paid_hands, w.tokens,
       (
            SELECT count(*)
            FROM compute_tasks t
            WHERE t.batch_id = b.id
              AND t.status = 'completed'
              AND t.task_type = w.task_type AND t.model = w.model
              AND t.credential IS DISTINCT FROM :paid_hands
              AND t.completed_at > now() - make_interval(secs => :window_seconds)
       ) / LEAST(:window_seconds, GREATEST(1, extract(epoch FROM now() - b.created_at)))::float8 AS rate
FROM compute_batches b
CROSS JOIN LATERAL (
    SELECT t.task_type, t.model, count(*) AS n, avg(t.tokens)::float8 AS tokens,
           count(*) FILTER (WHERE t.status = 'processing' AND t.credential = :paid_hands) AS in_paid_hands
    FROM compute_tasks t
    WHERE t.batch_id = b.id
      AND t.status IN ('pending', 'processing')
    GROUP BY t.task_type, t.model
) AS w
WHERE b.finished_at IS NULL
  AND b.cancel_requested_at IS NULL
  AND b.finish_by IS NOT NULL
  AND b.max_cost IS NOT NULL
ORDER BY b.finish_by
LIMIT :limit

-- name: plan_batch
-- Shows callers how the batch will be done.
UPDATE compute_batches
SET plan = CAST(:plan AS jsonb)
WHERE id = :id
RETURNING id

-- name: some_of_batch
-- Tasks of a batch that a provider could take now (ix_compute_tasks_batch_status).
SELECT id, payload
FROM compute_tasks
WHERE batch_id = :id
  AND status = 'pending'
  AND available_at IS NULL
  AND NOT suspect
  AND task_type = :task_type
  AND model = :model
LIMIT :limit

-- name: set_aside
-- Sets money aside before a provider is asked. None comes back when the batch may not cost that much.
UPDATE compute_batches
SET reserved_usd = reserved_usd + CAST(:usd AS numeric)
WHERE id = :id
  AND finished_at IS NULL
  AND cost_usd + reserved_usd + CAST(:usd AS numeric) <= max_cost
RETURNING id

-- name: settle
-- What was set aside becomes what it cost. Nobody who dies before this gives it back: it may have been spent.
UPDATE compute_batches
SET reserved_usd = GREATEST(0, reserved_usd - CAST(:aside AS numeric)),
    cost_usd = cost_usd + CAST(:usd AS numeric)
WHERE id = :id
RETURNING id
