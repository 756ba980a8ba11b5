-- What providers were paid, by day, provider, model and client: written by each process every second or so.

-- name: add_spending
-- Adds the amounts once: the same flush of the same writer adds nothing the second time.
WITH fresh AS (
    INSERT INTO compute_spending_writers AS w (writer, flush)
    VALUES (:writer, :flush)
    ON CONFLICT (writer) DO UPDATE SET flush = excluded.flush, written_at = now()
    WHERE w.flush < excluded.flush
    RETURNING writer
)
INSERT INTO compute_spending AS s (day, provider, model, client, usd, estimated_usd, answers, unpriced)
SELECT l.day, l.provider, l.model, l.client, l.usd, l.estimated_usd, l.answers, l.unpriced
FROM fresh,
     unnest(
        CAST(:days AS date[]), CAST(:providers AS text[]), CAST(:models AS text[]), CAST(:clients AS text[]),
        CAST(:usd AS numeric[]), CAST(:estimated_usd AS numeric[]),
        CAST(:answers AS bigint[]), CAST(:unpriced AS bigint[])
     ) AS l (day, provider, model, client, usd, estimated_usd, answers, unpriced)
ORDER BY l.day, l.provider, l.model, l.client
ON CONFLICT (day, provider, model, client) DO UPDATE
SET usd = s.usd + excluded.usd,
    estimated_usd = s.estimated_usd + excluded.estimated_usd,
    answers = s.answers + excluded.answers,
    unpriced = s.unpriced + excluded.unpriced,
    updated_at = now()
RETURNING s.day

-- name: spending_since
-- What all processes have written for that day and later ones (the primary key).
SELECT day, provider, model, client, usd::float8, estimated_usd::float8, answers, unpriced
FROM compute_spending
WHERE day >= :day

-- name: forget_writers
-- Writers that have not written for so long are gone: nothing of theirs comes again.
DELETE FROM compute_spending_writers
WHERE written_at < now() - make_interval(days => :days)
RETURNING writer
