-- Results of workers that nobody vouches for: what each has handed in, what is being verified, and by which task. A
-- referee is a task like any other that only trusted workers may take; callers do not see it.

-- name: hold_result
-- Keeps a result aside and its task with its holder until a referee has done the same work. None comes back when
-- that attempt has been kept already, or does not hold the task.
WITH held AS (
    UPDATE compute_tasks AS t
    SET lease_expires_at = now() + make_interval(secs => :hold_seconds),
        claim_id = NULL,
        updated_at = now()
    WHERE t.id = :id
      AND t.status = 'processing'
      AND t.attempt = :attempt
      AND t.credential = :credential
      AND NOT EXISTS (SELECT FROM compute_checks c WHERE c.task_id = :id AND c.attempt = :attempt)
    RETURNING t.*
),
referee AS (
    INSERT INTO compute_tasks (id, task_type, priority, payload, model, space, tokens, lane, referee)
    SELECT CAST(:referee_id AS uuid), task_type, 'high', payload, model, space, tokens, '(referee)', true
    FROM held
),
kept AS (
    INSERT INTO compute_checks (
        id, task_id, attempt, generation, token_id, worker_id, stage, referee_id, digest, result, dtype, rows, dim, data
    )
    SELECT CAST(:check_id AS uuid), id, attempt, generation, CAST(:token_id AS uuid), :worker_id, 'held',
           CAST(:referee_id AS uuid), :digest, CAST(:result AS jsonb), :dtype, :rows, :dim, :data
    FROM held
)
SELECT * FROM held

-- name: note_result
-- Notes a result that is about to be taken at once; with a referee if it is one of those that are verified.
WITH noted AS (
    INSERT INTO compute_checks (id, task_id, attempt, generation, token_id, worker_id, stage, referee_id, digest)
    SELECT CAST(:check_id AS uuid), t.id, CAST(:attempt AS int), t.generation, CAST(:token_id AS uuid), :worker_id,
           CASE WHEN CAST(:referee_id AS uuid) IS NULL THEN 'taken' ELSE 'asked' END, CAST(:referee_id AS uuid), :digest
    FROM compute_tasks t
    WHERE t.id = :id
    ON CONFLICT (task_id, attempt) DO NOTHING
    RETURNING task_id
)
INSERT INTO compute_tasks (id, task_type, priority, payload, model, space, tokens, lane, referee)
SELECT CAST(:referee_id AS uuid), t.task_type, 'low', t.payload, t.model, t.space, t.tokens, '(referee)', true
FROM compute_tasks t
JOIN noted ON noted.task_id = t.id
WHERE CAST(:referee_id AS uuid) IS NOT NULL
RETURNING id

-- name: kept_result
-- The check of an attempt, if there is one.
SELECT *
FROM compute_checks
WHERE task_id = :id
  AND attempt = :attempt

-- name: seen_before
-- Whether this token has handed in the very same vectors for other texts (ix_compute_checks_digest).
SELECT c.task_id
FROM compute_checks c
JOIN compute_tasks other ON other.id = c.task_id
JOIN compute_tasks this ON this.id = :id
WHERE c.token_id = :token_id
  AND c.digest = :digest
  AND c.task_id <> this.id
  AND other.payload -> 'texts' <> this.payload -> 'texts'
LIMIT 1

-- name: plant_canary
-- A task whose right answer is known, already in the hands of the worker that is to be tried.
WITH canary AS (
    INSERT INTO compute_tasks AS t (
        id, task_type, payload, model, space, tokens, lane, referee, status, attempt, credential, worker_id, session,
        created_at, started_at, lease_seconds, lease_expires_at
    )
    VALUES (
        :id, 'embedding', CAST(:payload AS jsonb), :model, :space, :tokens, '(referee)', true, 'processing', 1,
        :credential, :worker_id, :session, now() - make_interval(secs => :age_seconds), now(), :lease_seconds,
        now() + make_interval(secs => :lease_seconds)
    )
    RETURNING t.*
),
known AS (
    INSERT INTO compute_checks (
        id, task_id, attempt, generation, token_id, worker_id, stage, digest, dtype, rows, dim, data
    )
    SELECT CAST(:check_id AS uuid), id, 1, 1, CAST(:token_id AS uuid), :worker_id, 'held', '', 'float32',
           CAST(:rows AS int), CAST(:dim AS int), CAST(:data AS bytea)
    FROM canary
)
SELECT * FROM canary

-- name: end_canary
-- Ends a canary whose result has been compared (the primary key).
UPDATE compute_tasks AS t
SET {cancelled}
WHERE t.id = :id
  AND t.referee
  AND t.status IN ('pending', 'processing')
RETURNING t.id

-- name: judgeable
-- Checks whose referee has ended, with its vectors (ix_compute_checks_referee).
SELECT c.id, c.task_id, c.attempt, c.token_id, c.worker_id, c.stage, c.result, c.dtype, c.rows, c.dim, c.data,
       r.status AS referee_status, r.worker_id AS referee_worker, r.result AS referee_result,
       v.dtype AS referee_dtype, v.rows AS referee_rows, v.dim AS referee_dim, v.data AS referee_data
FROM compute_checks c
LEFT JOIN compute_tasks r ON r.id = c.referee_id
LEFT JOIN compute_task_vectors v ON v.task_id = c.referee_id
WHERE c.stage IN ('held', 'asked')
  AND c.referee_id IS NOT NULL
  AND (r.id IS NULL OR r.status IN ('completed', 'failed', 'cancelled'))
ORDER BY c.created_at
LIMIT :limit

-- name: judge
-- The verdict, once; the token's record goes with it. A difference puts it into quarantine.
WITH judged AS (
    UPDATE compute_checks AS c
    SET stage = :verdict,
        judged_at = now(),
        result = NULL,
        data = NULL
    WHERE c.id = :id
      AND c.stage IN ('held', 'asked')
    RETURNING c.token_id
)
UPDATE compute_worker_tokens AS w
SET verified = w.verified + CASE WHEN :verdict = 'same' THEN 1 ELSE 0 END,
    valid_in_a_row = CASE :verdict WHEN 'same' THEN w.valid_in_a_row + 1 WHEN 'different' THEN 0 ELSE w.valid_in_a_row END,
    quarantined_at = CASE WHEN :verdict = 'different' THEN COALESCE(w.quarantined_at, now()) ELSE w.quarantined_at END
FROM judged
WHERE w.id = judged.token_id
RETURNING w.id

-- name: quarantine
-- From now on the token claims nothing; what it held is given back by its leases' end.
UPDATE compute_worker_tokens
SET quarantined_at = COALESCE(quarantined_at, now()),
    valid_in_a_row = 0
WHERE id = :token_id
RETURNING id

-- name: recheck
-- Of tokens in quarantine: every result that was taken since the last one that was verified gets a referee.
WITH doubtful AS MATERIALIZED (
    SELECT c.id, c.task_id
    FROM compute_checks c
    JOIN compute_worker_tokens w ON w.id = c.token_id
    JOIN compute_tasks t ON t.id = c.task_id
    WHERE w.quarantined_at IS NOT NULL
      AND c.stage = 'taken'
      AND t.status = 'completed'
      AND t.credential = CAST(c.token_id AS text)
      AND c.created_at > COALESCE(
            (SELECT max(p.created_at) FROM compute_checks p WHERE p.token_id = c.token_id AND p.stage = 'same'),
            '-infinity')
    ORDER BY c.created_at
    LIMIT :limit
    FOR UPDATE OF c SKIP LOCKED
),
asked AS (
    UPDATE compute_checks AS c
    SET stage = 'asked',
        referee_id = gen_random_uuid()
    FROM doubtful
    WHERE c.id = doubtful.id
    RETURNING c.task_id, c.referee_id
)
INSERT INTO compute_tasks (id, task_type, priority, payload, model, space, tokens, lane, referee)
SELECT asked.referee_id, t.task_type, 'low', t.payload, t.model, t.space, t.tokens, '(referee)', true
FROM asked
JOIN compute_tasks t ON t.id = asked.task_id
RETURNING id

-- name: correct
-- Puts a verified result in the place of a wrong one: a new revision, told once.
WITH corrected AS (
    UPDATE compute_tasks AS t
    SET result = CAST(:result AS jsonb),
        revision = t.revision + 1,
        credential = 'referee',
        worker_id = :worker_id,
        updated_at = now()
    WHERE t.id = :id
      AND t.status = 'completed'
      AND t.credential = :credential
    RETURNING t.*
),
stored AS (
    UPDATE compute_task_vectors AS v
    SET dtype = :dtype,
        rows = :rows,
        dim = :dim,
        data = :data
    FROM corrected
    WHERE v.task_id = corrected.id
),
told AS (
    INSERT INTO compute_callbacks (id, task_id, type, url)
    SELECT id || '.' || generation || '.task.corrected', id, 'task.corrected', callback_url
    FROM corrected
    WHERE callback_url IS NOT NULL
    ON CONFLICT (id) DO NOTHING
)
SELECT id FROM corrected

-- name: dismiss
-- Removes referees and canaries that nobody waits for any more (ix_compute_tasks_referee).
DELETE FROM compute_tasks AS t
WHERE t.id IN (
    SELECT r.id
    FROM compute_tasks r
    WHERE r.referee
      AND r.status <> 'processing'
      AND NOT EXISTS (
        SELECT FROM compute_checks c WHERE c.referee_id = r.id AND c.stage IN ('held', 'asked')
      )
    LIMIT :limit
)
RETURNING t.id
