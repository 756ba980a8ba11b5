"""The SDK against the service itself: each call, each error, tasks that are waited for."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from flask import Flask

from gifty_compute.client import calls
from gifty_compute.client.asynchronous import AsyncClient
from gifty_compute.client.errors import (
    Busy,
    DeadlinePassed,
    InConflict,
    NotAllowed,
    NotThere,
    Refused,
    TaskFailed,
    Unreachable,
    UpstreamFailed,
)
from gifty_compute.client.sync import Client
from gifty_compute.core import Core
from gifty_compute.wire.task import Holder, Want
from tests.fakes.fault import Fault
from tests.fakes.server import FakeProviders
from tests.fakes.vectors import vector
from tests.integration.client.conftest import served

CATEGORIES = [{"id": 7, "name": "Рыбалка"}]
HELLO = [{"role": "user", "content": "Что подарить?"}]


def test_embeddings_are_an_array_and_say_where_they_are_from(client: Client) -> None:
    answer = client.embeddings(["чайник", "мяч"], input_type="query")

    assert np.allclose(answer.vectors, [vector("bge-m3", "чайник"), vector("bge-m3", "мяч")], atol=1e-6)
    assert answer.vectors.dtype == np.float32
    assert (answer.model, answer.space, answer.origin.provider) == ("bge-m3", "bge-m3", "intelligence_api")
    assert answer.origin.attempts == 1


def test_the_other_kinds_of_work(client: Client) -> None:
    ranking = client.rerank("подарок рыбаку", ["помада", "удочка рыбаку"], top_n=1)
    mappings = client.classify(["Удочки"], CATEGORIES).mappings
    score = client.score({"title": "Удочка", "price": 900})
    chat = client.chat(HELLO, model="smart", max_tokens=50)

    assert [ranked.index for ranked in ranking.results] == [1]
    assert len(ranking.scores) == 2
    assert [(row.external_name, row.internal_category_id) for row in mappings] == [("Удочки", 7)]
    assert (score.gift_score, score.tags) == (7.5, ["рыбалка"])
    assert (chat.content, chat.finish_reason, chat.origin.provider) == ("Подарите удочку.", "stop", "groq")
    assert chat.tokens is not None
    assert (chat.tokens.input, chat.tokens.output) == (9, 5)


def test_the_configured_categories_are_used_where_none_are_sent(client: Client) -> None:
    assert client.classify(["Удочки"]).mappings[0].internal_category_id == 7


def test_a_chat_is_streamed(client: Client) -> None:
    pieces = list(client.stream_chat(HELLO))

    assert "".join(piece.text for piece in pieces) == "Подарите удочку."
    assert sum(bool(piece.text) for piece in pieces) >= 2
    assert pieces[-1].finish_reason == "stop"


def test_leaving_a_stream_ends_it_at_the_provider(client: Client, fake: FakeProviders) -> None:
    fake.fault("groq", Fault.HUNG_STREAM)
    stream = client.stream_chat(HELLO)
    next(stream)

    stream.close()

    # Long before the deadline of 60 s: the facade writes now and then, and notices that nobody listens.
    assert fake.left.wait(20)


def test_an_error_in_the_middle_of_a_stream_is_raised(client: Client, fake: FakeProviders) -> None:
    fake.fault("groq", Fault.CUT_STREAM)

    with pytest.raises(UpstreamFailed):
        list(client.stream_chat(HELLO))


# -- errors --------------------------------------------------------------------------------------------------


def test_errors_are_typed_and_say_what_the_service_said(
    client: Client, service: str, connect: Callable[..., Client]
) -> None:
    with pytest.raises(Refused) as refused:
        client.embeddings([""])
    with pytest.raises(NotThere):
        client.tasks.get("00000000-0000-0000-0000-000000000000")
    with pytest.raises(NotAllowed):
        connect(service, "wrong").embeddings(["a"])

    assert (refused.value.status, refused.value.code, refused.value.param) == (422, "empty_text", "input.0")
    assert f"[422 empty_text, request {refused.value.request_id}]" in str(refused.value)


def test_a_failure_of_all_providers_is_an_error_and_never_a_vector(
    client: Client, fake: FakeProviders
) -> None:
    for provider in ("intelligence_api", "runpod", "openrouter"):
        fake.fault(provider, Fault.OVERLOADED)

    with pytest.raises(UpstreamFailed) as failed:
        client.embeddings(["a"])

    assert failed.value.code == "overloaded"


def test_a_timeout_is_the_services_too(client: Client, fake: FakeProviders) -> None:
    for provider in ("intelligence_api", "runpod", "openrouter"):
        fake.fault(provider, Fault.HANG)

    with pytest.raises((DeadlinePassed, Unreachable)):
        client.embeddings(["a"], timeout=0.5)


def test_who_is_to_come_back_later_than_the_timeout_is_told_when(client: Client, fake: FakeProviders) -> None:
    for provider in ("intelligence_api", "runpod", "openrouter"):
        fake.fault(provider, Fault.RATE_LIMITED_WAIT)

    with pytest.raises(Busy) as busy:
        client.embeddings(["a"])

    assert busy.value.retry_after == 30


def test_a_service_that_is_not_there_is_unreachable(connect: Callable[..., Client]) -> None:
    with pytest.raises(Unreachable, match=r"^http://127\.0\.0\.1:1 cannot be reached: .") as gone:
        connect("http://127.0.0.1:1", timeout=1).embeddings(["a"])

    assert not gone.value.sent


# -- low priority --------------------------------------------------------------------------------------------


class Worker(threading.Thread):
    """Does every embedding task that comes, as a worker would, until it is stopped."""

    def __init__(self, core: Core) -> None:
        super().__init__(daemon=True)
        self._core, self.stop = core, threading.Event()
        self.refuses: set[str] = set()

    def run(self) -> None:
        holder = Holder(worker_id="test", session="", credential="shared")
        while not self.stop.wait(0.02):
            for task in self._core.leases.claim(holder, Want(task_types=("embedding",), limit=10)).tasks:
                texts = task.payload["texts"]
                if self.refuses.intersection(texts):
                    self._core.leases.fail(holder, task, "out of memory", retryable=False)
                    continue
                rows = [vector("bge-m3", text).tolist() for text in texts]
                self._core.leases.complete(holder, task, {"embeddings": rows})


@pytest.fixture
def worker(core: Core) -> Any:
    worker = Worker(core)
    worker.start()
    yield worker
    worker.stop.set()
    worker.join(10)


def test_a_task_is_waited_for(client: Client, worker: Worker) -> None:
    handle = client.low.embeddings(["чайник"], metadata={"shop": 7})

    assert np.allclose(handle.result(20).vectors, [vector("bge-m3", "чайник")], atol=1e-6)
    assert handle.done()
    assert handle.task.metadata == {"shop": 7}
    assert client.tasks.get(handle.id).done()
    assert handle.id in [found.id for found in client.tasks.list(task_type="embedding")]


def test_a_task_that_no_worker_does_is_not_waited_for_longer_than_said(client: Client, core: Core) -> None:
    """Friction 1: the handle says what the task waits for."""
    handle = client.low.embeddings(["чайник"])
    core.maintainer.run_pass()
    core.samples.refresh()

    assert not handle.wait(0.1)
    assert handle.task.waiting_for == "no worker for embedding/bge-m3"
    with pytest.raises(TimeoutError, match=r"has not ended in 0.1 s: no worker for embedding/bge-m3$"):
        handle.result(0.1)


def test_a_task_that_failed_says_why(client: Client, core: Core) -> None:
    handle = client.low.embeddings(["чайник"], max_attempts=1)
    holder = Holder(worker_id="test", session="", credential="shared")
    [task] = core.leases.claim(holder, Want(task_types=("embedding",), limit=1)).tasks
    core.leases.fail(holder, task, "out of memory", retryable=False)

    with pytest.raises(TaskFailed, match="out of memory") as failed:
        handle.result(10)

    assert (failed.value.task_id, failed.value.status) == (handle.id, "failed")


def test_map_gives_every_vector_in_order_over_many_tasks(client: Client, worker: Worker, core: Core) -> None:
    texts = [f"товар номер {number}" for number in range(100)]

    found = list(client.map(iter(texts), tokens_a_task=30, tasks_ahead=5))

    assert np.allclose(found, [vector("bge-m3", text) for text in texts], atol=1e-6)
    assert len(list(client.tasks.list())) > 10


def test_a_second_run_finds_the_tasks_of_the_first(client: Client, worker: Worker) -> None:
    texts = [f"товар {number}" for number in range(30)]

    first = list(client.map(texts, tokens_a_task=30, run_id="nightly"))
    tasks = len(list(client.tasks.list()))
    again = list(client.map(texts, tokens_a_task=30, run_id="nightly"))

    assert np.array_equal(first, again)
    assert len(list(client.tasks.list())) == tasks


def test_a_second_run_tries_again_what_failed_in_the_first(client: Client, worker: Worker) -> None:
    texts = [f"товар {number}" for number in range(10)]
    worker.refuses.add("товар 5")
    with pytest.raises(TaskFailed, match="out of memory") as failed:
        list(client.map(texts, tokens_a_task=5, run_id="nightly"))
    tasks = len(list(client.tasks.list()))

    worker.refuses.clear()
    found = list(client.map(texts, tokens_a_task=5, run_id="nightly"))

    assert failed.value.__notes__ == ["at the texts 4 to 5 of this map"]
    assert np.allclose(found, [vector("bge-m3", text) for text in texts], atol=1e-6)
    assert len(list(client.tasks.list())) == tasks


def test_map_takes_no_more_texts_than_it_needs(client: Client, worker: Worker) -> None:
    taken: list[str] = []

    def texts() -> Iterator[str]:
        for number in range(1000):
            taken.append(f"товар {number:03}")
            yield taken[-1]

    vectors = client.map(texts(), tokens_a_task=6, tasks_ahead=3)
    next(vectors)
    vectors.close()

    # Three tasks of two texts, and the one that did not go into them.
    assert len(taken) == 7


def test_map_sits_out_a_restart_of_the_service(
    app: Flask, connect: Callable[..., Client], worker: Worker
) -> None:
    texts = [f"товар {number}" for number in range(20)]
    with ExitStack() as services:

        class Restart(logging.Handler):
            """The service is back as soon as the client has said that it is away."""

            def emit(self, record: logging.LogRecord) -> None:
                said.append(record.getMessage())
                if len(said) == 1:
                    services.enter_context(served(app, port))

        said: list[str] = []
        handler = Restart()
        plans_log = logging.getLogger("gifty_compute.client.plans")
        plans_log.addHandler(handler)
        services.callback(plans_log.removeHandler, handler)

        with served(app) as port:
            vectors = connect(f"http://127.0.0.1:{port}").map(texts, tokens_a_task=5, tasks_ahead=2)
            found = [next(vectors)]
        found += vectors

    assert np.allclose(found, [vector("bge-m3", text) for text in texts], atol=1e-6)
    assert f"http://127.0.0.1:{port} cannot be reached" in said[0]


def test_map_of_nothing_is_nothing(client: Client) -> None:
    assert list(client.map([])) == []


def test_progress_is_shown(client: Client, worker: Worker, capsys: pytest.CaptureFixture[str]) -> None:
    list(client.map(["чай", "мяч"], progress=True))

    assert "2/2" in capsys.readouterr().err


def test_texts_may_be_awaited_and_calls_made_side_by_side(service: str, worker: Worker) -> None:
    async def texts() -> AsyncIterator[str]:
        for number in range(20):
            await asyncio.sleep(0)
            yield f"товар {number}"

    async def go() -> list[Any]:
        async with AsyncClient(service, "api-token", timeout=20) as client:
            mapped = [vector async for vector in client.map(texts(), tokens_a_task=10, tasks_ahead=2)]
            handles = await asyncio.gather(*(client.low.embeddings([f"товар {n}"]) for n in range(20)))
            results = await asyncio.gather(*(handle.result(20) for handle in handles))
            return [mapped, [result.vectors[0] for result in results]]

    expected = [vector("bge-m3", f"товар {number}") for number in range(20)]
    for found in asyncio.run(go()):
        assert np.allclose(found, expected, atol=1e-6)


def test_a_wait_that_is_given_up_leaves_the_client_whole(service: str, worker: Worker) -> None:
    async def go() -> None:
        async with AsyncClient(service, "api-token", timeout=20) as client:
            handle = await client.low.classify(["никто не делает этого"])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(handle.result(), 0.2)
            assert not handle.done()
            assert (await client.tasks.wait(handle.id, 0)).task.status == "pending"

    asyncio.run(go())


# -- cancelling and retrying ---------------------------------------------------------------------------------


def test_a_cancelled_task_has_no_result(client: Client) -> None:
    handle = client.low.embeddings(["чайник"])

    handle.cancel()

    assert handle.done()
    with pytest.raises(TaskFailed, match=f"task {handle.id} was cancelled") as failed:
        handle.result(5)
    assert failed.value.status == "cancelled"
    assert client.tasks.cancel(handle.id).task.status == "cancelled"


def test_a_task_is_retried_by_its_handle_or_its_id(client: Client, worker: Worker) -> None:
    worker.refuses.add("чайник")
    handle = client.low.embeddings(["чайник"])
    with pytest.raises(TaskFailed):
        handle.result(20)

    handle.retry()
    assert not handle.done()
    with pytest.raises(TaskFailed):
        handle.result(20)

    worker.refuses.clear()
    again = client.tasks.retry(handle.id)
    assert np.allclose(again.result(20).vectors, [vector("bge-m3", "чайник")], atol=1e-6)


def test_what_has_ended_well_is_neither_cancelled_nor_retried(client: Client, worker: Worker) -> None:
    handle = client.low.embeddings(["чайник"])
    handle.wait(20)

    with pytest.raises(InConflict, match="is completed"):
        handle.cancel()
    with pytest.raises(InConflict, match="is completed"):
        handle.retry()
    with pytest.raises(NotThere):
        client.tasks.cancel("00000000-0000-0000-0000-000000000000")


def test_tasks_are_listed_by_what_they_are_over_all_pages(client: Client) -> None:
    made = [client.low.embeddings([f"товар {number}"]).id for number in range(103)]
    client.tasks.cancel(made[7])

    assert [handle.id for handle in client.tasks.list(task_type="embedding")] == made[::-1]
    assert [handle.id for handle in client.tasks.list(status="cancelled")] == [made[7]]
    assert list(client.tasks.list(task_type="llm")) == []


def test_the_same_key_finds_the_same_task_and_another_body_is_a_conflict(client: Client) -> None:
    first = client.low.embeddings(["чайник"], key="order-7")

    assert client.low.embeddings(["чайник"], key="order-7").id == first.id
    with pytest.raises(InConflict) as conflict:
        client.low.embeddings(["мяч"], key="order-7")
    assert conflict.value.code == "idempotency_conflict"


def test_more_texts_than_one_call_should_hold_are_one_answer(
    client: Client, fake: FakeProviders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3,000 texts were 422: one call takes 2048."""
    monkeypatch.setattr(calls, "_MOST_TEXTS", 10)
    texts = [f"подарок {number}" for number in range(25)]

    answer = client.embeddings(texts)

    np.testing.assert_allclose(answer.vectors, [vector("bge-m3", text) for text in texts], atol=1e-6)
    assert [len(call.body["input"]) for call in fake.calls("intelligence_api")] == [10, 10, 5]


def test_a_timeout_beyond_the_services_maximum_is_its_maximum(client: Client) -> None:
    """`timeout_ms` over the maximum is 422, also where the caller only meant to be patient."""
    assert client.embeddings(["чай"], timeout=100).origin.attempts == 1
