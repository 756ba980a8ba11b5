"""Batches on real PostgreSQL: all lines or none, once for a key, and an end that is found once."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gifty_compute.clock import SystemClock
from gifty_compute.errors import (
    IdempotencyConflict,
    InvalidRequest,
    MalformedBody,
    StoreUnavailable,
)
from gifty_compute.logic.logic import Logic
from gifty_compute.queue.batches import BatchStore, Submitted
from gifty_compute.queue.database import Database
from gifty_compute.queue.tasks import Origin, TaskStore
from gifty_compute.queue.upload import Upload
from gifty_compute.wire.batch import BatchOptions
from tests.conftest import EVERY_CLIENT, ROOT
from tests.integration.queue.batches import (
    LIMITS,
    body,
    execute,
    line,
    statuses,
    submit,
    upload,
)


def nothing_is_stored(database: Database) -> bool:
    sql = "SELECT (SELECT count(*) FROM compute_tasks) + (SELECT count(*) FROM compute_batches) AS n"
    return bool(execute(database, sql)[0]["n"] == 0)


# -- in ------------------------------------------------------------------------------------------------------


def test_each_line_is_a_task_of_the_batch_as_a_submit_of_its_own_would_make_it(
    batches: BatchStore, store: TaskStore, database: Database
) -> None:
    hard = 'a\tb\\n"c"\n\\N \\. кружка\r'
    data = line(hard, metadata={"k": "\\"}, priority="high", max_attempts=2) + b"\n" + line("второй")

    submitted = submit(batches, data)

    tasks, _ = store.page(EVERY_CLIENT, limit=10, batch_id=submitted.batch.id)
    second, first = tasks
    assert submitted.new
    assert submitted.ready == {("embedding", "multilingual-e5-small"): 2}
    assert first.payload["texts"] == [hard]
    assert first.payload["model"] == first.model == "multilingual-e5-small"
    assert (first.priority, first.max_attempts, first.metadata) == ("high", 2, {"k": "\\"})
    assert (second.priority, second.max_attempts, second.metadata) == ("low", 5, None)
    assert (second.status, second.space) == ("pending", "multilingual-e5-small-q4")
    [row] = execute(
        database,
        "SELECT DISTINCT lane, request_id, tokens > 0 AS sized, idempotency_key FROM compute_tasks",
    )
    assert row == {"lane": "shop", "request_id": "req-1", "sized": True, "idempotency_key": None}


@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        (b"{", MalformedBody, "line 2: not JSON"),
        (b"[]", InvalidRequest, "line 2: body"),
        (line(""), InvalidRequest, "line 2: payload.texts.0: text is empty"),
        (line("a", extra=1), InvalidRequest, "line 2: extra"),
        (line("a", metadata={"a": "x" * 5000}), InvalidRequest, "line 2: metadata is over"),
        (
            b'{"task_type":"embedding","payload":{"texts":["\\ud800"]}}',
            InvalidRequest,
            "line 2: text contains",
        ),
        (
            b'{"task_type":"embedding","payload":{"texts":["\\u0000"]}}',
            InvalidRequest,
            "line 2: payload: text",
        ),
        (b'{"task_type":"soup","payload":{}}', InvalidRequest, "line 2: there is no task type"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_stored(
    batches: BatchStore, database: Database, bad: bytes, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as refused:
        submit(batches, line("a") + bad.rstrip() + b"\n" + line("b"))

    assert str(refused.value).startswith(message)
    assert nothing_is_stored(database)


def test_a_batch_without_lines_is_refused(batches: BatchStore, database: Database) -> None:
    with pytest.raises(InvalidRequest, match="at least one line"):
        submit(batches, b"\n\n")

    assert nothing_is_stored(database)


def test_of_a_hundred_thousand_lines_one_bad_leaves_nothing(batches: BatchStore, database: Database) -> None:
    lines = [line(f"чайник {n}") for n in range(100_000)]
    lines[77_776] = line("  ")

    with pytest.raises(InvalidRequest, match=r"^line 77777: payload\.texts\.0"):
        submit(batches, b"".join(lines))

    assert nothing_is_stored(database)


def test_a_hundred_thousand_lines_are_committed_in_bounded_memory(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """In a process of its own, which says by how much it grew: a fraction of what it reads."""
    file = tmp_path / "lines.gz"
    with gzip.open(file, "wb", compresslevel=1) as packed:
        for n in range(100_000):
            packed.write(line(f"чайник {n} " + "подарок " * 40))
    code = f"""
import resource, sys
from pathlib import Path
from gifty_compute.clock import SystemClock
from gifty_compute.logic.source import read_logic
from gifty_compute.queue.batches import BatchStore
from gifty_compute.queue.database import connect
from gifty_compute.queue.tasks import Origin
from gifty_compute.queue.upload import Upload, UploadLimits
from gifty_compute.wire.batch import BatchOptions
logic = read_logic(Path("configs/logic.local.yaml"))
batches = BatchStore(connect({database_url!r}), lambda: logic, SystemClock(), print)
limits = UploadLimits(line_bytes=2**20, bytes=2**30)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open({str(file)!r}, "rb") as source:
    before = peak()
    size = Path({str(file)!r}).stat().st_size
    upload = Upload(source, limits, gzip=True, length=size)
    batch = batches.submit(upload, BatchOptions(), Origin("shop")).batch
print(batch.total, batch.counts.pending, peak() - before)
"""

    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=110
    )

    assert ended.returncode == 0, ended.stderr
    total, pending, grown_kb = map(int, ended.stdout.split())
    assert total == pending == 100_000
    assert grown_kb < 20 * 1024  # the body is 72 MB


def test_lines_keep_their_order(batches: BatchStore, database: Database) -> None:
    batch = submit(batches, 2500).batch

    rows = execute(
        database,
        "SELECT (metadata->>'n')::int AS n FROM compute_tasks WHERE batch_id = :id ORDER BY seq",
        id=str(batch.id),
    )

    assert [row["n"] for row in rows] == list(range(2500))


def test_a_batch_is_checked_by_one_version_of_the_logic(database: Database, logic: Logic) -> None:
    asked = []
    batches = BatchStore(database, lambda: asked.append(1) or logic, SystemClock(), print)  # type: ignore[func-returns-value]

    submit(batches, 10)

    assert len(asked) == 1


def test_finish_by_is_in_the_future(batches: BatchStore, database: Database) -> None:
    with pytest.raises(InvalidRequest, match="not in the future") as refused:
        submit(batches, 1, finish_by=SystemClock().now() - timedelta(seconds=1))

    assert refused.value.param == "finish_by"
    assert nothing_is_stored(database)


def test_what_is_asked_of_the_whole_is_kept(batches: BatchStore) -> None:
    later = SystemClock().now() + timedelta(hours=1)

    batch = submit(batches, 1, finish_by=later, max_cost=1.25).batch

    assert (batch.finish_by, batch.max_cost, batch.cost_usd, batch.plan) == (later, 1.25, 0.0, None)


def test_when_the_database_breaks_off_during_the_copy_nothing_is_stored(
    batches: BatchStore, database: Database
) -> None:
    real = database.copy_on

    def kill(connection: Any, query: str, file: Any) -> None:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        execute(database, "SELECT pg_terminate_backend(:pid)", pid=pid)
        real(connection, query, file)

    database.copy_on = kill  # type: ignore[method-assign]

    with pytest.raises(StoreUnavailable):
        submit(batches, 3)

    assert nothing_is_stored(database)


def test_a_row_that_postgresql_refuses_is_not_quoted(batches: BatchStore, database: Database) -> None:
    execute(database, "ALTER TABLE compute_tasks ADD CONSTRAINT odd CHECK (tokens < 0) NOT VALID")
    try:
        with pytest.raises(Exception, match="PostgreSQL refused: CheckViolation 23514, odd") as refused:
            submit(batches, line("канарейка"))
    finally:
        execute(database, "ALTER TABLE compute_tasks DROP CONSTRAINT odd")

    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
    assert nothing_is_stored(database)


# -- once ----------------------------------------------------------------------------------------------------


def test_the_same_key_and_body_is_the_first_batch_again(batches: BatchStore, database: Database) -> None:
    first = submit(batches, 3, key="k")
    again = submit(batches, 3, key="k")

    assert (first.new, again.new) == (True, False)
    assert again.batch.id == first.batch.id
    assert again.ready == {}
    assert len(statuses(database, first.batch.id)) == 3


def test_a_repeat_is_known_by_its_bytes_even_where_it_would_no_longer_be_accepted(
    batches: BatchStore, database: Database
) -> None:
    soon = SystemClock().now() + timedelta(seconds=60)
    first = submit(batches, 3, key="k", finish_by=soon)
    later = BatchStore(database, _none, _Tomorrow(), print)

    again = submit(later, 3, key="k", finish_by=soon)

    assert again.batch.id == first.batch.id


def _none() -> Logic:
    raise AssertionError("a repeat needs no logic")


class _Tomorrow(SystemClock):
    def now(self) -> datetime:
        return super().now() + timedelta(days=1)


@pytest.mark.parametrize(("data", "options"), [(4, {}), (3, {"max_cost": 1.0})])
def test_the_same_key_with_another_body_or_options_is_a_conflict(
    batches: BatchStore, data: int, options: dict[str, Any]
) -> None:
    submit(batches, 3, key="k")

    with pytest.raises(IdempotencyConflict):
        submit(batches, data, key="k", **options)


def test_another_client_has_keys_of_its_own(batches: BatchStore) -> None:
    first = submit(batches, 1, key="k")
    other = batches.submit(upload(body(1)), BatchOptions(), Origin("other", idempotency_key="k"))

    assert other.new
    assert other.batch.id != first.batch.id


def test_the_same_key_twice_at_once_is_one_batch(batches: BatchStore, database: Database) -> None:
    both_have_looked = threading.Barrier(2)
    answers: list[Submitted] = []

    class Meeting(io.BytesIO):
        """Both have found no batch of this key before either reads."""

        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() == 0:
                both_have_looked.wait(20)
            return super().read(size)

    def send() -> None:
        data = body(2000)
        lines = Upload(Meeting(data), LIMITS, gzip=False, length=len(data))
        answers.append(batches.submit(lines, BatchOptions(), Origin("shop", idempotency_key="k")))

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(answer.new for answer in answers) == [False, True]
    assert len({answer.batch.id for answer in answers}) == 1
    assert execute(database, "SELECT count(*) AS n FROM compute_tasks") == [{"n": 2000}]


def test_a_body_that_breaks_off_leaves_nothing_and_its_key_free(
    batches: BatchStore, database: Database
) -> None:
    whole = body(50)
    half = Upload(io.BytesIO(whole[:1500]), LIMITS, gzip=False, length=len(whole))

    with pytest.raises(MalformedBody):
        batches.submit(half, BatchOptions(), Origin("shop", idempotency_key="k"))

    assert nothing_is_stored(database)
    assert submit(batches, whole, key="k").batch.total == 50


def test_no_transaction_is_open_while_the_sender_is_slow(batches: BatchStore, database: Database) -> None:
    seen: list[int] = []
    sql = """SELECT count(*) AS n FROM pg_stat_activity
             WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"""

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            seen.append(execute(database, sql)[0]["n"])
            return super().read(100)

    data = body(5)
    batches.submit(Upload(Slow(data), LIMITS, gzip=False, length=len(data)), BatchOptions(), Origin("shop"))

    assert len(seen) > 5
    assert set(seen) == {0}
