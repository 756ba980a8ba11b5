-- What the maintain loop does to many tasks at a time. Every statement is bounded by :limit.

-- name: mercy
-- Says that somebody maintains. After a silence of ours, leases that were good when it began get one more term:
-- their workers could not reach us either.
WITH before AS MATERIALIZED (
    SELECT passed_at FROM compute_maintenance
),
passed AS (
    INSERT INTO compute_maintenance (passed_at) VALUES (now())
    ON CONFLICT (id) DO UPDATE SET passed_at = now()
)
UPDATE compute_tasks AS t
SET lease_expires_at = now() + make_interval(secs => t.lease_seconds)
FROM before
WHERE before.passed_at < now() - make_interval(secs => :silence_seconds)
  AND t.status = 'processing'
  AND t.lease_expires_at >= before.passed_at
RETURNING t.id

-- name: sweep
-- Expired leases (ix_compute_tasks_lease): pending again at once. Held alone, the expiry counts as a failure;
-- in company, or with a worker that nobody vouches for, it is not known whose fault it was, and each becomes a
-- suspect that is next handed out alone. None as long as a silence of ours has not been made good for (see mercy).
WITH expired AS MATERIALIZED (
    SELECT id,
           in_company OR EXISTS (
               SELECT FROM compute_worker_tokens w
               WHERE CAST(w.id AS text) = credential AND w.trust = 'untrusted'
           ) AS doubtful
    FROM compute_tasks
    WHERE status = 'processing'
      AND lease_expires_at < now()
      AND NOT EXISTS (
        SELECT FROM compute_maintenance
        WHERE passed_at < now() - make_interval(secs => :silence_seconds)
      )
    ORDER BY lease_expires_at
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
UPDATE compute_tasks AS t
SET failures = t.failures + CASE WHEN expired.doubtful THEN 0 ELSE 1 END,
    status = CASE WHEN NOT expired.doubtful AND t.failures + 1 >= t.max_attempts THEN 'failed' ELSE 'pending' END,
    completed_at = CASE WHEN NOT expired.doubtful AND t.failures + 1 >= t.max_attempts THEN now() END,
    error = format('lease of attempt %s ran out, held by %s', t.attempt, t.worker_id),
    history = compute_history(t, 'expired'),
    suspect = t.suspect OR expired.doubtful,
    updated_at = now(),
    {let_go}
FROM expired
WHERE t.id = expired.id
  AND t.status = 'processing'
RETURNING t.id, t.status

-- name: lease_unleased
-- Tasks in work without a lease, as a program beside the service makes them by SQL (ix_compute_tasks_lease): each
-- gets a bare lease of an attempt of its own, which no earlier holder has. It is unknown how many tasks that
-- program's worker holds, so an expiry is no failure of the task (as for tasks that are held beside others).
WITH unleased AS MATERIALIZED (
    SELECT id
    FROM compute_tasks
    WHERE status = 'processing'
      AND lease_expires_at IS NULL
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
UPDATE compute_tasks AS t
SET attempt = t.attempt + 1,
    bare = true,
    in_company = true,
    credential = NULL,
    session = NULL,
    claim_id = NULL,
    lease_seconds = :bare_seconds,
    lease_expires_at = now() + make_interval(secs => :bare_seconds)
FROM unleased
WHERE t.id = unleased.id
  AND t.status = 'processing'
  AND t.lease_expires_at IS NULL
RETURNING t.id

-- name: promote
-- Delayed tasks whose time has come (ix_compute_tasks_delayed).
WITH due AS MATERIALIZED (
    SELECT id
    FROM compute_tasks
    WHERE status = 'pending'
      AND available_at <= now()
    ORDER BY available_at
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
UPDATE compute_tasks AS t
SET available_at = NULL,
    updated_at = now()
FROM due
WHERE t.id = due.id
  AND t.status = 'pending'
RETURNING t.id

-- name: unplaced
-- Rows that somebody inserted by SQL with the contract's own columns (ix_compute_tasks_unplaced).
SELECT id, task_type, payload
FROM compute_tasks
WHERE status = 'pending'
  AND model IS NULL
ORDER BY seq
LIMIT :limit

-- name: place
-- Gives such a row its client, model and space, which makes it ready.
UPDATE compute_tasks
SET {given_client},
    payload = CAST(:payload AS jsonb),
    model = :model,
    space = :space,
    tokens = :tokens,
    updated_at = now()
WHERE id = :id
  AND status = 'pending'
  AND model IS NULL
RETURNING id

-- name: refuse
-- Ends such a row when its payload breaks the rules that a submit over HTTP would have met.
UPDATE compute_tasks
SET {given_client},
    status = 'failed',
    error = :error,
    completed_at = now(),
    updated_at = now()
WHERE id = :id
  AND status = 'pending'
  AND model IS NULL
RETURNING id

-- name: backlog
-- For each (task type, model): how many are ready, counted no further than :enough.
WITH RECURSIVE queues AS (
    (
        SELECT t.task_type, t.model
        FROM compute_tasks t
        WHERE {ready}
        ORDER BY t.task_type, t.model
        LIMIT 1
    )
    UNION ALL
    SELECT next.task_type, next.model
    FROM queues q
    CROSS JOIN LATERAL (
        SELECT t.task_type, t.model
        FROM compute_tasks t
        WHERE {ready}
          AND (t.task_type, t.model) > (q.task_type, q.model)
        ORDER BY t.task_type, t.model
        LIMIT 1
    ) AS next
),
counted AS (
    SELECT q.task_type, q.model, ready.n
    FROM queues q
    CROSS JOIN LATERAL (
        SELECT count(*) AS n
        FROM (
            SELECT 1
            FROM compute_tasks t
            WHERE {ready}
              AND t.task_type = q.task_type AND t.model = q.model
            LIMIT :enough
        ) AS few
    ) AS ready
    UNION ALL
    SELECT t.task_type, t.model, count(*)
    FROM compute_tasks t
    WHERE t.status = 'pending' AND t.available_at IS NULL AND t.suspect AND t.model IS NOT NULL
    GROUP BY t.task_type, t.model
)
SELECT task_type, model, sum(n)::int AS ready
FROM counted
GROUP BY task_type, model

-- name: try_lock
-- Whether this connection is now the one that maintains.
SELECT pg_try_advisory_lock(hashtext('gifty-compute maintain'))

-- name: unlock
-- Lets another process maintain.
SELECT pg_advisory_unlock(hashtext('gifty-compute maintain'))

-- name: migrated
-- Whether the queue's tables are there.
SELECT to_regclass('compute_task_vectors') IS NOT NULL AS migrated

-- name: parameter_types
-- What the parameters of a statement are that this connection has prepared.
SELECT CAST(parameter_types AS text[])
FROM pg_prepared_statements
WHERE name = :name
