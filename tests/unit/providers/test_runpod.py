"""RunPod: three formats of a handler, jobs that wait, fail, vanish, and are cancelled."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import pytest

from gifty_compute.errors import Failure, ProviderError, TransportError
from gifty_compute.logic import defaults
from gifty_compute.providers.base import Ask, Usage
from gifty_compute.providers.runpod import RunpodProvider
from gifty_compute.transport.base import HttpRequest, HttpResponse
from tests.unit.conftest import HandClock
from tests.unit.providers.scripted import KEY, ScriptedTransport, answered, asking

TEXTS = {"texts": ["a", "b"], "input_type": "passage"}
VECTORS = [[1.0, 0.0], [0.0, 2.0]]
DATA = [
    {"object": "embedding", "embedding": row, "index": i} for i, row in reversed(list(enumerate(VECTORS)))
]
LIST = {"object": "list", "model": "m", "data": DATA, "usage": {"prompt_tokens": 5, "total_tokens": 5}}


def job(status: str = "COMPLETED", **fields: Any) -> HttpResponse:
    return answered({"id": "job-1", "status": status, "delayTime": 10, **fields})


def asked(
    kind: str = "embedding", payload: dict[str, Any] | None = None, *, form: str = "gifty", **more: Any
) -> Ask:
    section = defaults.PROVIDERS["runpod"].model_copy(update={"format": form})
    return asking("runpod", kind, payload or TEXTS, model_id="bge-m3", section=section, **more)


FORMS = {
    "gifty": ({"texts": ["a", "b"], "model": "bge-m3"}, {"embeddings": VECTORS}, None),
    "infinity": ({"model": "bge-m3", "input": ["a", "b"]}, LIST, Usage(5)),
    "infinity_openai": (
        {"openai_route": "/v1/embeddings", "openai_input": {"model": "bge-m3", "input": ["a", "b"]}},
        [LIST],
        Usage(5),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_format_of_a_handler_is_spoken(form: str) -> None:
    sent, output, usage = FORMS[form]
    transport = ScriptedTransport(job(output=output, executionTime=1500))

    reply = RunpodProvider(transport).run(asked(form=form))

    assert transport.body == {"input": sent}
    assert transport.request.headers["authorization"] == f"Bearer {KEY}"
    assert reply.result["embeddings"].tolist() == VECTORS
    assert (reply.usage, reply.billed_seconds, reply.cost_usd) == (usage, 1.5, None)


def test_documents_are_reranked_by_their_index() -> None:
    results = [{"relevance_score": 0.1, "index": 1}, {"relevance_score": 0.9, "index": 0}]
    transport = ScriptedTransport(job(output={"model": "m", "results": results}))

    reply = RunpodProvider(transport).run(asked("rerank", {"query": "q", "documents": ["a", "b"]}))

    assert transport.body == {
        "input": {"model": "bge-m3", "query": "q", "docs": ["a", "b"], "return_docs": False}
    }
    assert reply.result["scores"] == [0.9, 0.1]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"kind": "bi-encoder"}, "bi-encoder"),
        ({"kind": "cross-encoder"}, "cross-encoder"),
        ({"kind": "colbert"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_the_kind_of_a_reranker_is_what_its_handler_says(said: dict[str, Any], kind: str) -> None:
    """F8: our own handler says it; the infinity worker says nothing."""
    output = {"model": "m", "results": [{"relevance_score": 0.1, "index": 0}], **said}

    reply = RunpodProvider(ScriptedTransport(job(output=output))).run(
        asked("rerank", {"query": "q", "documents": ["a"]})
    )

    assert reply.result["kind"] == kind


SPACE = defaults.SPACES["bge-m3"]
# As Python's json writes a number of float32, with the separator: 21 bytes measured.
BYTES_A_NUMBER = 21.2


def handler(request: HttpRequest) -> HttpResponse:
    """Any format's handler: the length of each text is its vector's first number."""
    work = json.loads(request.body or b"")["input"]
    if "docs" in work:
        rows = [{"relevance_score": float(len(d)), "index": i} for i, d in enumerate(work["docs"])]
        return job(output={"kind": "bi-encoder", "results": rows}, executionTime=500)
    texts = work.get("texts") or work.get("input") or work["openai_input"]["input"]
    vectors = [[float(len(text)), 1.0] for text in texts]
    if "texts" in work:
        return job(output={"embeddings": vectors}, executionTime=500)
    data = [{"embedding": row, "index": index} for index, row in enumerate(vectors)]
    return job(output={"data": data, "usage": {"prompt_tokens": len(texts)}}, executionTime=500)


def texts_of(transport: ScriptedTransport) -> list[list[str]]:
    jobs = [body["input"] for body in transport.bodies]
    return [
        work.get("texts") or work.get("input") or work.get("docs") or work["openai_input"]["input"]
        for work in jobs
    ]


@pytest.mark.parametrize(("seconds", "path", "most"), [(60, "/runsync", 20e6), (1, "/run", 10e6)])
@pytest.mark.parametrize("form", FORMS)
def test_a_job_is_no_larger_than_its_answer_may_be_at_runpod(
    form: str, seconds: float, path: str, most: float
) -> None:
    """F9: 10 MB for /run and 20 MB for /runsync; a text of 1024 numbers is answered with 21.7 kB."""
    texts = ["я" * (1 + n % 7) for n in range(2048)]
    transport = ScriptedTransport(*[handler] * 12)
    payload = {"texts": texts, "input_type": "passage"}

    reply = RunpodProvider(transport).run(asked(payload=payload, form=form, seconds=seconds, space=SPACE))

    jobs = texts_of(transport)
    assert [text for part in jobs for text in part] == texts
    assert len(jobs) > 1
    assert all(path in request.url for request in transport.requests)
    assert max(len(part) for part in jobs) * 1024 * BYTES_A_NUMBER < most
    assert reply.result["embeddings"][:, 0].tolist() == [len(text) for text in texts]
    assert reply.billed_seconds == 0.5 * len(jobs)
    assert reply.usage == (None if form == "gifty" else Usage(2048))


@pytest.mark.parametrize("kind", ["embedding", "rerank"])
def test_a_job_is_no_larger_than_a_request_may_be_at_runpod(kind: str) -> None:
    """F9: what is sent counts, too."""
    texts = ["я" * 32_000 for _ in range(400)]
    payloads = {
        "embedding": {"texts": texts, "input_type": "passage"},
        "rerank": {"query": "q" * 30_000, "documents": texts},
    }
    transport = ScriptedTransport(*[handler] * 12)

    RunpodProvider(transport).run(asked(kind, payloads[kind], space=SPACE, seconds=60))

    jobs = texts_of(transport)
    assert sum(map(len, jobs)) == 400
    assert max(len(request.body or b"") for request in transport.requests) < 20e6
    assert len(jobs) == 2


def test_documents_in_several_jobs_keep_their_order_and_the_kind_that_all_jobs_say() -> None:
    """F9 and F8."""
    documents = ["я" * (32_000 - n % 5) for n in range(400)]
    transport = ScriptedTransport(*[handler] * 12)

    reply = RunpodProvider(transport).run(asked("rerank", {"query": "q", "documents": documents}, seconds=60))

    assert reply.result == {"scores": [len(document) for document in documents], "kind": "bi-encoder"}
    assert reply.billed_seconds == 1.0


def test_the_call_is_held_for_almost_all_of_the_time_that_is_left() -> None:
    transport = ScriptedTransport(job(output={"embeddings": VECTORS}))

    RunpodProvider(transport).run(asked(seconds=4))

    assert transport.request.url == "http://runpod.test/runsync?wait=3850"


@pytest.mark.parametrize("seconds", [0.3, 1.0])
def test_with_less_than_a_second_the_job_is_started_and_looked_at(seconds: float) -> None:
    clock = HandClock()
    transport = ScriptedTransport(job("IN_QUEUE"), job("IN_PROGRESS"), job(output={"embeddings": VECTORS}))

    reply = RunpodProvider(transport).run(asked(seconds=seconds, clock=clock))

    assert [(r.method, r.url.rpartition(".test")[2]) for r in transport.requests] == [
        ("POST", "/run"),
        ("GET", "/status/job-1"),
        ("GET", "/status/job-1"),
    ]
    assert reply.result["embeddings"].tolist() == VECTORS
    assert clock.monotonic() == pytest.approx(1000.15)


def test_a_server_that_wants_post_is_looked_at_by_post() -> None:
    """RunPod's own for trying a handler, which knows no GET."""
    done = job(output={"embeddings": VECTORS})
    transport = ScriptedTransport(job("IN_PROGRESS"), answered({"detail": "Method Not Allowed"}, 405), done)

    reply = RunpodProvider(transport).run(asked(seconds=1))

    assert [r.method for r in transport.requests] == ["POST", "GET", "POST"]
    assert transport.requests[2].url == transport.requests[1].url
    assert reply.result["embeddings"].tolist() == VECTORS


class Cancelling(ScriptedTransport):
    """Tells when a cancellation has come."""

    def __init__(self, *doings: Any) -> None:
        super().__init__(*doings)
        self.cancelled = threading.Event()

    def send(self, request: HttpRequest, deadline: Any) -> HttpResponse:
        if "/cancel/" in request.url:
            self.requests.append(request)
            self.cancelled.set()
            return answered({"id": "job-1", "status": "CANCELLED"})
        return super().send(request, deadline)


def test_a_job_that_is_not_done_in_time_is_cancelled_off_the_callers_path() -> None:
    transport = Cancelling(*[job("IN_PROGRESS")] * 50)

    with pytest.raises(ProviderError) as caught:
        RunpodProvider(transport).run(asked())

    assert (caught.value.code, caught.value.failure) == ("timeout", Failure.FAILOVER)
    assert transport.cancelled.wait(10)
    assert transport.requests[-1].url == "http://runpod.test/cancel/job-1"


def test_a_job_is_looked_at_until_just_before_the_deadline() -> None:
    """The pauses grow to half a second, in which many a job ends."""
    clock = HandClock()
    transport = Cancelling(*[job("IN_PROGRESS")] * 50)
    began = clock.monotonic()

    with pytest.raises(ProviderError):
        RunpodProvider(transport).run(asked(seconds=2, clock=clock))

    assert clock.monotonic() - began == pytest.approx(1.95)


def test_a_job_is_never_a_path() -> None:
    transport = ScriptedTransport(
        answered({"id": "../run?x=", "status": "IN_QUEUE"}), job(output={"embeddings": VECTORS})
    )

    RunpodProvider(transport).run(asked())

    assert transport.requests[1].url == "http://runpod.test/status/..%2Frun%3Fx%3D"


@pytest.mark.parametrize(
    "trouble",
    [TransportError(code="connection_lost"), answered({}, 500), answered({}, 429), answered(b"<p>")],
)
def test_a_job_that_cannot_be_looked_at_any_more_is_cancelled_too(
    trouble: HttpResponse | TransportError,
) -> None:
    transport = Cancelling(job("IN_QUEUE"), trouble)

    with pytest.raises(ProviderError):
        RunpodProvider(transport).run(asked())

    assert transport.cancelled.wait(10)


def test_a_job_that_ended_badly_is_not_cancelled() -> None:
    transport = Cancelling(job("IN_QUEUE"), job("FAILED", error="boom"))

    with pytest.raises(ProviderError):
        RunpodProvider(transport).run(asked())

    assert not transport.cancelled.is_set()


def test_a_job_that_is_gone_is_no_wrong_endpoint() -> None:
    transport = ScriptedTransport(job("IN_QUEUE"), answered({}, 404))

    with pytest.raises(ProviderError) as caught:
        RunpodProvider(transport).run(asked())

    assert (caught.value.code, caught.value.failure) == ("job_gone", Failure.FAILOVER)


EXCEPTION = json.dumps({"error_type": "<class 'RuntimeError'>", "error_message": "canary", "hostname": "h"})
ENDS: dict[str, tuple[HttpResponse, Failure, str]] = {
    "failed": (job("FAILED", error="boom canary"), Failure.FAILOVER, "job_failed"),
    "failed by an exception": (job("FAILED", error=EXCEPTION), Failure.FAILOVER, "RuntimeError"),
    "failed by the input": (
        job("FAILED", error="Input should be a valid string canary"),
        Failure.FATAL,
        "job_failed",
    ),
    "timed out": (job("TIMED_OUT"), Failure.FAILOVER, "job_timed_out"),
    "cancelled": (job("CANCELLED"), Failure.FAILOVER, "job_cancelled"),
    "no status": (answered({"id": "job-1"}), Failure.FAILOVER, "bad_answer"),
    "a status that is none": (job(["IN_QUEUE"]), Failure.FAILOVER, "bad_answer"),  # type: ignore[arg-type]
    "no output": (job(), Failure.FAILOVER, "bad_answer"),
    "an error for an output": (
        job(output={"object": "error", "message": "CUDA out of memory canary", "code": 400}),
        Failure.FAILOVER,
        "error_inside",
    ),
    "an error of the input for an output": (
        job(output={"object": "error", "message": "1 validation error for canary", "code": 400}),
        Failure.FATAL,
        "error_inside",
    ),
    "a handler's own error": (job(output={"error": "canary"}), Failure.FAILOVER, "error_inside"),
    "fewer vectors": (job(output={"embeddings": VECTORS[:1]}), Failure.FAILOVER, "bad_answer"),
    "no vectors": (job(output={"vectors": VECTORS}), Failure.FAILOVER, "bad_answer"),
    "ragged vectors": (job(output={"embeddings": [[1.0], [1.0, 2.0]]}), Failure.FAILOVER, "bad_answer"),
}


@pytest.mark.parametrize("name", ENDS)
def test_how_a_job_ends_says_what_may_help(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    response, failure, code = ENDS[name]

    with pytest.raises(ProviderError) as caught:
        RunpodProvider(ScriptedTransport(response)).run(asked())

    assert (caught.value.failure, caught.value.code) == (failure, code)
    assert "canary" not in str(caught.value) + caplog.text


def test_chat_goes_over_vllms_own_route() -> None:
    chat = {"choices": [{"index": 0, "message": {"content": "да"}, "finish_reason": "stop"}]}
    transport = ScriptedTransport(answered(chat))

    reply = RunpodProvider(transport).run(
        asked("llm", {"messages": [{"role": "user", "content": "?"}], "max_tokens": 5})
    )

    assert transport.request.url == "http://runpod.test/openai/v1/chat/completions"
    assert reply.result["content"] == "да"
