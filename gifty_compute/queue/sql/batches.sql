-- Batches: many tasks that came together. Nothing here is written when a task ends, so that completions do not wait
-- for each other; the end of a batch is found by maintain.

-- name: submit_batch
-- A new batch, before its rows; none comes back when this client has used the idempotency key before.
INSERT INTO compute_batches AS b (
    id, client, idempotency_key, request_hash, request_id, total, callback_url, finish_by, max_cost
)
VALUES (
    :id, :client, :idempotency_key, :request_hash, :request_id, :total, :callback_url, :finish_by, :max_cost
)
ON CONFLICT (client, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING b.*

-- name: copy_patience
-- Lets this one transaction write a large batch for longer than other statements may run.
SET LOCAL statement_timeout = '10min'

-- name: copy_tasks
-- The rows of a batch, in the order in which `seq` will number them.
COPY compute_tasks (
    batch_id, lane, request_id, position, task_type, priority, payload, model, space, tokens, max_attempts,
    metadata, callback_url
)
FROM STDIN WITH (FORMAT csv)

-- name: find_batch
-- The batch that an idempotency key stands for (uq_compute_batches_idempotency).
SELECT *
FROM compute_batches
WHERE client = :client
  AND idempotency_key = :idempotency_key

-- name: get_batch
-- A batch that a caller sees, as it is now.
{batch_now}
WHERE b.id = :id
  AND {seen_batch}

-- name: stored_batch
-- A batch as it is now, of any client.
{batch_now}
WHERE b.id = :id

-- name: ask_cancel
-- Says that a batch shall end. What is left of it is cancelled in chunks (cancel_some), here or by maintain.
UPDATE compute_batches AS b
SET cancel_requested_at = COALESCE(b.cancel_requested_at, now()),
    retry_requested_at = NULL
WHERE b.id = :id
  AND {seen_batch}
  AND b.finished_at IS NULL
RETURNING b.id

-- name: cancel_some
-- Ends tasks of a batch that shall end. The batch is locked for reading, so that nobody takes the word back meanwhile;
-- a task that somebody holds at this moment is passed over and met by the next chunk.
WITH chunk AS MATERIALIZED (
    SELECT t.id
    FROM compute_batches b
    JOIN compute_tasks t ON t.batch_id = b.id
    WHERE b.id = :id
      AND b.cancel_requested_at IS NOT NULL
      AND b.finished_at IS NULL
      AND t.status IN ('pending', 'processing')
    LIMIT :limit
    FOR UPDATE OF t SKIP LOCKED
    FOR SHARE OF b
)
UPDATE compute_tasks AS t
SET {cancelled}
FROM chunk
WHERE t.id = chunk.id
  AND t.status IN ('pending', 'processing')
RETURNING t.id

-- name: ask_retry
-- Begins a new generation of a batch in which tasks failed or were cancelled; it is open again, and they are made
-- pending in chunks (retry_some), here or by maintain. The time is taken after any wait for the row: all that was
-- cancelled until then is meant.
UPDATE compute_batches AS b
SET retry_requested_at = clock_timestamp(),
    cancel_requested_at = NULL,
    finished_at = NULL,
    generation = b.generation + 1
WHERE b.id = :id
  AND {seen_batch}
  AND EXISTS (
    SELECT FROM compute_tasks t WHERE t.batch_id = b.id AND t.status IN ('failed', 'cancelled')
  )
RETURNING b.id

-- name: retry_some
-- Begins a new generation of tasks that had failed or been cancelled when the retry was asked for. What fails again
-- afterwards is not meant, or a batch that always fails would be retried for ever.
WITH chunk AS MATERIALIZED (
    SELECT t.id
    FROM compute_batches b
    JOIN compute_tasks t ON t.batch_id = b.id
    WHERE b.id = :id
      AND t.status IN ('failed', 'cancelled')
      AND t.completed_at < b.retry_requested_at
    LIMIT :limit
    FOR UPDATE OF t SKIP LOCKED
    FOR SHARE OF b
)
UPDATE compute_tasks AS t
SET {begun_again}
FROM chunk
WHERE t.id = chunk.id
  AND t.status IN ('failed', 'cancelled')
RETURNING t.task_type, t.model

-- name: retried
-- Takes the word back once nothing is left to retry; only then can the end of the batch be found.
UPDATE compute_batches AS b
SET retry_requested_at = NULL
WHERE b.id = :id
  AND b.retry_requested_at IS NOT NULL
  AND NOT EXISTS (
    SELECT FROM compute_tasks t
    WHERE t.batch_id = b.id
      AND t.status IN ('failed', 'cancelled')
      AND t.completed_at < b.retry_requested_at
  )
RETURNING b.id

-- name: batches_asked
-- Batches whose cancel or retry may not be done yet, oldest first (ix_compute_batches_open).
SELECT b.id, b.retry_requested_at IS NOT NULL AS retry
FROM compute_batches b
WHERE b.finished_at IS NULL
  AND (b.cancel_requested_at IS NOT NULL OR b.retry_requested_at IS NOT NULL)
ORDER BY b.created_at
LIMIT :limit

-- name: finish_batches
-- Ends batches of which no task is left to do, with their final counts (ix_compute_batches_open, then one probe of
-- ix_compute_tasks_batch_status each). A retry at the same moment has changed the generation: then it is not the end.
WITH done AS MATERIALIZED (
    SELECT b.id, b.generation
    FROM compute_batches b
    WHERE b.finished_at IS NULL
      AND b.retry_requested_at IS NULL
      AND NOT EXISTS (
        SELECT FROM compute_tasks t WHERE t.batch_id = b.id AND t.status IN ('pending', 'processing')
      )
    ORDER BY b.created_at
    LIMIT :limit
)
UPDATE compute_batches AS b
SET finished_at = now(),
    counts = ({counts})
FROM done
WHERE b.id = done.id
  AND b.finished_at IS NULL
  AND b.generation = done.generation
RETURNING b.id

-- name: results
-- A page of a batch in the order of its submit (ix_compute_tasks_batch). It ends early, but never empty, where the
-- results in it pass :most_bytes.
WITH page AS (
    SELECT t.seq, t.position, t.id, t.task_type, t.status, t.model, t.space, t.result, t.error, t.metadata,
           v.dtype, v.rows, v.dim, v.data,
           sum(size.bytes) OVER (ORDER BY t.seq) - size.bytes AS bytes_before
    FROM compute_tasks t
    LEFT JOIN compute_task_vectors v ON v.task_id = t.id
    CROSS JOIN LATERAL (
        SELECT COALESCE(v.rows::bigint * v.dim * 4, 0) + COALESCE(pg_column_size(t.result), 0) AS bytes
    ) AS size
    WHERE t.batch_id = :batch_id
      AND {of_seen_batch}
      AND t.seq > :after
    ORDER BY t.seq
    LIMIT :limit
)
SELECT *
FROM page
WHERE bytes_before < :most_bytes
ORDER BY seq

-- name: seq_of_position
-- Where the results of a batch go on from a position (ix_compute_tasks_batch, and the rows before it).
SELECT t.seq
FROM compute_tasks t
WHERE t.batch_id = :batch_id
  AND {of_seen_batch}
  AND t.position >= :position
ORDER BY t.seq
LIMIT 1

-- name: vectors_of_batch
-- Whether the vectors of a batch are one matrix, and its shape.
SELECT count(*) AS tasks,
       count(*) FILTER (WHERE t.status <> 'completed') AS unfinished,
       count(*) FILTER (WHERE t.status = 'completed' AND v.task_id IS NULL) AS without,
       sum(v.rows)::bigint AS rows,
       array_agg(DISTINCT v.dim) AS dims,
       array_agg(DISTINCT t.space) AS spaces
FROM compute_tasks t
LEFT JOIN compute_task_vectors v ON v.task_id = t.id
WHERE t.batch_id = :batch_id
  AND {of_seen_batch}
