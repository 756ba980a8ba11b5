-- What several statements say alike: {name} in one of them stands for the part of that name. A task is `t` in all of
-- them, a batch `b`.

-- part: ready
-- Which tasks may be claimed: the very condition of ix_compute_tasks_ready.
t.status = 'pending' AND t.available_at IS NULL AND NOT t.suspect AND t.model IS NOT NULL

-- part: seen
-- Which tasks a caller may read and change: those of the clients that it sees. Referees are no client's.
t.lane = ANY (CAST(:clients AS text[])) AND NOT t.referee

-- part: seen_batch
-- Which batches a caller may read and change.
b.client = ANY (CAST(:clients AS text[]))

-- part: of_seen_batch
-- The same for the tasks of the one batch :batch_id; it is asked once a statement.
EXISTS (SELECT FROM compute_batches b WHERE b.id = :batch_id AND {seen_batch})

-- part: columns
-- What makes a Task. They are named, since a prepared `t.*` is refused once a migration adds a column.
t.id, t.task_type, t.priority, t.status, t.payload, t.result, t.error, t.worker_id, t.created_at, t.updated_at,
t.started_at, t.completed_at, t.attempt, t.failures, t.max_attempts, t.available_at, t.lease_expires_at, t.batch_id,
t.model, t.space, t.metadata, t.progress

-- part: given_client
-- What is set in a row that was inserted by SQL without a lane. One with an idempotency key, which may stand for a
-- task of that client already, stays as it is.
lane = CASE WHEN lane = '' AND idempotency_key IS NULL THEN :client ELSE lane END

-- part: let_go
-- What is set in a task that nobody holds any more.
lease_expires_at = NULL,
claim_id = NULL,
progress = NULL

-- part: cancelled
-- What is set in a task that its caller ends, by itself or with its batch.
status = 'cancelled',
history = CASE WHEN t.status = 'processing' THEN compute_history(t, 'cancelled') ELSE t.history END,
completed_at = now(),
updated_at = now(),
available_at = NULL,
{let_go},
suspect = false

-- part: begun_again
-- What is set in a task that begins a new generation, by itself or with its batch.
status = 'pending',
generation = t.generation + 1,
failures = 0,
error = NULL,
completed_at = NULL,
updated_at = now()

-- part: batch_now
-- A batch as it is now. Counts are read from ix_compute_tasks_batch_status alone, once the batch has ended from the
-- batch itself; so is the number of tasks that ended in the last :window_seconds, from which the rate is made.
SELECT b.*,
       CASE WHEN b.finished_at IS NOT NULL THEN b.counts ELSE ({counts}) END AS by_status,
       CASE WHEN b.finished_at IS NULL THEN (
            SELECT count(*)
            FROM compute_tasks t
            WHERE t.batch_id = b.id
              AND t.status IN ('completed', 'failed')
              AND t.completed_at > now() - make_interval(secs => :window_seconds)
       ) END AS recently,
       LEAST(:window_seconds, GREATEST(1, extract(epoch FROM now() - b.created_at)))::float8 AS seconds,
       now() AS now
FROM compute_batches b

-- part: counts
-- How many tasks of a batch have which status (ix_compute_tasks_batch_status alone).
SELECT jsonb_object_agg(status, n)
FROM (
    SELECT t.status, count(*) AS n FROM compute_tasks t WHERE t.batch_id = b.id GROUP BY t.status
) AS counted

-- part: since
-- Since when a pending task waits, as operators count it: a retry by hand begins anew, an attempt that ended does not.
CASE WHEN t.generation > 1 THEN t.updated_at ELSE t.created_at END
