"""RunPod's own server, with which handlers are tried locally, in the place of RunPod.

It differs from the service: /status takes POST alone, and runs the job then; there is neither /cancel nor
/health, nor are there keys.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import requests

from gifty_compute.clock import Deadline
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import Failure, ProviderError
from gifty_compute.high import build_high_road
from gifty_compute.logic.file import OfferSection
from gifty_compute.logic.logic import Offer
from gifty_compute.logic.source import parse_logic
from gifty_compute.providers.base import Ask, Site
from gifty_compute.providers.runpod import RunpodProvider
from gifty_compute.transport.base import HttpRequest, HttpResponse, Transport
from gifty_compute.transport.curl import CurlTransport
from gifty_compute.transport.pooled import PooledTransport
from tests.e2e.service import eventually
from tests.fakes.server import FakeProviders
from tests.fakes.vectors import vector
from tests.fakes.vendors import vendors
from tests.integration.providers.conftest import CLOCK, NO_REDIS, WORK, call_of, logic_for
from tests.judges.upstream import free_port, upstream

HANDLER = Path(__file__).with_name("runpod_handler.py")
TEXTS = WORK["embedding"]["texts"]
FORMATS = ["gifty", "infinity", "infinity_openai"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, log = free_port(), tmp_path_factory.mktemp("runpod") / "log"
    where = ["--rp_api_host", "127.0.0.1", "--rp_api_port", str(port)]
    with upstream([sys.executable, str(HANDLER), "--rp_serve_api", *where], port, log):
        url = f"http://127.0.0.1:{port}"
        yield url
        # Whoever still waits there would hold up its end.
        requests.post(f"{url}/runsync", json={"input": {"texts": ["release"]}}, timeout=10)


class Noting(Transport):
    """Passes everything on, and notes what was asked and answered."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.exchanges: list[tuple[str, str, int]] = []

    def send(self, request: HttpRequest, deadline: Deadline) -> HttpResponse:
        response = self._inner.send(request, deadline)
        path = "/" + request.url.split("/", 3)[3]
        self.exchanges.append((request.method, path.partition("?")[0], response.status))
        return response

    def stream(self, request: HttpRequest, deadline: Deadline) -> Any:
        return self._inner.stream(request, deadline)

    def close(self) -> None:
        self._inner.close()

    @property
    def paths(self) -> list[tuple[str, str, int]]:
        """Without the ids of jobs."""
        return [(how, "/" + path.split("/")[1], status) for how, path, status in self.exchanges]


@pytest.fixture(params=[CurlTransport, PooledTransport], ids=["curl", "urllib3"])
def transport(request: pytest.FixtureRequest) -> Iterator[Noting]:
    made = Noting(request.param())
    yield made
    made.close()


def asking(
    server: str,
    payload: dict[str, Any],
    *,
    kind: Any = "embedding",
    form: str = "gifty",
    seconds: float = 20,
) -> Ask:
    section = parse_logic(f"providers: {{runpod: {{format: {form}}}}}").file.providers["runpod"]
    offer = Offer("runpod", section, kind, "bge-m3", OfferSection(), "bge-m3")
    placed = {"input_type": "passage", **payload}
    return Ask(offer, Site(server, "1", "any-key"), placed, Deadline.after(seconds, CLOCK))


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_of_a_handler_comes_through_runpods_own_program(
    server: str, transport: Noting, form: str
) -> None:
    reply = RunpodProvider(transport).run(asking(server, {"texts": TEXTS}, form=form))

    assert np.allclose(reply.result["embeddings"], [vector("bge-m3", text) for text in TEXTS], atol=1e-6)
    assert transport.paths == [("POST", "/runsync", 200)]


def test_documents_are_reranked_in_their_order(server: str, transport: Noting) -> None:
    reply = RunpodProvider(transport).run(asking(server, WORK["rerank"], kind="rerank"))

    assert reply.result["scores"][0] == reply.result["scores"][2] > reply.result["scores"][1]


def test_a_job_is_begun_and_looked_at_where_there_is_no_second_to_hold_the_call(
    server: str, transport: Noting
) -> None:
    reply = RunpodProvider(transport).run(asking(server, {"texts": TEXTS}, seconds=1))

    assert np.allclose(reply.result["embeddings"][0], vector("bge-m3", TEXTS[0]), atol=1e-6)
    assert transport.paths == [("POST", "/run", 200), ("GET", "/status", 405), ("POST", "/status", 200)]


ENDS = {
    "raise": (Failure.FAILOVER, "RuntimeError"),
    "refuse": (Failure.FATAL, "ValidationError"),
    "error": (Failure.FAILOVER, "job_failed"),
    "infinity's error": (Failure.FAILOVER, "error_inside"),
}


@pytest.mark.parametrize("seconds", [20, 1], ids=["runsync", "run"])
@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_fails_says_how_and_nothing_of_the_text(
    server: str, transport: Noting, caplog: pytest.LogCaptureFixture, end: str, seconds: float
) -> None:
    caplog.set_level(logging.DEBUG)

    with pytest.raises(ProviderError) as failed:
        RunpodProvider(transport).run(asking(server, {"texts": [end]}, seconds=seconds))

    assert (failed.value.failure, failed.value.code) == ENDS[end]
    assert "canary" not in str(failed.value) + caplog.text


def test_a_job_that_is_not_done_in_time_is_cancelled(
    server: str, transport: Noting, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ProviderError) as late:
        RunpodProvider(transport).run(asking(server, {"texts": ["hold"]}, seconds=1))
    eventually(lambda: caplog.text, within=20, what="the cancellation was answered")

    assert (late.value.failure, late.value.code) == (Failure.FAILOVER, "timeout")
    [(begun, _, _), *_, (how, cancelled, status)] = transport.exchanges
    assert (begun, how, status) == ("POST", "POST", 404)
    assert cancelled.startswith("/cancel/test-")
    # This server has no such path, so the operator is told.
    assert "may run on: cancelling it was answered 404" in caplog.text


@pytest.mark.parametrize("form", FORMATS)
def test_the_whole_road_takes_it_for_runpod(server: str, transport: Noting, form: str) -> None:
    environ = {"RUNPOD_API_BASE": server, "RUNPOD_API_KEY": "any-key"}
    high = build_high_road(
        environ, NO_REDIS, Inference(EngineShelf(), CLOCK), CLOCK, Random(1), transport=transport
    )
    logic = logic_for("runpod", "embedding", f"providers: {{runpod: {{format: {form}}}}}")

    answer = high.router.run(call_of(logic, "embedding"))

    assert (answer.provider, answer.result["space"]) == ("runpod", "bge-m3")
    assert np.allclose(answer.result["embeddings"], [vector("bge-m3", text) for text in TEXTS], atol=1e-6)


Work = dict[str, Any]
JOBS: dict[str, Work] = {
    "gifty": {"texts": TEXTS, "model": "bge-m3"},
    "infinity": {"input": TEXTS, "model": "BAAI/bge-m3"},
    "infinity_openai": {
        "openai_route": "/v1/embeddings",
        "openai_input": {"model": "bge-m3", "input": TEXTS},
    },
    "rerank": {"query": "подарок", "docs": ["мяч", "подарок"], "model": "r", "return_docs": False},
}


@pytest.mark.parametrize("name", JOBS)
def test_the_fake_says_all_that_runpods_server_says(server: str, name: str) -> None:
    def ask(url: str) -> Work:
        headers = {"authorization": "Bearer good-key"}
        answer = requests.post(f"{url}/runsync", json={"input": JOBS[name]}, headers=headers, timeout=20)
        found: Work = answer.json()
        return found

    with FakeProviders() as fake:
        ours, theirs = ask(fake.base_url("runpod")), ask(server)

    assert set(theirs) <= set(ours)
    assert {**theirs, "id": ""} == {**{name: ours[name] for name in theirs}, "id": ""}


def test_the_fakes_failed_job_has_the_form_of_a_real_one(server: str) -> None:
    failing = {"input": {"texts": ["raise"]}}
    real = requests.post(f"{server}/runsync", json=failing, timeout=20).json()

    fake = vendors()["runpod"].inside

    assert set(fake) == set(real)
    assert set(json.loads(fake["error"])) == set(json.loads(real["error"]))
