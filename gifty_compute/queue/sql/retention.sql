-- What is removed when its time is over. Every statement is bounded by :limit.

-- name: prune_tasks
-- Tasks that ended so long ago (ix_compute_tasks_ended), with their vectors and callbacks. Never one whose callback
-- is due or dead, nor one of a batch that goes on. It reads from the oldest on and stops at the limit.
WITH old AS MATERIALIZED (
    SELECT t.id
    FROM compute_tasks t
    WHERE t.status = :status
      AND t.completed_at < now() - make_interval(secs => :seconds)
      AND NOT EXISTS (SELECT FROM compute_callbacks c WHERE c.task_id = t.id AND c.delivered_at IS NULL)
      AND NOT EXISTS (SELECT FROM compute_batches b WHERE b.id = t.batch_id AND b.finished_at IS NULL)
    ORDER BY t.completed_at
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
DELETE FROM compute_tasks AS t
USING old
WHERE t.id = old.id
  AND t.status = :status
RETURNING t.id

-- name: prune_batches
-- Batches that are finished and have lost all their tasks (ix_compute_tasks_batch), unless somebody is still to be
-- told.
DELETE FROM compute_batches
WHERE id IN (
    SELECT b.id
    FROM compute_batches b
    WHERE b.finished_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM compute_tasks t WHERE t.batch_id = b.id)
      AND NOT EXISTS (SELECT FROM compute_callbacks c WHERE c.batch_id = b.id AND c.delivered_at IS NULL)
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
RETURNING id

-- name: prune_claims
-- What claims were known by, a day after: no worker repeats a claim for so long.
DELETE FROM compute_claims
WHERE claim_id IN (
    SELECT c.claim_id
    FROM compute_claims c
    WHERE c.claimed_at < now() - interval '1 day'
    LIMIT :limit
)
RETURNING claim_id
