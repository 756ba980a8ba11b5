"""The client for programs that wait: over requests."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from random import Random
from types import TracebackType
from typing import Any, Self, TypeVar

from gifty_compute.client import calls, reading
from gifty_compute.client.answers import Chat, ChatPiece, Classification, Embeddings, Ranking, Score
from gifty_compute.client.batches import Batches
from gifty_compute.client.calls import ApiCall, Categories, Messages
from gifty_compute.client.door import Door
from gifty_compute.client.events import ChatEvents
from gifty_compute.client.handles import TaskHandle
from gifty_compute.client.low import Low
from gifty_compute.client.mapping import Job, map_texts
from gifty_compute.client.over_requests import OverRequests, Stream
from gifty_compute.client.plans import Plan, Plans, Send, follow
from gifty_compute.client.tasks import Tasks
from gifty_compute.clock import Clock, SystemClock
from gifty_compute.wire.task import TaskView

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """The service as functions. Threads may share it; it outlives a fork. Close it, or use a `with` block.

    High-priority calls wait for their answer: `embeddings`, `rerank`, `classify`, `score`, `chat`,
    `stream_chat`. `low` makes tasks of the same work, `batches` many at once, `tasks` is what became of them,
    `map` embeds any number of texts. Errors are those of `gifty_compute.client.errors`. A call is made again
    only where nobody has begun it, or where twice does no harm: reading, and submitting, which has an
    Idempotency-Key.
    """

    def __init__(
        self,
        base_url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 75.0,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        """Without arguments GIFTY_COMPUTE_URL and GIFTY_COMPUTE_TOKEN say where and with which token.

        `timeout` is in seconds, for calls that have none of their own. A call's own timeout covers all of
        it. The service is told either; where it allows less, it has less. A stream's timeout is for its first
        event and for silence: while it flows it goes on. Proxies and
        certificates are taken from the environment, as requests does.
        """
        self._door, self._clock = Door(base_url, token), clock or SystemClock()
        self._http = OverRequests(self._door, self._clock)
        self.plans = Plans(timeout, self._clock, rng or Random())  # noqa: S311 - of pauses, not of secrets
        self.tasks = Tasks(self, self._handle)
        self.low = Low(self._handle)
        self.batches = Batches(self)

    def embeddings(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        input_type: str | None = None,
        timeout: float | None = None,
    ) -> Embeddings:
        """One vector a text, in order; input_type is query or passage.

        More texts than one call should hold are sent in several, one after the other; `timeout` is for all
        of them together. Raises MixedSpaces where the configured model changes between two.
        """
        portions = calls.embeddings_in_portions(texts, model=model, input_type=input_type, timeout=timeout)
        return self.follow(self.plans.in_order(portions, timeout, reading.joined_embeddings))

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        model: str | None = None,
        top_n: int | None = None,
        timeout: float | None = None,
    ) -> Ranking:
        """A score for each document, and the documents best first."""
        return self.run(calls.rerank(query, documents, model=model, top_n=top_n, timeout=timeout))

    def classify(
        self,
        external_names: Sequence[str],
        internal_categories: Categories | None = None,
        *,
        timeout: float | None = None,
    ) -> Classification:
        """Gifty's category for each name; without categories the configured tree is used.

        More than a thousand names are sent in several calls, as texts of `embeddings` are.
        """
        portions = calls.classify_in_portions(external_names, internal_categories, timeout=timeout)
        return self.follow(self.plans.in_order(portions, timeout, reading.joined_classification))

    def score(self, product: Mapping[str, Any], *, axes: bool = False, timeout: float | None = None) -> Score:
        """How good a gift a product is; `title` is required, the rest of the contract's fields are not."""
        return self.run(calls.score(product, axes=axes, timeout=timeout))

    def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] | None = None,
        json_mode: bool = False,
        timeout: float | None = None,
    ) -> Chat:
        """A language model's answer; model is fast, smart or PROVIDER/MODEL."""
        call = calls.chat(
            messages,
            model=model,
            max_tokens=max_tokens,
            temperature=temperature,
            stop=stop,
            json_mode=json_mode,
            stream=False,
            timeout=timeout,
        )
        return self.run(call)

    def stream_chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] | None = None,
        json_mode: bool = False,
        timeout: float | None = None,
    ) -> Generator[ChatPiece, None, None]:
        """The same, piece by piece. The call is made when the first piece is asked for; closing the generator
        ends the answer at its source, too."""
        call = calls.chat(
            messages,
            model=model,
            max_tokens=max_tokens,
            temperature=temperature,
            stop=stop,
            json_mode=json_mode,
            stream=True,
            timeout=timeout,
        )
        return self._stream(call)

    def map(
        self,
        texts: Iterable[str],
        *,
        model: str | None = None,
        input_type: str | None = None,
        run_id: str | None = None,
        tokens_a_task: int = 4000,
        tasks_ahead: int = 64,
        progress: bool = False,
    ) -> Generator[Any, None, None]:
        """The vector of every text, in order, by low-priority tasks of about so many tokens.

        At most `tasks_ahead` tasks are under way, so that any number of texts needs little memory, and an
        outage of the service is sat out. With a `run_id` the same texts find the tasks of an earlier run
        again, and those that failed are tried once more: a program that died goes on where it was. Without
        one each run makes its own. `progress` shows a bar where tqdm is installed.

        Raises TaskFailed, and MixedSpaces when the configured model changes under way.
        """
        job = Job(
            texts,
            model=model,
            input_type=input_type,
            run_id=run_id,
            tokens_a_task=tokens_a_task,
            tasks_ahead=tasks_ahead,
            progress=progress,
        )
        return map_texts(job, texts, self._resumed)

    def run(self, call: ApiCall[T]) -> T:
        """Makes a call. Raises ApiError, Unreachable."""
        return self.follow(self.plans.trying(call))

    def follow(self, plan: Plan[T]) -> T:
        """Does what a plan says."""
        return follow(plan, self.once, self._clock.sleep)

    def once(self, step: Send[T]) -> T:
        """One try of a call. Raises ApiError, Unreachable."""
        return self._http.once(step)

    def open(self, plan: Plan[Any]) -> Stream:
        """What a plan says, up to an answer whose headers are there. Raises ApiError, Unreachable."""
        stream: Stream = follow(plan, self._http.begin, self._clock.sleep)
        return stream

    def _handle(self, call: ApiCall[TaskView]) -> TaskHandle:
        return TaskHandle(self, self.run(call))

    def _resumed(self, call: ApiCall[TaskView]) -> TaskHandle:
        return TaskHandle(self, self.follow(self.plans.resuming(call)))

    def _stream(self, call: ApiCall[Any]) -> Generator[ChatPiece, None, None]:
        events = ChatEvents()
        with self.open(self.plans.trying(call)) as stream:
            for data in stream:
                seen = events.lines
                yield from events.feed(data)
                if events.lines > seen:
                    stream.progress()
                if events.ended:
                    return
        raise self._door.lost(call)

    def close(self) -> None:
        """Closes the idle connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
