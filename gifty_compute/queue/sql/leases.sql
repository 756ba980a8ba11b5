-- A task in the hands of its workers, from claim to end. Each change of state is one statement that carries its own
-- condition, and names the attempt. Times are the database's.

-- name: ready
-- How many tasks of each (task type, model) could be claimed, up to a bound; asked by the one poller that serves
-- all waiting workers of a process (ix_compute_tasks_ready, ix_compute_tasks_suspect).
SELECT w.task_type, w.model, count(*) AS ready
FROM unnest(CAST(:task_types AS text[]), CAST(:models AS text[])) AS w (task_type, model)
CROSS JOIN LATERAL (
    (SELECT 1
     FROM compute_tasks t
     WHERE {ready}
       AND t.task_type = w.task_type AND t.model = w.model
     LIMIT :enough)
    UNION ALL
    (SELECT 1
     FROM compute_tasks t
     WHERE t.status = 'pending' AND t.available_at IS NULL AND t.suspect
       AND t.task_type = w.task_type AND t.model = w.model
     LIMIT :enough)
) AS found
GROUP BY w.task_type, w.model

-- name: ready_scaled
-- The first :most score tasks that are ready, and of them those that state the scale of a notebook's scores
-- (ix_compute_tasks_ready).
SELECT first.id
FROM (
    SELECT t.id, t.payload
    FROM compute_tasks t
    WHERE {ready}
      AND t.task_type = 'score' AND t.model = :model
    ORDER BY t.task_type, t.model, t.rank, t.lane, t.seq
    LIMIT :most
) AS first
WHERE first.payload ? 'notebook_scale'
LIMIT :limit

-- name: claim
-- The next ready tasks of these (task type, model) pairs, or tasks named by their ids as far as they are ready.
-- High before low, then one client's lane after another beginning with a random one, then oldest first. A
-- suspect is handed out alone, before others of its priority. No more than :limit rows, than leave this worker
-- (all that share the token, if it is a worker's own) below :most_held leases, than about :max_tokens; one task in
-- any case. A claim_id counts once.
-- The recursive part skips from lane to lane through ix_compute_tasks_ready, so a client with a million rows
-- costs no more to pass than one with ten. The nested loop over `turns` must keep its order and stop at the
-- limit: no ORDER BY outside, or every candidate of every lane would be locked first. A lane is a range of the
-- index and not five equalities, which an index of seq would serve, too, past every row that has ended.
-- The rows are updated where they were locked, by ctid, which spares a second search; one that somebody changed
-- between the two is left to the next claim.
WITH RECURSIVE wanted AS (
    SELECT * FROM unnest(CAST(:task_types AS text[]), CAST(:models AS text[])) AS w (task_type, model)
),
lanes AS (
    SELECT w.task_type, w.model, r.rank, first.lane
    FROM wanted w
    CROSS JOIN (VALUES (0::smallint), (1::smallint)) AS r (rank)
    CROSS JOIN LATERAL (
        SELECT t.lane
        FROM compute_tasks t
        WHERE {ready}
          AND t.task_type = w.task_type AND t.model = w.model AND t.rank = r.rank
        ORDER BY t.lane
        LIMIT 1
    ) AS first
    UNION ALL
    SELECT l.task_type, l.model, l.rank, next.lane
    FROM lanes l
    CROSS JOIN LATERAL (
        SELECT t.lane
        FROM compute_tasks t
        WHERE {ready}
          AND t.task_type = l.task_type AND t.model = l.model AND t.rank = l.rank AND t.lane > l.lane
        ORDER BY t.lane
        LIMIT 1
    ) AS next
),
turns AS MATERIALIZED (
    SELECT * FROM lanes ORDER BY rank, md5(lane || :dice), task_type, model
),
suspect AS MATERIALIZED (
    SELECT t.ctid AS place, t.tokens
    FROM compute_tasks t
    JOIN wanted w ON t.task_type = w.task_type AND t.model = w.model
    WHERE t.status = 'pending' AND t.available_at IS NULL AND t.suspect
      AND (CAST(:spaces AS text[]) IS NULL OR t.space = ANY (CAST(:spaces AS text[])))
      AND (:trusted OR NOT t.referee)
      AND NOT EXISTS (SELECT FROM turns WHERE turns.rank < t.rank)
    ORDER BY t.rank, t.seq
    LIMIT LEAST(1, :limit)
    FOR UPDATE OF t SKIP LOCKED
),
ready AS MATERIALIZED (
    SELECT candidate.place, candidate.tokens
    FROM turns
    CROSS JOIN LATERAL (
        SELECT t.ctid AS place, t.tokens
        FROM compute_tasks t
        WHERE {ready}
          AND (t.task_type, t.model, t.rank, t.lane, t.seq)
              >= (turns.task_type, turns.model, turns.rank, turns.lane, 0)
          AND (t.task_type, t.model, t.rank, t.lane, t.seq)
              <= (turns.task_type, turns.model, turns.rank, turns.lane, 9223372036854775807)
          AND (CAST(:spaces AS text[]) IS NULL OR t.space = ANY (CAST(:spaces AS text[])))
          AND (:trusted OR NOT t.referee)
        ORDER BY t.task_type, t.model, t.rank, t.lane, t.seq
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ) AS candidate
    WHERE NOT EXISTS (SELECT FROM suspect)
    LIMIT :limit
),
named AS MATERIALIZED (
    SELECT t.ctid AS place, t.tokens
    FROM compute_tasks t
    WHERE t.id = ANY (CAST(:ids AS uuid[]))
      AND t.status = 'pending' AND t.available_at IS NULL AND t.model IS NOT NULL
      AND (NOT t.suspect OR cardinality(CAST(:ids AS uuid[])) = 1)
      AND (cardinality(CAST(:scope AS text[])) = 0 OR t.task_type = ANY (CAST(:scope AS text[])))
      AND (:trusted OR NOT t.referee)
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
),
counted AS (
    SELECT place, row_number() OVER so_far AS number, sum(tokens) OVER so_far - tokens AS tokens_before
    FROM (
        SELECT * FROM suspect UNION ALL SELECT * FROM ready UNION ALL SELECT * FROM named
    ) AS found
    WINDOW so_far AS (ROWS UNBOUNDED PRECEDING)
),
picked AS MATERIALIZED (
    SELECT place
    FROM counted
    WHERE tokens_before < :max_tokens
      AND number + CASE
            WHEN :strict
            THEN (
                SELECT count(*)
                FROM compute_tasks
                WHERE status = 'processing' AND credential = :credential
            )
            ELSE (
                SELECT count(*)
                FROM compute_tasks
                WHERE status = 'processing' AND credential = :credential AND worker_id = :worker_id
            )
          END <= :most_held
),
fresh AS (
    INSERT INTO compute_claims (claim_id)
    SELECT CAST(:claim_id AS uuid)
    WHERE CAST(:claim_id AS uuid) IS NOT NULL
      AND EXISTS (SELECT FROM picked)
    ON CONFLICT (claim_id) DO NOTHING
    RETURNING claim_id
)
UPDATE compute_tasks AS t
SET status = 'processing',
    attempt = t.attempt + 1,
    in_company = (SELECT count(*) FROM picked) > 1,
    credential = :credential,
    worker_id = :worker_id,
    session = :session,
    claim_id = CAST(:claim_id AS uuid),
    bare = :bare,
    missed = 0,
    progress = NULL,
    started_at = now(),
    updated_at = now(),
    lease_seconds = :lease_seconds,
    lease_expires_at = now() + make_interval(secs => :lease_seconds)
FROM picked
WHERE t.ctid = picked.place
  AND t.status = 'pending'
  AND (CAST(:claim_id AS uuid) IS NULL OR EXISTS (SELECT FROM fresh))
RETURNING {columns}, t.rank, t.seq

-- name: claimed_before
-- What a claim whose answer was lost still holds, its leases renewed (ix_compute_tasks_holder).
UPDATE compute_tasks AS t
SET lease_expires_at = now() + make_interval(secs => t.lease_seconds)
WHERE t.claim_id = CAST(:claim_id AS uuid)
  AND t.status = 'processing'
  AND t.credential = :credential
  AND t.worker_id = :worker_id
RETURNING t.*

-- name: extend
-- Renews each lease by its own length, and says of the others what became of them.
WITH held AS (
    SELECT *
    FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS int[]), CAST(:progress AS real[]))
        AS h (id, attempt, progress)
),
extended AS (
    UPDATE compute_tasks AS t
    SET lease_expires_at = GREATEST(t.lease_expires_at, now() + make_interval(secs => t.lease_seconds)),
        progress = COALESCE(held.progress, t.progress),
        missed = 0
    FROM held
    WHERE t.id = held.id
      AND t.attempt = held.attempt
      AND t.status = 'processing'
      AND t.credential = :credential
    RETURNING t.id
)
SELECT held.id, extended.id IS NOT NULL AS ours, t.status
FROM held
LEFT JOIN extended ON extended.id = held.id
LEFT JOIN compute_tasks t ON t.id = held.id

-- name: miss
-- After an exhaustive heartbeat: what this instance of a worker holds and did not name. Missed twice in a row it
-- goes back unharmed, since the worker knows nothing of it (ix_compute_tasks_holder).
UPDATE compute_tasks AS t
SET missed = CASE WHEN t.missed = 0 THEN 1 ELSE 0 END,
    status = CASE WHEN t.missed = 0 THEN 'processing' ELSE 'pending' END,
    lease_expires_at = CASE WHEN t.missed = 0 THEN t.lease_expires_at END,
    history = CASE WHEN t.missed = 0 THEN t.history ELSE compute_history(t, 'missed') END,
    claim_id = CASE WHEN t.missed = 0 THEN t.claim_id END,
    updated_at = CASE WHEN t.missed = 0 THEN t.updated_at ELSE now() END
WHERE t.status = 'processing'
  AND t.credential = :credential
  AND t.worker_id = :worker_id
  AND t.session = :session
  AND t.claim_id IS NOT NULL
  AND NOT t.id = ANY (CAST(:ids AS uuid[]))
RETURNING t.id, t.status

-- name: complete
-- The first valid result of any attempt that was handed out ends the task; its vectors go beside the row. A
-- strict caller (one with a token of its own) must name an attempt that it was handed itself.
WITH said AS (
    SELECT *
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:attempts AS int[]), CAST(:results AS jsonb[]), CAST(:models AS text[]),
        CAST(:spaces AS text[]), CAST(:dtypes AS text[]), CAST(:rows AS int[]), CAST(:dims AS int[]),
        CAST(:data AS bytea[])
    ) AS s (id, attempt, result, model, space, dtype, rows, dim, data)
),
done AS (
    UPDATE compute_tasks AS t
    SET status = 'completed',
        result = said.result,
        model = COALESCE(t.model, said.model),
        space = COALESCE(t.space, said.space),
        error = NULL,
        history = CASE
            WHEN t.status = 'processing' AND said.attempt <> t.attempt THEN compute_history(t, 'overtaken')
            ELSE t.history
        END,
        worker_id = COALESCE(:worker_id, t.worker_id),
        credential = :credential,
        completed_at = now(),
        updated_at = now(),
        available_at = NULL,
        {let_go},
        suspect = false
    FROM said
    WHERE t.id = said.id
      AND t.status IN ('pending', 'processing')
      AND CASE
            WHEN NOT :strict THEN t.attempt >= GREATEST(said.attempt, 1)
            WHEN said.attempt = t.attempt THEN t.credential = :credential
            ELSE t.history @> jsonb_build_array(
                jsonb_build_object('attempt', said.attempt, 'credential', CAST(:credential AS text)))
          END
    RETURNING t.id
),
stored AS (
    INSERT INTO compute_task_vectors (task_id, dtype, rows, dim, data)
    SELECT said.id, said.dtype, said.rows, said.dim, said.data
    FROM said
    JOIN done ON done.id = said.id
    WHERE said.dtype IS NOT NULL
)
SELECT id FROM done

-- name: fail
-- Counts a failure: pending again after a jittered delay, or failed when no tries are left. Without an attempt
-- only a bare claim of the same credential may fail its task. Whom nobody vouches for (:trusted) cannot end it:
-- the last failure is for somebody else to report.
UPDATE compute_tasks AS t
SET failures = CASE
        WHEN :trusted THEN t.failures + 1
        ELSE GREATEST(t.failures, LEAST(t.failures + 1, t.max_attempts - 1))
    END,
    status = CASE
        WHEN NOT :trusted OR (:retryable AND t.failures + 1 < t.max_attempts) THEN 'pending' ELSE 'failed'
    END,
    available_at = CASE
        WHEN NOT :trusted OR (:retryable AND t.failures + 1 < t.max_attempts)
        THEN now() + make_interval(
            secs => LEAST(:backoff_cap, :backoff_base * 2 ^ LEAST(t.failures, 32)) * :jitter)
    END,
    completed_at = CASE
        WHEN NOT :trusted OR (:retryable AND t.failures + 1 < t.max_attempts) THEN NULL ELSE now()
    END,
    error = :error,
    history = compute_history(t, 'failed'),
    updated_at = now(),
    {let_go}
WHERE t.id = :id
  AND t.status = 'processing'
  AND CASE
        WHEN CAST(:attempt AS int) IS NOT NULL
        THEN t.attempt = :attempt AND (NOT :strict OR t.credential = :credential)
        ELSE t.bare AND COALESCE(t.credential, :credential) = :credential AND NOT :strict
      END
RETURNING t.*

-- name: release
-- Gives tasks back unharmed: pending again at once.
UPDATE compute_tasks AS t
SET status = 'pending',
    history = compute_history(t, :ending),
    updated_at = now(),
    worker_id = NULL,
    {let_go}
FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS int[])) AS held (id, attempt)
WHERE t.id = held.id
  AND t.attempt = held.attempt
  AND t.status = 'processing'
  AND t.credential = :credential
RETURNING t.id

-- name: held_products
-- The score tasks in these hands with a product of one of these ids (ix_compute_tasks_holder).
SELECT {columns}
FROM compute_tasks t
WHERE t.status = 'processing'
  AND t.credential = :credential
  AND t.task_type = 'score'
  AND EXISTS (
    SELECT FROM jsonb_array_elements(t.payload -> 'products') AS product
    WHERE product ->> 'id' = ANY (CAST(:wanted AS text[]))
  )
ORDER BY t.seq

-- name: held_names
-- The classify tasks in these hands with one of these external names (ix_compute_tasks_holder).
SELECT {columns}
FROM compute_tasks t
WHERE t.status = 'processing'
  AND t.credential = :credential
  AND t.task_type = 'classify'
  AND (t.payload -> 'external_names') ?| CAST(:wanted AS text[])
ORDER BY t.seq
