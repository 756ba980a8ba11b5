"""RunPod's serverless endpoints: Gifty's own handler, the infinity worker, and vLLM's OpenAI route."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias
from urllib.parse import quote

import orjson

from gifty_compute.clock import Deadline
from gifty_compute.errors import Failure, ProviderError
from gifty_compute.providers.base import Ask, Delta, Reply, Usage
from gifty_compute.providers.chat import usage_of
from gifty_compute.providers.exchange import Exchange, as_object
from gifty_compute.providers.failures import bad_answer, coined, not_served
from gifty_compute.providers.foreign import amount, dig
from gifty_compute.providers.openai_like import OpenaiLikeProvider
from gifty_compute.providers.rejection import Rejection
from gifty_compute.providers.rows import (
    by_index,
    fitting,
    float_rows,
    reranker_kind,
    total_cost,
    total_usage,
)
from gifty_compute.transport.base import HttpResponse, Transport

__all__ = ["RunpodProvider"]

log = logging.getLogger(__name__)

_JobOf: TypeAlias = Callable[[Sequence[str]], dict[str, Any]]
# /runsync holds a call for at least a second. With less time the job is started, and then looked at.
_LEAST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 300.0
# RunPod takes and answers at most 10 MB with /run and 20 MB with /runsync; less a margin.
_RUN_BYTES, _RUNSYNC_BYTES = 9_500_000, 19_000_000
# A number of float32 as Python writes it in JSON: 21.2 bytes with its separator, measured over bge-m3's 1024.
_BYTES_A_NUMBER = 24
# A document's row in the answer of a reranking: its index and its score.
_BYTES_A_SCORE = 100
_MOST_DIMENSIONS = 4096
# What the way there and back may take of an attempt's time.
_MARGIN_SECONDS = 0.15
# What the last look at a job before the deadline may take.
_LOOK_SECONDS = 0.05
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 0.5
_CANCEL_SECONDS = 5.0
_WAITING = frozenset({"IN_QUEUE", "IN_PROGRESS", "RUNNING"})
_GONE = "job_gone"
# The infinity worker labels every error 400, CUDA's as well; these words are of the request itself.
_OF_THE_INPUT = ("input should be", "validation error", "too long", "string_type", "list_type")


class RunpodProvider:
    """Embeddings and reranking as jobs, chat over vLLM's route; the endpoint's format is configured.

    A job that is not done by the deadline is cancelled, off the caller's path. `billed_seconds` is the time
    of the handler alone: starting and idling workers are billed, too, and show nowhere.
    """

    def __init__(self, transport: Transport) -> None:
        self._exchange = Exchange(transport)
        self._chat = OpenaiLikeProvider(transport)
        self._cancels = _Cancels(self._exchange)

    def run(self, ask: Ask) -> Reply:
        match ask.offer.ask_as:
            case "embedding":
                return self._embed(ask)
            case "rerank":
                return self._rerank(ask)
            case "llm":
                return self._chat.run(_to_openai(ask))
        raise not_served(ask)

    def stream(self, ask: Ask) -> Iterator[Delta]:
        return self._chat.stream(_to_openai(ask))

    def _embed(self, ask: Ask) -> Reply:
        dim = ask.space.dim if ask.space is not None else _MOST_DIMENSIONS
        rows: list[Any] = []
        usages: list[Usage | None] = []
        seconds: list[float | None] = []
        for texts, output, took in self._jobs(ask, ask.texts, _embedding_job(ask), dim * _BYTES_A_NUMBER):
            rows += _vectors(ask, output, len(texts))
            usages.append(usage_of(output) if isinstance(output, dict) else None)
            seconds.append(took)
        return Reply(
            {"embeddings": float_rows(rows)}, total_usage(usages), billed_seconds=total_cost(seconds)
        )

    def _rerank(self, ask: Ask) -> Reply:
        asked = {"model": ask.offer.model_id, "query": ask.payload["query"], "return_docs": False}
        scores: list[Any] = []
        kinds: set[str] = set()
        usages: list[Usage | None] = []
        seconds: list[float | None] = []
        jobs = self._jobs(ask, ask.payload["documents"], lambda docs: {**asked, "docs": docs}, _BYTES_A_SCORE)
        for documents, output, took in jobs:
            body = output if isinstance(output, dict) else {}
            scores += [row.get("relevance_score") for row in by_index(body.get("results"), len(documents))]
            kinds.add(reranker_kind(body))
            usages.append(usage_of(body))
            seconds.append(took)
        kind = kinds.pop() if len(kinds) == 1 else "unknown"
        return Reply(
            {"scores": scores, "kind": kind}, total_usage(usages), billed_seconds=total_cost(seconds)
        )

    def _jobs(
        self, ask: Ask, texts: Sequence[str], job_of: _JobOf, bytes_a_text: int
    ) -> Iterator[tuple[Sequence[str], Any, float | None]]:
        """Each job's texts, its output, and the seconds that its handler took, one job after the other.

        A job holds as many texts as RunPod takes, and answers, on the path that the time left allows.
        `bytes_a_text` is what the answer holds of each.
        """
        frame = len(orjson.dumps({"input": job_of([])}))
        while texts:
            path, most = _path(ask)
            fits = min(fitting(texts, most - frame), max(1, most // bytes_a_text))
            output, took = self._job(ask, path, job_of(texts[:fits]))
            yield texts[:fits], output, took
            texts = texts[fits:]

    def _job(self, ask: Ask, path: str, job: dict[str, Any]) -> tuple[Any, float | None]:
        """A job's output, and the seconds that its handler took."""
        told = _told(ask, self._exchange.send(ask, path, {"input": job}, headers=_headers(ask)))
        job_id = told.get("id")
        if isinstance(job_id, str) and _is_waiting(told):
            told = self._await(ask, job_id)
        ask.meter.tell(usage_of(_object(told.get("output"))), billed_seconds=_seconds(told))
        return _output(ask, told), _seconds(told)

    def _await(self, ask: Ask, job_id: str) -> dict[str, Any]:
        """The job's last word. Where it cannot be had the job is cancelled: nobody will ask for it again."""
        try:
            return self._watch(ask, job_id)
        except ProviderError as error:
            if error.code != _GONE:
                self._cancels.add(ask, job_id)
            raise

    def _watch(self, ask: Ask, job_id: str) -> dict[str, Any]:
        """Looks until the job has ended. Raises ProviderError (timeout) when the deadline comes first."""
        pause = _FIRST_PAUSE_SECONDS
        while (left := ask.deadline.remaining - _LOOK_SECONDS) > 0:
            ask.deadline.clock.sleep(min(pause, left))
            told = self._look(ask, f"/status/{quote(job_id, safe='')}")
            if not _is_waiting(told):
                return told
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        raise ProviderError("the job was not done in time", failure=Failure.FAILOVER, code="timeout")

    def _look(self, ask: Ask, path: str) -> dict[str, Any]:
        headers = _headers(ask)
        response = self._exchange.send(ask, path, headers=headers, method="GET")
        if response.status == 405:
            # The server with which a handler is tried locally (--rp_serve_api) wants POST here.
            response = self._exchange.send(ask, path, headers=headers)
        return _told(ask, response, gone=Failure.FAILOVER)


class _Cancels:
    """Jobs that nobody waits for any more, cancelled one after the other by a thread of their own."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._queue: queue.Queue[tuple[Ask, str]] = queue.Queue(maxsize=1000)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, ask: Ask, job_id: str) -> None:
        try:
            self._queue.put_nowait((ask, job_id))
        except queue.Full:
            log.warning("job %s runs on: too many are waiting to be cancelled", job_id)
            return
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="cancels", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            ask, job_id = self._queue.get()
            now = replace(ask, deadline=Deadline.after(_CANCEL_SECONDS, ask.deadline.clock))
            try:
                path = f"/cancel/{quote(job_id, safe='')}"
                response = self._exchange.send(now, path, {}, headers=_headers(ask))
            except ProviderError as error:
                log.warning("job %s may run on: %s", job_id, error.code)
                continue
            if response.status != 200:
                log.warning("job %s may run on: cancelling it was answered %d", job_id, response.status)


def _path(ask: Ask) -> tuple[str, int]:
    """Where a job is sent in the time that is left, and how many bytes it and its answer may have there."""
    wait = min(ask.deadline.remaining - _MARGIN_SECONDS, _LONGEST_WAIT_SECONDS)
    if wait < _LEAST_WAIT_SECONDS:
        return "/run", _RUN_BYTES
    return f"/runsync?wait={int(wait * 1000)}", _RUNSYNC_BYTES


def _embedding_job(ask: Ask) -> _JobOf:
    """What makes a job of texts, in the form that the endpoint's handler speaks."""
    model = ask.offer.model_id
    match ask.offer.section.format:
        case "gifty":
            return lambda texts: {"texts": texts, "model": model}
        case "infinity":
            return lambda texts: {"model": model, "input": texts}
    inner = {"model": model}
    return lambda texts: {"openai_route": "/v1/embeddings", "openai_input": {**inner, "input": texts}}


def _vectors(ask: Ask, output: Any, expected: int) -> list[Any]:
    """The vectors of a job's output, in the order of its texts. Raises ProviderError (bad_answer)."""
    if ask.offer.section.format != "gifty":
        return [row.get("embedding") for row in by_index(dig(output, "data"), expected)]
    rows = dig(output, "embeddings")
    if not isinstance(rows, list) or len(rows) != expected:
        raise bad_answer(f"answered no {expected} vectors")
    return rows


def _is_waiting(told: dict[str, Any]) -> bool:
    status = told.get("status")
    return isinstance(status, str) and status in _WAITING


def _to_openai(ask: Ask) -> Ask:
    return replace(ask, site=replace(ask.site, base_url=f"{ask.site.base_url}/openai/v1"))


def _headers(ask: Ask) -> dict[str, str]:
    return {"authorization": f"Bearer {ask.site.key}"}


def _told(ask: Ask, response: HttpResponse, gone: Failure | None = None) -> dict[str, Any]:
    if response.status != 200:
        raise _error(ask, response, gone)
    return as_object(response)


def _seconds(told: dict[str, Any]) -> float | None:
    """How long the job's handler took, also where it failed; None where that is not said."""
    milliseconds = amount(told.get("executionTime"))
    return None if milliseconds is None else milliseconds / 1000


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _output(ask: Ask, told: dict[str, Any]) -> Any:
    """The output of a job that has ended. Raises ProviderError where it ended without one."""
    status, output = told.get("status"), told.get("output")
    if status != "COMPLETED":
        raise _failed(ask, status, told.get("error"))
    if isinstance(output, list) and len(output) == 1:
        # The worker's OpenAI route answers a list that holds the one object.
        [output] = output
    if dig(output, "object") == "error" or dig(output, "error"):
        message = dig(output, "message") or dig(output, "error")
        raise _refused(ask, str(message), code="error_inside")
    if output is None:
        raise bad_answer("the job is completed and has no output")
    return output


def _failed(ask: Ask, status: Any, error: Any) -> ProviderError:
    """Of a job that FAILED, TIMED_OUT or was CANCELLED; an exception's error is JSON in a string."""
    code = {"TIMED_OUT": "job_timed_out", "CANCELLED": "job_cancelled", "FAILED": "job_failed"}.get(
        str(status)
    )
    if code is None:
        return bad_answer("answered no status of a job")
    try:
        told = orjson.loads(error) if isinstance(error, str) else error
    except orjson.JSONDecodeError:
        told = None
    named = str(dig(told, "error_type") or "").removeprefix("<class '").removesuffix("'>")
    kind = coined(named.rpartition(".")[2])
    return _refused(ask, str(dig(told, "error_message") or error or ""), code=kind or code)


def _refused(ask: Ask, message: str, *, code: str) -> ProviderError:
    """FATAL only where the message is plainly about the input: out of memory is labelled the same."""
    of_the_input = any(words in message.lower() for words in _OF_THE_INPUT)
    failure = Failure.FATAL if of_the_input else Failure.FAILOVER
    reason = ask.tellable(message)
    return ProviderError(f"the job failed ({code})", failure=failure, code=code, status=200, reason=reason)


def _error(ask: Ask, response: HttpResponse, gone: Failure | None) -> ProviderError:
    rejection = Rejection.of(response, ask)
    if response.status == 404 and gone is not None:
        return rejection.become(gone, _GONE)
    return rejection.become()
