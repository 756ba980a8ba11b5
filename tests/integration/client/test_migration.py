"""Every call that Gifty's backend makes today, after the one changed import line."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gifty_compute import compat
from gifty_compute.client.errors import Refused, UpstreamFailed
from gifty_compute.client.handles import AsyncTaskHandle
from gifty_compute.client.sync import Client
from gifty_compute.compat import LLMFactory, LLMResponse, Message, get_intelligence_client
from gifty_compute.core import Core
from gifty_compute.wire.task import Holder, Want
from tests.fakes.fault import Fault
from tests.fakes.server import FakeProviders
from tests.fakes.vectors import vector


@pytest.fixture(autouse=True)
def backend(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend's environment."""
    monkeypatch.setenv("GIFTY_COMPUTE_URL", service)
    monkeypatch.setenv("GIFTY_COMPUTE_TOKEN", "api-token")
    monkeypatch.setattr(compat, "_process", compat._Process())


def test_the_signatures_are_those_of_the_backend() -> None:
    def parameters(function: Any) -> list[str]:
        return [
            str(p).partition(":")[0].partition("=")[0]
            for p in inspect.signature(function).parameters.values()
        ]

    client = compat.IntelligenceAPIClient
    assert parameters(client.get_embeddings) == ["self", "texts", "priority", "db"]
    assert parameters(client.rerank) == ["self", "query", "documents", "priority", "db"]
    assert parameters(compat.LLMClient.generate_text) == [
        "self",
        "messages",
        "model",
        "system_prompt",
        "max_tokens",
        "temperature",
        "stops",
        "json_mode",
    ]
    defaults = {
        name: p.default for name, p in inspect.signature(compat.LLMClient.generate_text).parameters.items()
    }
    assert (defaults["max_tokens"], defaults["temperature"], defaults["json_mode"]) == (1000, 0.7, False)


@pytest.mark.parametrize("name", ["migration.md", "migration.ru.md"])
def test_the_import_lines_of_the_document_are_good(name: str) -> None:
    text = (Path(__file__).parents[3] / "docs" / name).read_text(encoding="utf-8")
    lines = re.findall(r"`(from gifty_compute\.compat import [\w, ]+)`", text)

    found: dict[str, Any] = {}
    for line in lines:
        exec(line, found)
    assert {
        "get_intelligence_client",
        "IntelligenceAPIClient",
        "Message",
        "LLMResponse",
        "LLMFactory",
    } <= set(found)


def test_online_embeddings_and_reranking() -> None:
    async def go() -> None:
        client = get_intelligence_client()
        assert client is get_intelligence_client()
        vectors = await client.get_embeddings(["чайник"])
        assert isinstance(vectors, list)
        assert vectors[0] == pytest.approx(list(vector("bge-m3", "чайник")), abs=1e-6)
        scores = await client.rerank(
            "подарок рыбаку", ["удочка рыбаку", "помада"], priority="high", db=object()
        )
        assert isinstance(scores, list)
        first, second = scores
        assert first is not None
        assert second is not None
        assert first > second

    asyncio.run(go())


def test_offline_work_gives_a_handle_and_needs_no_session() -> None:
    async def go() -> None:
        client = get_intelligence_client()
        embedding = await client.get_embeddings(["чайник"], priority="low", db=None)
        rerank = await client.rerank("q", ["a"], "low", None)
        assert isinstance(embedding, AsyncTaskHandle)
        assert isinstance(rerank, AsyncTaskHandle)
        assert embedding.task.status == "pending"

    asyncio.run(go())


def test_a_handle_is_awaited(core: Core) -> None:
    async def go() -> None:
        handle = await get_intelligence_client().get_embeddings(["чайник"], priority="low")
        assert isinstance(handle, AsyncTaskHandle)
        assert not await handle.wait(0)
        holder = Holder(worker_id="test", session="", credential="shared")
        [task] = core.leases.claim(holder, Want(task_types=("embedding",), limit=1)).tasks
        core.leases.complete(holder, task, {"embeddings": [vector("bge-m3", "чайник").tolist()]})

        assert await handle.wait(20)
        assert (await handle.result()).vectors[0] == pytest.approx(list(vector("bge-m3", "чайник")), abs=1e-6)
        assert Client().tasks.get(handle.id).result().space == "bge-m3"

    asyncio.run(go())


@contextmanager
def filled(pool: ThreadPoolExecutor) -> Iterator[None]:
    """As if every thread of the pool were waiting for an answer, and callers for a thread."""
    end = threading.Event()
    waiting = [pool.submit(end.wait, 60) for _ in range(200)]
    try:
        yield
    finally:
        for wait in waiting:
            wait.cancel()
        end.set()


def test_who_waits_for_tasks_is_in_nobodys_way() -> None:
    async def go() -> None:
        client = get_intelligence_client()
        assert len(await client.get_embeddings(["чайник"])) == 1  # type: ignore[arg-type]
        assert isinstance(await client.get_embeddings(["чайник"], priority="low"), AsyncTaskHandle)

    with filled(compat._process.waits):
        asyncio.run(asyncio.wait_for(go(), 30))


def test_who_waits_for_tasks_does_not_wait_for_others() -> None:
    handle: Any = asyncio.run(get_intelligence_client().get_embeddings(["чайник"], priority="low"))

    with filled(compat._process.calls):
        assert not asyncio.run(asyncio.wait_for(handle.wait(0.2), 30))


def test_a_child_after_a_fork_makes_its_calls_too(service: str) -> None:
    code = """
import asyncio, os, signal
from gifty_compute.compat import get_intelligence_client
client = get_intelligence_client()
assert len(asyncio.run(client.get_embeddings(["чайник"]))) == 1
child = os.fork()
signal.alarm(50)  # neither outlives the test
assert len(asyncio.run(client.get_embeddings(["мяч"]))) == 1
assert len(asyncio.run(get_intelligence_client().get_embeddings(["мяч"]))) == 1
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_all_clients_of_a_process_share_their_connections() -> None:
    assert LLMFactory.get_client()._client is LLMFactory.get_client("groq")._client
    assert LLMFactory.get_client()._client is get_intelligence_client()._client


def test_categories_and_scores() -> None:
    async def go() -> None:
        client = get_intelligence_client()
        mappings = await client.classify_categories(["Удочки"], [{"id": 7, "name": "Рыбалка"}])
        assert isinstance(mappings, list)
        assert mappings[0]["internal_category_id"] == 7
        score = await client.score_product("Удочка", price=900.0)
        assert isinstance(score, dict)
        assert score["gift_score"] == 7.5
        assert isinstance(await client.score_product("Удочка", priority="low"), AsyncTaskHandle)

    asyncio.run(go())


@pytest.mark.parametrize(
    ("provider", "model", "asked"),
    [
        (None, "claude-x", "openai/gpt-oss-20b"),
        ("groq", "fast", "openai/gpt-oss-20b"),
        ("groq", "qwen/qwen3.6-27b", "qwen/qwen3.6-27b"),
    ],
)
def test_language_models(fake: FakeProviders, provider: str | None, model: str, asked: str) -> None:
    async def go() -> LLMResponse:
        return await LLMFactory.get_client(provider).generate_text(
            messages=[Message(role="user", content="Что подарить?")],
            model=model,
            system_prompt="Отвечай кратко.",
            max_tokens=300,
            temperature=0.2,
            stops=["\n\n"],
        )

    response = asyncio.run(go())

    assert response.content == "Подарите удочку."
    assert (response.usage["input_tokens"], response.usage["total_tokens"]) == (9, 14)
    assert response.finish_reason == "stop"
    sent = fake.calls("groq")[0].body
    assert sent["model"] == asked
    assert [turn["role"] for turn in sent["messages"]] == ["system", "user"]
    assert (sent["max_completion_tokens"], sent["temperature"], sent["stop"]) == (300, 0.2, ["\n\n"])


def test_json_mode(fake: FakeProviders) -> None:
    async def go() -> LLMResponse:
        client = LLMFactory.get_client()
        return await client.generate_text([Message(role="user", content="JSON?")], "fast", json_mode=True)

    assert asyncio.run(go()).content == '{"ok": true}'


def test_where_zeros_came_back_an_error_is_raised(fake: FakeProviders) -> None:
    for provider in ("intelligence_api", "runpod", "openrouter"):
        fake.fault(provider, Fault.OVERLOADED)

    with pytest.raises(UpstreamFailed):
        asyncio.run(get_intelligence_client().get_embeddings(["чайник"]))


def test_an_empty_text_has_none_in_its_place_and_stops_no_other(fake: FakeProviders) -> None:
    """F3: the backend's job sends `content_text or ""` in batches of 32 and ends at an exception."""
    texts = ["чайник", "", "мяч", " \n"]

    vectors: Any = asyncio.run(get_intelligence_client().get_embeddings(texts))

    assert [one is None for one in vectors] == [False, True, False, True]
    assert vectors[2] == pytest.approx(list(vector("bge-m3", "мяч")), abs=1e-6)
    assert [call.body["input"] for call in fake.calls("intelligence_api")] == [["чайник", "мяч"]]


def test_a_refusal_says_that_its_positions_are_counted_without_empty_texts() -> None:
    """F3: `input.1` was said of the third text, behind an empty one."""
    with pytest.raises(Refused, match=r"input\.1:") as refused:
        asyncio.run(get_intelligence_client().get_embeddings(["чай", "", "ч" * 40_000]))

    assert refused.value.__notes__ == ["its positions are counted without the empty texts at 1"]


def test_an_empty_document_has_none_in_place_of_its_score() -> None:
    """F3."""
    documents = ["удочка рыбаку", "", "помада"]

    scores: Any = asyncio.run(get_intelligence_client().rerank("подарок рыбаку", documents))

    assert scores[1] is None
    assert scores[0] > scores[2]


def test_an_empty_name_has_no_category() -> None:
    """F3, in the same words elsewhere."""
    tree = [{"id": 7, "name": "Рыбалка"}]

    mappings: Any = asyncio.run(get_intelligence_client().classify_categories(["", "Удочки"], tree))

    assert mappings[0] == {"external_name": "", "internal_category_id": None, "confidence": None}
    assert (mappings[1]["external_name"], mappings[1]["internal_category_id"]) == ("Удочки", 7)


def test_where_nothing_but_empty_texts_is_asked_for_nothing_is_sent(fake: FakeProviders) -> None:
    """F3: a hypothesis without a title is an empty query."""

    async def go() -> list[Any]:
        client = get_intelligence_client()
        return [
            await client.get_embeddings(["", " "]),
            await client.rerank("", ["удочка", "помада"]),
            await client.rerank("подарок", [""]),
        ]

    assert asyncio.run(go()) == [[None, None], [None, None], [None]]
    assert not fake.calls("intelligence_api")


def test_a_task_with_empty_texts_is_refused_with_all_of_them_named() -> None:
    """F3: its result is read elsewhere, by position; so nothing may be left out of it."""
    with pytest.raises(Refused, match=r"^payload\.texts\.1, payload\.texts\.3: text is empty"):
        asyncio.run(get_intelligence_client().get_embeddings(["a", "", "b", ""], priority="low"))


def test_a_priority_that_is_none_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="high or low"):
        asyncio.run(get_intelligence_client().get_embeddings(["чайник"], priority="urgent"))
