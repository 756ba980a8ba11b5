"""The client for programs that wait: over requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import requests
from requests.adapters import HTTPAdapter

from gifty_compute.client import calls
from gifty_compute.client.answers import Chat, ChatPiece, Classification, Embeddings, Ranking, Score
from gifty_compute.client.attempt import ChatEvents, Door, again, read_answer
from gifty_compute.client.calls import ApiCall
from gifty_compute.client.errors import ApiError, ServiceFault, Unreachable
from gifty_compute.client.low import Low, Tasks
from gifty_compute.client.mapping import map_texts
from gifty_compute.clock import Clock, Deadline, SystemClock

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """The service as functions. Safe for several threads; close it, or use it in a `with` block.

    High-priority calls wait for their answer: `embeddings`, `rerank`, `classify`, `score`, `chat`,
    `stream_chat`. `low` makes tasks of the same work, `tasks` is what became of them, `map` embeds any number
    of texts. `timeout` is in seconds and covers all of a call; the service is told of it.
    """

    def __init__(
        self,
        base_url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 60.0,
        clock: Clock | None = None,
    ) -> None:
        """Without arguments GIFTY_COMPUTE_URL and GIFTY_COMPUTE_TOKEN say where and with which token."""
        self._door, self._timeout, self._clock = Door(base_url, token), timeout, clock or SystemClock()
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_maxsize=64, max_retries=0)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self.tasks = Tasks(self.run)
        self.low = Low(self.run)

    def embeddings(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        input_type: str | None = None,
        timeout: float | None = None,
    ) -> Embeddings:
        """One vector a text, in order; input_type is query or passage."""
        call = calls.embeddings(texts, model=model, input_type=input_type, timeout=timeout)
        return self.run(call, timeout)

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
        return self.run(calls.rerank(query, documents, model=model, top_n=top_n, timeout=timeout), timeout)

    def classify(
        self,
        external_names: Sequence[str],
        internal_categories: Sequence[Mapping[str, Any]] | None = None,
        *,
        timeout: float | None = None,
    ) -> Classification:
        """Gifty's category for each name; without categories the configured tree is used."""
        return self.run(calls.classify(external_names, internal_categories, timeout=timeout), timeout)

    def score(self, product: Mapping[str, Any], *, axes: bool = False, timeout: float | None = None) -> Score:
        """How good a gift a product is; `title` is required, the rest of the contract's fields are not."""
        return self.run(calls.score(product, axes=axes, timeout=timeout), timeout)

    def chat(
        self,
        messages: Iterable[Any],
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
            calls.messages_of(messages),
            model=model,
            max_tokens=max_tokens,
            temperature=temperature,
            stop=stop,
            json_mode=json_mode,
            stream=False,
            timeout=timeout,
        )
        return self.run(call, timeout)

    def stream_chat(
        self,
        messages: Iterable[Any],
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> Iterator[ChatPiece]:
        """The same, piece by piece. Closing the iterator ends the answer at its source, too."""
        call = calls.chat(
            calls.messages_of(messages),
            model=model,
            max_tokens=max_tokens,
            temperature=temperature,
            stop=stop,
            json_mode=False,
            stream=True,
            timeout=timeout,
        )
        return self._stream(call, timeout or self._timeout)

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
    ) -> Iterator[Any]:
        """The vector of every text, in order, by low-priority tasks of about so many tokens.

        At most `tasks_ahead` tasks are under way, so that any number of texts needs little memory. With a
        `run_id` the same texts find the tasks of an earlier run again: a program that died goes on where it
        was. `progress` shows a bar where tqdm is installed.
        """
        return map_texts(
            self.low,
            texts,
            model=model,
            input_type=input_type,
            run_id=run_id,
            tokens_a_task=tokens_a_task,
            tasks_ahead=tasks_ahead,
            progress=progress,
        )

    def run(self, call: ApiCall[T], timeout: float | None = None) -> T:
        """Makes a call. Raises ApiError, Unreachable."""
        deadline = Deadline.after(timeout or self._timeout, self._clock)
        tries = 0
        while True:
            tries += 1
            try:
                return self._once(call, deadline)
            except (ApiError, Unreachable) as error:
                pause = again(call, error, tries, deadline)
                if pause is None:
                    raise
            self._clock.sleep(pause)

    def _once(self, call: ApiCall[T], deadline: Deadline) -> T:
        with self._send(call, deadline, stream=False) as response:
            return read_answer(call, response.status_code, response.headers, response.content)

    def _stream(self, call: ApiCall[Any], timeout: float) -> Iterator[ChatPiece]:
        with self._send(call, Deadline.after(timeout, self._clock), stream=True) as response:
            if response.status_code != 200:
                read_answer(call, response.status_code, response.headers, response.content)
            events = ChatEvents()
            try:
                for line in response.iter_lines(chunk_size=None):
                    yield from events.feed(line.decode())
            except requests.RequestException as error:
                raise Unreachable("the connection was lost in the middle of an answer") from error
            if not events.ended:
                raise ServiceFault("the answer broke off")

    def _send(self, call: ApiCall[Any], deadline: Deadline, *, stream: bool) -> requests.Response:
        left = max(0.001, deadline.remaining)
        try:
            return self._session.request(
                call.method,
                self._door.base_url + call.path,
                json=call.body,
                params=call.query,
                headers=self._door.headers(call),
                timeout=(min(left, 10.0), left),
                allow_redirects=False,
                stream=stream,
            )
        except requests.ConnectTimeout as error:
            raise Unreachable("the service cannot be reached", sent=False) from error
        except requests.Timeout as error:
            raise Unreachable("the service did not answer in time") from error
        except requests.ConnectionError as error:
            refused = "NewConnectionError" in repr(error) or "NameResolutionError" in repr(error)
            raise Unreachable("the service cannot be reached", sent=not refused) from error

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
