"""The client for programs that await: over httpx, which the extra [async] installs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from gifty_compute.client import calls
from gifty_compute.client.answers import Chat, ChatPiece, Classification, Embeddings, Ranking, Score
from gifty_compute.client.attempt import ChatEvents, Door, again, read_answer
from gifty_compute.client.calls import ApiCall
from gifty_compute.client.errors import ApiError, ServiceFault, TaskFailed, Unreachable
from gifty_compute.clock import Clock, Deadline, SystemClock

__all__ = ["AsyncClient"]

T = TypeVar("T")
_WAIT_SECONDS, _SPARE_SECONDS = 60.0, 10.0


class AsyncClient:
    """`Client` with `await`: the same calls, the same answers, the same errors."""

    def __init__(
        self,
        base_url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 60.0,
        clock: Clock | None = None,
    ) -> None:
        self._door, self._timeout, self._clock = Door(base_url, token), timeout, clock or SystemClock()
        self._http = httpx.AsyncClient(follow_redirects=False, trust_env=False)

    async def embeddings(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        input_type: str | None = None,
        timeout: float | None = None,
    ) -> Embeddings:
        call = calls.embeddings(texts, model=model, input_type=input_type, timeout=timeout)
        return await self.run(call, timeout)

    async def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        model: str | None = None,
        top_n: int | None = None,
        timeout: float | None = None,
    ) -> Ranking:
        call = calls.rerank(query, documents, model=model, top_n=top_n, timeout=timeout)
        return await self.run(call, timeout)

    async def classify(
        self,
        external_names: Sequence[str],
        internal_categories: Sequence[Mapping[str, Any]] | None = None,
        *,
        timeout: float | None = None,
    ) -> Classification:
        return await self.run(calls.classify(external_names, internal_categories, timeout=timeout), timeout)

    async def score(
        self, product: Mapping[str, Any], *, axes: bool = False, timeout: float | None = None
    ) -> Score:
        return await self.run(calls.score(product, axes=axes, timeout=timeout), timeout)

    async def chat(
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
        return await self.run(call, timeout)

    async def stream_chat(
        self,
        messages: Iterable[Any],
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[ChatPiece]:
        """The answer piece by piece; leaving the loop early ends it at its source, too."""
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
        request = self._request(call, timeout or self._timeout)
        response = await self._sent(request, stream=True)
        try:
            if response.status_code != 200:
                read_answer(call, response.status_code, response.headers, await response.aread())
            events = ChatEvents()
            async for line in response.aiter_lines():
                for piece in events.feed(line):
                    yield piece
            if not events.ended:
                raise ServiceFault("the answer broke off")
        except httpx.HTTPError as error:
            raise Unreachable("the connection was lost in the middle of an answer") from error
        finally:
            await response.aclose()

    async def submit(self, task_type: str, payload: Mapping[str, Any], **how: Any) -> Mapping[str, Any]:
        """A low-priority task, as the contract shows it; `result` waits for its end."""
        said = {name: value for name, value in payload.items() if value is not None}
        return await self.run(calls.submit(task_type, said, **how))

    async def result(self, task_id: str) -> Any:
        """A task's result, as soon as it is there. Raises TaskFailed where it ended without one."""
        while True:
            task = await self.run(calls.task(task_id, wait=_WAIT_SECONDS), _WAIT_SECONDS + _SPARE_SECONDS)
            if task["status"] == "completed":
                return calls.result_of(task)
            if task["status"] in ("failed", "cancelled"):
                message = task.get("error") or f"task {task_id} was {task['status']}"
                raise TaskFailed(message, task_id=task_id, status=task["status"])

    async def run(self, call: ApiCall[T], timeout: float | None = None) -> T:
        """Makes a call. Raises ApiError, Unreachable."""
        deadline = Deadline.after(timeout or self._timeout, self._clock)
        tries = 0
        while True:
            tries += 1
            try:
                response = await self._sent(self._request(call, max(0.001, deadline.remaining)), stream=False)
                return read_answer(call, response.status_code, response.headers, response.content)
            except (ApiError, Unreachable) as error:
                pause = again(call, error, tries, deadline)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    def _request(self, call: ApiCall[Any], seconds: float) -> httpx.Request:
        return self._http.build_request(
            call.method,
            self._door.base_url + call.path,
            json=call.body,
            params=call.query or None,
            headers=self._door.headers(call),
            timeout=httpx.Timeout(seconds, connect=min(seconds, 10.0)),
        )

    async def _sent(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        try:
            return await self._http.send(request, stream=stream)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable("the service cannot be reached", sent=False) from error
        except httpx.TimeoutException as error:
            raise Unreachable("the service did not answer in time") from error
        except httpx.HTTPError as error:
            raise Unreachable("the connection to the service was lost") from error

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
