-- A task as its callers see it, from submit to retry. Each change of state is one statement that carries its own
-- condition. Times are the database's.

-- name: submit
-- A new task; none comes back when this client has used the idempotency key before.
INSERT INTO compute_tasks AS t (
    task_type, priority, payload, model, space, tokens, lane, max_attempts, metadata, callback_url,
    request_id, idempotency_key, request_hash
)
VALUES (
    :task_type, :priority, CAST(:payload AS jsonb), :model, :space, :tokens, :lane, :max_attempts,
    CAST(:metadata AS jsonb), :callback_url, :request_id, :idempotency_key, :request_hash
)
ON CONFLICT (lane, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING {columns}

-- name: find_submitted
-- The task that an idempotency key stands for (uq_compute_tasks_idempotency).
SELECT t.*, v.dtype, v.rows, v.dim, v.data
FROM compute_tasks t
LEFT JOIN compute_task_vectors v ON v.task_id = t.id
WHERE t.lane = :lane
  AND t.idempotency_key = :idempotency_key

-- name: get
-- One task that a caller sees, with its vectors (the primary key).
SELECT t.*, v.dtype, v.rows, v.dim, v.data
FROM compute_tasks t
LEFT JOIN compute_task_vectors v ON v.task_id = t.id
WHERE t.id = :id
  AND {seen}

-- name: stored
-- One task with its vectors, of any client (the primary key).
SELECT t.*, v.dtype, v.rows, v.dim, v.data
FROM compute_tasks t
LEFT JOIN compute_task_vectors v ON v.task_id = t.id
WHERE t.id = :id

-- name: find
-- Some tasks as they are now, without their vectors (the primary key).
SELECT {columns}
FROM compute_tasks t
WHERE t.id = ANY (CAST(:ids AS uuid[]))

-- name: list
-- A page of the tasks that a caller sees, newest first: the newest of each client (ix_compute_tasks_lane, or
-- ix_compute_tasks_lane_failed or _cancelled), and of these the newest. It reads no row of another client. It ends
-- early, but never empty, where the vectors in it pass :most_numbers. The collation is that of the indexes, which no
-- other statement shall use.
WITH page AS (
    SELECT t.*, v.dtype, v.rows, v.dim, v.data,
           sum(v.rows * v.dim) OVER (ORDER BY t.seq DESC) - COALESCE(v.rows * v.dim, 0) AS numbers_before
    FROM (
        SELECT newest.id
        FROM unnest(CAST(:clients AS text[])) AS c (client)
        CROSS JOIN LATERAL (
            SELECT t.id, t.seq
            FROM compute_tasks t
            WHERE t.lane COLLATE "C" = c.client
              AND (CAST(:status AS text) IS NULL OR t.status = :status)
              AND (CAST(:task_type AS text) IS NULL OR t.task_type = :task_type)
              AND (CAST(:before AS bigint) IS NULL OR t.seq < :before)
              AND NOT t.referee
            ORDER BY t.seq DESC
            LIMIT :limit
        ) AS newest
        ORDER BY newest.seq DESC
        LIMIT :limit
    ) AS chosen
    JOIN compute_tasks t ON t.id = chosen.id
    LEFT JOIN compute_task_vectors v ON v.task_id = t.id
)
SELECT *
FROM page
WHERE COALESCE(numbers_before, 0) < :most_numbers
ORDER BY seq DESC

-- name: list_batch
-- The same for the tasks of one batch that a caller sees (ix_compute_tasks_batch).
WITH page AS (
    SELECT t.*, v.dtype, v.rows, v.dim, v.data,
           sum(v.rows * v.dim) OVER (ORDER BY t.seq DESC) - COALESCE(v.rows * v.dim, 0) AS numbers_before
    FROM compute_tasks t
    LEFT JOIN compute_task_vectors v ON v.task_id = t.id
    WHERE t.batch_id = :batch_id
      AND {of_seen_batch}
      AND (CAST(:status AS text) IS NULL OR t.status = :status)
      AND (CAST(:task_type AS text) IS NULL OR t.task_type = :task_type)
      AND (CAST(:before AS bigint) IS NULL OR t.seq < :before)
      AND NOT t.referee
    ORDER BY t.seq DESC
    LIMIT :limit
)
SELECT *
FROM page
WHERE COALESCE(numbers_before, 0) < :most_numbers
ORDER BY seq DESC

-- name: ended
-- Which of these tasks and batches have ended; asked by the one poller that serves all waiting callers of a process.
SELECT id
FROM compute_tasks
WHERE id = ANY (CAST(:ids AS uuid[]))
  AND status IN ('completed', 'failed', 'cancelled')
UNION ALL
SELECT id
FROM compute_batches
WHERE id = ANY (CAST(:ids AS uuid[]))
  AND finished_at IS NOT NULL

-- name: depth
-- How many ready tasks of a client are waiting, up to a bound. It skips from queue to queue through
-- ix_compute_tasks_ready, and reads that index alone.
WITH RECURSIVE queues AS (
    (SELECT t.task_type, t.model, t.rank
     FROM compute_tasks t
     WHERE {ready}
     ORDER BY t.task_type, t.model, t.rank
     LIMIT 1)
    UNION ALL
    SELECT next.task_type, next.model, next.rank
    FROM queues q
    CROSS JOIN LATERAL (
        SELECT t.task_type, t.model, t.rank
        FROM compute_tasks t
        WHERE {ready}
          AND (t.task_type, t.model, t.rank) > (q.task_type, q.model, q.rank)
        ORDER BY t.task_type, t.model, t.rank
        LIMIT 1
    ) AS next
)
SELECT count(*) AS waiting
FROM (
    SELECT
    FROM queues q
    CROSS JOIN LATERAL (
        SELECT
        FROM compute_tasks t
        WHERE {ready}
          AND t.task_type = q.task_type AND t.model = q.model AND t.rank = q.rank AND t.lane = :lane
        LIMIT :enough
    ) AS found
    LIMIT :enough
) AS counted

-- name: cancel
-- Ends a task that has not ended. Whoever works on it learns it from the next heartbeat.
UPDATE compute_tasks AS t
SET {cancelled}
WHERE t.id = :id
  AND {seen}
  AND t.status IN ('pending', 'processing')
RETURNING t.*

-- name: retry
-- Begins a new generation of a task that failed or was cancelled, and of its batch, which is open again. Not while
-- the batch is being cancelled. The batch is written in any case: who finds its end at this moment must notice.
WITH again AS (
    UPDATE compute_tasks AS t
    SET {begun_again}
    WHERE t.id = :id
      AND {seen}
      AND t.status IN ('failed', 'cancelled')
      AND NOT EXISTS (
        SELECT FROM compute_batches b
        WHERE b.id = t.batch_id
          AND b.cancel_requested_at IS NOT NULL
          AND b.finished_at IS NULL
      )
    RETURNING t.*
),
reopened AS (
    UPDATE compute_batches AS b
    SET finished_at = NULL,
        cancel_requested_at = NULL,
        generation = b.generation + 1
    FROM again
    WHERE b.id = again.batch_id
)
SELECT * FROM again
