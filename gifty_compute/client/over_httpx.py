"""One exchange with the service over httpx: in time, and with our errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

try:
    import httpx
except ModuleNotFoundError as error:
    if error.name != "httpx":
        raise
    raise ModuleNotFoundError(
        "AsyncClient needs httpx: pip install 'gifty-compute[async]'", name="httpx"
    ) from error

from gifty_compute.client.door import CONNECT_SECONDS, CONNECTIONS, Door, read_answer
from gifty_compute.client.plans import Send
from gifty_compute.clock import Clock, Deadline, SilenceDeadline

__all__ = ["AsyncStream", "OverHttpx"]

T = TypeVar("T")
_MOST_CONNECTIONS = 256


class OverHttpx:
    """For one event loop."""

    def __init__(self, door: Door, clock: Clock) -> None:
        self._door, self._clock = door, clock
        self._http = httpx.AsyncClient(
            headers={"Authorization": door.authorization},
            limits=httpx.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            # A timeout of httpx is one of each read: `_in_time` times the whole.
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            follow_redirects=False,
        )

    async def once(self, step: Send[T]) -> T:
        """One try of a call. Raises ApiError, Unreachable."""
        deadline = Deadline.after(step.seconds, self._clock)
        response = await self._open(step, deadline, stream=False)
        return read_answer(step.call, response.status_code, response.headers, response.content)

    async def begin(self, step: Send[Any]) -> AsyncStream:
        """A good answer as soon as its headers are there. Raises ApiError, Unreachable."""
        deadline = step.deadline(self._clock)
        stream = AsyncStream(self._door, step, await self._open(step, deadline, stream=True), deadline)
        if stream.response.status_code != 200:
            async with stream:
                raw = b"".join([data async for data in stream])
                read_answer(step.call, stream.response.status_code, stream.response.headers, raw)
        return stream

    async def close(self) -> None:
        await self._http.aclose()

    async def _open(self, step: Send[Any], deadline: Deadline, *, stream: bool) -> httpx.Response:
        call = step.call
        request = self._http.build_request(
            call.method,
            self._door.url(call),
            content=call.content(step.seconds) if call.upload is None else aiter(call.upload),
            params=call.query or None,
            headers=self._door.headers(call),
        )
        async with _in_time(self._door, step, deadline):
            return await self._http.send(request, stream=stream)


class AsyncStream:
    """An answer whose headers are there. Leaving the `async with` block ends it on the wire, too."""

    def __init__(
        self, door: Door, step: Send[Any], response: httpx.Response, deadline: SilenceDeadline
    ) -> None:
        self._door, self._step, self._deadline = door, step, deadline
        self.response = response

    def progress(self) -> None:
        """A part of the answer came: the time of an answer that goes on while it flows begins anew."""
        self._deadline.progress()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives. Raises Unreachable."""
        arriving = self.response.aiter_bytes()
        while True:
            async with _in_time(self._door, self._step, self._deadline):
                data = await anext(arriving, None)
            if data is None:
                return
            yield data

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.response.aclose()


@asynccontextmanager
async def _in_time(door: Door, step: Send[Any], deadline: Deadline) -> AsyncGenerator[None, None]:
    """Ends what is awaited in here at the deadline, and translates httpx's errors."""
    try:
        async with asyncio.timeout(deadline.remaining):
            yield
    except TimeoutError as error:
        raise door.late(step.call, step.seconds) from error
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise door.shut(error) from error
    except httpx.HTTPError as error:
        raise door.lost(step.call, error) from error
