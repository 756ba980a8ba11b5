"""The SDK's batches against the service itself, blocking and awaiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from flask import Flask, request

from gifty_compute.client.asynchronous import AsyncClient
from gifty_compute.client.errors import InConflict, NotThere, Refused, Unreachable
from gifty_compute.client.lines import Lines
from gifty_compute.client.sync import Client
from gifty_compute.clock import SystemClock
from gifty_compute.core import Core
from gifty_compute.errors import StoreUnavailable
from gifty_compute.queue import formats, results
from gifty_compute.wire.task import Holder, Task, Want
from tests.integration.client.conftest import served

HOLDER = Holder(worker_id="w", credential="c")
DIM = 1024


def lines(count: int) -> Any:
    line = Lines()
    return (line.embeddings([f"чайник {n}"], metadata={"n": n}) for n in range(count))


def vector(n: int) -> Any:
    return np.random.default_rng(n).normal(size=(1, DIM)).astype(np.float32)


def claim(core: Core) -> tuple[Task, ...]:
    return core.leases.claim(HOLDER, Want(limit=100, models=("bge-m3",))).tasks


def work(core: Core, *, failing: int = -1) -> None:
    for task in claim(core):
        n = int(task.payload["texts"][0].split()[1])
        if n == failing:
            core.leases.fail(HOLDER, task, "too hot", retryable=False)
        else:
            core.leases.complete(HOLDER, task, {"embeddings": vector(n)})
    core.maintainer.run_pass()


def test_a_batch_is_handed_over_waited_for_and_read_in_order(client: Client, core: Core) -> None:
    batch = client.batches.submit(lines(30))
    early = batch.wait(0)
    work(core, failing=7)

    ended = batch.wait(10)

    found = list(batch.results())
    assert (early, ended, batch.done()) == (False, True, True)
    assert (batch.batch.total, batch.batch.counts.completed, batch.batch.counts.failed) == (30, 29, 1)
    assert [one.position for one in found] == list(range(30))
    assert [one.metadata for one in found] == [{"n": n} for n in range(30)]
    assert (found[7].status, found[7].error, found[7].value) == ("failed", "too hot", None)
    assert np.array_equal(found[8].value.vectors, vector(8))
    assert (found[8].value.space, found[8].task_type) == ("bge-m3", "embedding")
    assert client.tasks.get(found[7].task_id).task.error == "too hot"


def test_lines_are_the_work_of_low_and_any_mapping(client: Client, core: Core) -> None:
    line = client.batches.line
    batch = client.batches.submit(
        [
            line.rerank("чай", ["кружка", "мяч"], priority="high"),
            line.classify(["Удочки"], [{"id": 7, "name": "Рыбалка"}]),
            line.chat([{"role": "user", "content": "Что подарить?"}], max_attempts=2),
            line.score([{"id": 1, "title": "Удочка"}]),
            {"task_type": "embedding", "payload": {"texts": ["a"]}},
        ]
    )

    types = [one.task_type for one in batch.results()]

    assert types == ["rerank", "classify", "llm", "score", "embedding"]
    with pytest.raises(TypeError, match="give one to the batch"):
        line.embeddings(["a"], key="k")
    with pytest.raises(TypeError, match="mappings"):
        client.batches.submit([line.embeddings(["a"]), "text"])  # type: ignore[list-item]


def test_the_same_key_finds_the_same_batch_and_other_lines_are_a_conflict(client: Client) -> None:
    first = client.batches.submit(lines(3), key="night-7")
    again = client.batches.submit(lines(3), key="night-7")

    assert again.id == first.id
    assert client.batches.get(first.id).id == first.id
    with pytest.raises(InConflict):
        client.batches.submit(lines(4), key="night-7")


def test_a_batch_is_cancelled_and_taken_up_again(client: Client, core: Core) -> None:
    batch = client.batches.submit(lines(3))

    batch.cancel()
    cancelled = batch.batch.counts.cancelled
    core.maintainer.run_pass()
    batch.retry()

    assert cancelled == 3
    assert batch.batch.counts.pending == 3
    work(core)
    assert batch.wait(10)
    with pytest.raises(InConflict):
        batch.retry()


def test_what_is_asked_of_the_whole_reaches_the_service(client: Client) -> None:
    later = SystemClock().now() + timedelta(hours=1)

    batch = client.batches.submit(lines(1), finish_by=later, max_cost=0.1).batch

    assert (batch.finish_by, batch.max_cost) == (later, 0.1)
    with pytest.raises(ValueError, match="its zone"):
        client.batches.submit(lines(1), finish_by=datetime(2999, 1, 1))


def test_a_bad_line_is_named_and_an_unknown_batch_is_not_there(client: Client) -> None:
    with pytest.raises(Refused, match="line 2: text"):
        client.batches.submit([*lines(1), {"task_type": "embedding", "payload": {"texts": ["\ud800"]}}])
    with pytest.raises(NotThere):
        client.batches.get("00000000-0000-0000-0000-000000000000")


def test_results_are_read_from_a_position_on(client: Client, core: Core) -> None:
    batch = client.batches.submit(lines(5))

    assert [one.position for one in batch.results(first=3)] == [3, 4]
    assert [one.status for one in batch.results(first=4)] == ["pending"]


def test_a_reader_goes_on_where_the_stream_broke(
    client: Client, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database goes away behind each page; the service says so in the last line."""
    batch = client.batches.submit(lines(25))
    monkeypatch.setattr(results, "_ROWS_A_PAGE", 10)
    monkeypatch.setattr(formats, "_PIECE", 1)
    real, asked = results.BatchResults._page, []

    def once_each(self: Any, sight: Any, batch_id: Any, *, after: int) -> Any:
        asked.append(after)
        return real(self, sight, batch_id, after=after) if len(asked) % 2 else results_gone()

    monkeypatch.setattr(results.BatchResults, "_page", once_each)

    assert [one.position for one in batch.results()] == list(range(25))
    assert len(asked) == 6


def results_gone() -> Any:
    raise StoreUnavailable("the database does not answer; try again")


def test_a_stream_that_brings_nothing_is_not_read_for_ever(
    client: Client, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = client.batches.submit(lines(5))
    monkeypatch.setattr("api.batch_results.json_lines", _half_a_line)

    with pytest.raises(Unreachable, match="within the line of position 0"):
        list(batch.results())


def _half_a_line(*_: Any) -> Any:
    yield b'{"id": "'


def test_many_lines_go_in_one_batch(client: Client, core: Core) -> None:
    batch = client.batches.submit(lines(20_000))

    assert batch.batch.total == 20_000


def test_the_lines_of_an_async_client_may_be_awaited(service: str, core: Core) -> None:
    async def coming() -> AsyncIterator[dict[str, Any]]:
        for line in lines(3):
            await asyncio.sleep(0)
            yield line

    async def go() -> list[int]:
        async with AsyncClient(service, "api-token", timeout=20) as client:
            batch = await client.batches.submit(coming())
            return [one.position async for one in batch.results()]

    assert asyncio.run(go()) == [0, 1, 2]


def test_an_upload_is_repeated_from_its_beginning(
    app: Flask, connect: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[int] = []

    @app.before_request
    def busy_at_first() -> Any:
        if request.path == "/v1/batches":
            answered.append(request.content_length or 0)
            if len(answered) == 1:
                return ("", 503, {"Retry-After": "0"})
        return None

    with served(app) as port:
        batch = connect(f"http://127.0.0.1:{port}", timeout=20).batches.submit(lines(500))

    assert batch.batch.total == 500
    assert len(answered) == 2
    assert answered[0] == answered[1] > 0


def test_without_numpy_vectors_are_lists(client: Client, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = client.batches.submit(lines(2))
    tasks = claim(core)
    core.leases.complete(HOLDER, tasks[0], {"embeddings": vector(0).astype(np.float16)})
    core.leases.complete(HOLDER, tasks[1], {"embeddings": vector(1)})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    half, full = [one.value.vectors for one in batch.results()]

    assert half == vector(0).astype(np.float16).astype(np.float32).tolist()
    assert full == vector(1).tolist()


def test_the_wire_is_gzip_with_a_length(app: Flask, connect: Callable[..., Client]) -> None:
    seen: list[Any] = []

    @app.before_request
    def look() -> None:
        seen.append((request.path, request.headers.get("Content-Encoding"), request.content_length))

    with served(app) as port:
        connect(f"http://127.0.0.1:{port}", timeout=20).batches.submit(lines(2000))

    assert seen[0][:2] == ("/v1/batches", "gzip")
    assert 1000 < seen[0][2] < 100_000
