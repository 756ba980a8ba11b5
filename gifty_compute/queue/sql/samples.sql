-- What operators see of the queue: the workers that are there, and a sample every few seconds of what waits, runs
-- and has ended. Only the step of maintain that holds the lock writes samples. Times are the database's.

-- name: present
-- Workers that are there, each with a (task type, model) pair that it takes. A credential that comes with ever new
-- names of workers is recorded up to :most of them.
WITH said AS MATERIALIZED (
    SELECT *
    FROM unnest(
        CAST(:credentials AS text[]), CAST(:worker_ids AS text[]), CAST(:task_types AS text[]),
        CAST(:models AS text[]), CAST(:sessions AS text[])
    ) AS s (credential, worker_id, task_type, model, session)
),
crowded AS MATERIALIZED (
    SELECT one.credential
    FROM (SELECT DISTINCT credential FROM said) AS one
    WHERE :most <= (
        SELECT count(*)
        FROM (SELECT FROM compute_workers w WHERE w.credential = one.credential LIMIT :most) AS few
    )
)
INSERT INTO compute_workers AS w (credential, worker_id, task_type, model, session, seen_at)
SELECT said.credential, said.worker_id, said.task_type, said.model, said.session, now()
FROM said
WHERE said.credential NOT IN (SELECT credential FROM crowded)
   OR EXISTS (
        SELECT FROM compute_workers w
        WHERE w.credential = said.credential
          AND w.worker_id = said.worker_id
          AND w.task_type = said.task_type
          AND w.model = said.model
      )
ORDER BY said.credential, said.worker_id, said.task_type, said.model
ON CONFLICT (credential, worker_id, task_type, model)
DO UPDATE SET session = excluded.session, seen_at = excluded.seen_at
RETURNING w.worker_id

-- name: still_present
-- Refreshes workers that sent a heartbeat: they still take what the same session asked for before. A row that is
-- locked is skipped, since another process refreshes it at this moment.
WITH alive AS MATERIALIZED (
    SELECT w.credential, w.worker_id, w.task_type, w.model
    FROM unnest(CAST(:credentials AS text[]), CAST(:worker_ids AS text[]), CAST(:sessions AS text[]))
        AS s (credential, worker_id, session)
    JOIN compute_workers w USING (credential, worker_id, session)
    FOR UPDATE OF w SKIP LOCKED
)
UPDATE compute_workers AS w
SET seen_at = now()
FROM alive
WHERE w.credential = alive.credential
  AND w.worker_id = alive.worker_id
  AND w.task_type = alive.task_type
  AND w.model = alive.model
RETURNING w.worker_id

-- name: sampled
-- How many seconds ago the last sample was made; null before the first.
SELECT CAST(EXTRACT(epoch FROM now() - sampled_at) AS float8) AS age_seconds
FROM compute_maintenance

-- name: sample
-- One row for each (task type, model) that has something to tell: work that waits or runs, workers, ends since the
-- last sample, or a last sample that was not all zeros. No count goes beyond :enough, and none reads rows that ended
-- before the last sample: each goes by a partial index (ready, suspect, unplaced, delayed, lease), ends by a range of
-- ix_compute_tasks_ended. That range is :settled seconds late, so that an end whose transaction is slow to commit is
-- counted, too. Rows that have no model yet have ''.
-- The age is of the first task of each client's lane: since it was submitted, or retried by hand. A worker is one
-- that was seen within :live seconds, or holds a lease that is good; a paid provider is no worker.
WITH RECURSIVE before AS MATERIALIZED (
    SELECT sampled_at FROM compute_maintenance
),
queues AS (
    (
        SELECT t.task_type, t.model, 1 AS number
        FROM compute_tasks t
        WHERE {ready}
        ORDER BY t.task_type, t.model
        LIMIT 1
    )
    UNION ALL
    SELECT next.task_type, next.model, q.number + 1
    FROM queues q
    CROSS JOIN LATERAL (
        SELECT t.task_type, t.model
        FROM compute_tasks t
        WHERE {ready}
          AND (t.task_type, t.model) > (q.task_type, q.model)
        ORDER BY t.task_type, t.model
        LIMIT 1
    ) AS next
    WHERE q.number < :most_queues
),
lanes AS (
    SELECT q.task_type, q.model, r.rank, first.lane, first.since, 1 AS number
    FROM queues q
    CROSS JOIN (VALUES (0::smallint), (1::smallint)) AS r (rank)
    CROSS JOIN LATERAL (
        SELECT t.lane, {since} AS since
        FROM compute_tasks t
        WHERE {ready}
          AND t.task_type = q.task_type AND t.model = q.model AND t.rank = r.rank
        ORDER BY t.lane, t.seq
        LIMIT 1
    ) AS first
    UNION ALL
    SELECT l.task_type, l.model, l.rank, next.lane, next.since, l.number + 1
    FROM lanes l
    CROSS JOIN LATERAL (
        SELECT t.lane, {since} AS since
        FROM compute_tasks t
        WHERE {ready}
          AND t.task_type = l.task_type AND t.model = l.model AND t.rank = l.rank AND t.lane > l.lane
        ORDER BY t.lane, t.seq
        LIMIT 1
    ) AS next
    WHERE l.number < :most_lanes
),
running AS MATERIALIZED (
    SELECT t.task_type, COALESCE(t.model, '') AS model, t.credential, t.worker_id, t.lease_expires_at > now() AS held
    FROM compute_tasks t
    WHERE t.status = 'processing'
    ORDER BY t.lease_expires_at
    LIMIT :enough
),
facts (task_type, model, ready, delayed, processing, since, done, failed, workers) AS (
    SELECT q.task_type, q.model, (
        SELECT count(*)
        FROM (
            SELECT
            FROM compute_tasks t
            WHERE {ready}
              AND t.task_type = q.task_type AND t.model = q.model
            LIMIT :enough
        ) AS few
    ), 0, 0, NULL::timestamptz, 0, 0, 0
    FROM queues q
    UNION ALL
    SELECT task_type, model, 0, 0, 0, since, 0, 0, 0
    FROM lanes
    UNION ALL
    SELECT task_type, model, 1, 0, 0, since, 0, 0, 0
    FROM (
        SELECT t.task_type, t.model, {since} AS since
        FROM compute_tasks t
        WHERE t.status = 'pending' AND t.available_at IS NULL AND t.suspect AND t.model IS NOT NULL
        ORDER BY t.task_type, t.model, t.rank, t.seq
        LIMIT :enough
    ) AS suspects
    UNION ALL
    SELECT task_type, '', 1, 0, 0, since, 0, 0, 0
    FROM (
        SELECT t.task_type, {since} AS since
        FROM compute_tasks t
        WHERE t.status = 'pending' AND t.model IS NULL
        ORDER BY t.seq
        LIMIT :enough
    ) AS unplaced
    UNION ALL
    SELECT task_type, model, 0, 1, 0, NULL, 0, 0, 0
    FROM (
        SELECT t.task_type, t.model
        FROM compute_tasks t
        WHERE t.status = 'pending' AND t.available_at IS NOT NULL AND t.model IS NOT NULL
        ORDER BY t.available_at
        LIMIT :enough
    ) AS delayed
    UNION ALL
    SELECT task_type, model, 0, 0, 1, NULL, 0, 0, 0
    FROM running
    UNION ALL
    SELECT task_type, model, 0, 0, 0, NULL, 0, 0, 1
    FROM (
        SELECT w.task_type, w.model, w.credential, w.worker_id
        FROM compute_workers w
        WHERE w.seen_at > now() - make_interval(secs => :live)
        UNION
        SELECT task_type, model, credential, worker_id
        FROM running
        WHERE held AND credential IS DISTINCT FROM 'paid'
    ) AS serving
    UNION ALL
    SELECT task_type, COALESCE(model, ''), 0, 0, 0, NULL,
           CASE ending WHEN 'completed' THEN 1 ELSE 0 END, CASE ending WHEN 'failed' THEN 1 ELSE 0 END, 0
    FROM before
    CROSS JOIN (VALUES ('completed'), ('failed')) AS e (ending)
    CROSS JOIN LATERAL (
        SELECT t.task_type, t.model
        FROM compute_tasks t
        WHERE t.status = ending
          AND t.completed_at IS NOT NULL
          AND t.completed_at > before.sampled_at - make_interval(secs => :settled)
          AND t.completed_at <= now() - make_interval(secs => :settled)
        ORDER BY t.completed_at
        LIMIT :enough
    ) AS ended
    UNION ALL
    SELECT s.task_type, s.model, 0, 0, 0, NULL, 0, 0, 0
    FROM before
    JOIN compute_samples s ON s.sampled_at = before.sampled_at
    WHERE s.ready + s.delayed + s.processing + s.done + s.failed + s.workers > 0
),
found AS MATERIALIZED (
    SELECT task_type, model,
           LEAST(sum(ready), :enough)::int AS ready,
           sum(delayed)::int AS delayed,
           sum(processing)::int AS processing,
           GREATEST(0, COALESCE(EXTRACT(epoch FROM now() - min(since)), 0))::float8 AS oldest_seconds,
           sum(done)::int AS done,
           sum(failed)::int AS failed,
           sum(workers)::int AS workers
    FROM facts
    GROUP BY task_type, model
    ORDER BY sum(ready) DESC
    LIMIT :most_queues
),
marked AS (
    UPDATE compute_maintenance SET sampled_at = now()
)
INSERT INTO compute_samples AS s (
    sampled_at, task_type, model, ready, delayed, processing, oldest_seconds, done, failed, done_total,
    failed_total, workers
)
SELECT now(), f.task_type, f.model, f.ready, f.delayed, f.processing, f.oldest_seconds, f.done, f.failed,
       f.done + COALESCE(last.done_total, 0), f.failed + COALESCE(last.failed_total, 0), f.workers
FROM found f
LEFT JOIN LATERAL (
    SELECT p.done_total, p.failed_total
    FROM compute_samples p
    WHERE p.task_type = f.task_type AND p.model = f.model
    ORDER BY p.sampled_at DESC
    LIMIT 1
) AS last ON true
RETURNING s.task_type, s.model

-- name: newest_sample
-- The rows of the last sample and its age; one row of nulls where it found nothing, and where there was none.
SELECT CAST(EXTRACT(epoch FROM now() - m.sampled_at) AS float8) AS age_seconds,
       s.task_type, s.model, s.ready, s.delayed, s.processing, s.oldest_seconds, s.done_total, s.failed_total,
       s.workers
FROM compute_maintenance m
LEFT JOIN compute_samples s ON s.sampled_at = m.sampled_at
ORDER BY s.task_type, s.model

-- name: prune_samples
-- Samples older than :seconds (the primary key), at most :limit.
DELETE FROM compute_samples AS s
USING (
    SELECT o.sampled_at, o.task_type, o.model
    FROM compute_samples o
    WHERE o.sampled_at < now() - make_interval(secs => :seconds)
    ORDER BY o.sampled_at
    LIMIT :limit
) AS old
WHERE s.sampled_at = old.sampled_at
  AND s.task_type = old.task_type
  AND s.model = old.model
RETURNING s.model

-- name: prune_workers
-- Workers that have been silent for so long.
DELETE FROM compute_workers
WHERE seen_at < now() - make_interval(secs => :seconds)
RETURNING worker_id
