"""One exchange with the service over requests: in time, and with our errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from gifty_compute.client.door import CONNECT_SECONDS, CONNECTIONS, Door, read_answer
from gifty_compute.client.errors import Unreachable
from gifty_compute.client.plans import Send
from gifty_compute.clock import Clock, SilenceDeadline

__all__ = ["OverRequests", "Stream"]

T = TypeVar("T")
_CHUNK = 64 * 2**10


class OverRequests:
    """May be shared by threads, and used by a child after a fork."""

    def __init__(self, door: Door, clock: Clock) -> None:
        self._door, self._clock = door, clock
        self._session, self._process = self._new_session(), os.getpid()

    def once(self, step: Send[T]) -> T:
        """One try of a call. Raises ApiError, Unreachable."""
        with self._open(step) as stream:
            return read_answer(step.call, stream.response.status_code, stream.response.headers, stream.read())

    def begin(self, step: Send[Any]) -> Stream:
        """A good answer as soon as its headers are there. Raises ApiError, Unreachable."""
        stream = self._open(step)
        if stream.response.status_code != 200:
            with stream:
                read_answer(step.call, stream.response.status_code, stream.response.headers, stream.read())
        return stream

    def close(self) -> None:
        self._session.close()

    def _open(self, step: Send[Any]) -> Stream:
        if self._process != os.getpid():
            # Parent and child must not speak over the same connections.
            self._session, self._process = self._new_session(), os.getpid()
        call, deadline = step.call, step.deadline(self._clock)
        try:
            response = self._session.request(
                call.method,
                self._door.url(call),
                data=call.content(step.seconds) if call.upload is None else call.upload,
                params=call.query,
                headers=self._door.headers(call),
                timeout=(min(step.seconds, CONNECT_SECONDS), step.seconds),
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as error:
            raise self._unanswered(step, error) from error
        return Stream(self._door, step, response, deadline)

    def _unanswered(self, step: Send[Any], error: requests.RequestException) -> Unreachable:
        reason = getattr(error.args[0], "reason", None) if error.args else None
        refused = isinstance(reason, urllib3.exceptions.NewConnectionError)
        if refused or isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError):
            return self._door.shut(error)
        if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE" in str(error):
            return self._door.shut(error)
        if isinstance(error, requests.Timeout):
            return self._door.late(step.call, step.seconds)
        return self._door.lost(step.call, error)

    def _new_session(self) -> requests.Session:
        """Threads may share it, since nothing in it changes but the pools of urllib3, which allow it."""
        session = requests.Session()
        session.auth = _Token(self._door.authorization)
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=0)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session


class Stream:
    """An answer whose headers are there. Leaving the `with` block ends it on the wire, too."""

    def __init__(
        self, door: Door, step: Send[Any], response: requests.Response, deadline: SilenceDeadline
    ) -> None:
        self._door, self._step, self._deadline = door, step, deadline
        self.response = response

    def progress(self) -> None:
        """A part of the answer came: the time of an answer that goes on while it flows begins anew."""
        self._deadline.progress()

    def read(self) -> bytes:
        return b"".join(self)

    def __iter__(self) -> Iterator[bytes]:
        """The body as it arrives. Raises Unreachable.

        A timeout of requests is one of each read, so the time is looked at here, after each: what drips ends
        one read late at the most.
        """
        while True:
            try:
                piece = self.response.raw.read1(_CHUNK, decode_content=True)
            except urllib3.exceptions.TimeoutError as error:
                raise self._door.late(self._step.call, self._step.seconds) from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise self._door.lost(self._step.call, error) from error
            if not piece:
                return
            yield piece
            if self._deadline.expired:
                raise self._door.late(self._step.call, self._step.seconds)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()


class _Token(AuthBase):
    """As `auth`, since a header alone would give way to a matching line in ~/.netrc."""

    def __init__(self, authorization: str) -> None:
        self._authorization = authorization

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._authorization
        return request
