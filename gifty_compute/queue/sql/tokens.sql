-- The workers' own tokens. A token is known by the SHA-256 of its secret, and nothing of it is kept in memory: what
-- is revoked is refused at the next request.

-- name: mint_token
-- A new token; none comes back when one of the same name is not revoked (uq_compute_worker_tokens_name).
INSERT INTO compute_worker_tokens AS w (
    id, name, hash, task_types, trust, created_by, expires_at, score_scale
)
VALUES (
    :id, :name, :hash, :task_types, :trust, :created_by, now() + make_interval(days => :expires_in_days),
    :score_scale
)
ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING
RETURNING w.*

-- name: find_token
-- The token of this hash as long as it is valid (the unique index on hash).
SELECT *
FROM compute_worker_tokens
WHERE hash = :hash
  AND revoked_at IS NULL
  AND (expires_at IS NULL OR expires_at > now())

-- name: list_tokens
-- All of them, newest first.
SELECT *
FROM compute_worker_tokens
ORDER BY created_at DESC, id

-- name: revoke_token
-- Revokes once; a token that is revoked stays so since then (the primary key).
UPDATE compute_worker_tokens AS w
SET revoked_at = COALESCE(w.revoked_at, now())
WHERE w.id = :id
RETURNING w.*
