"""A rejection: what a provider says in place of an answer, and the error that it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

import orjson

from gifty_compute.errors import Failure, ProviderError
from gifty_compute.providers.failures import by_status, coined, retry_after, word
from gifty_compute.providers.foreign import dig
from gifty_compute.transport.base import HttpResponse

__all__ = ["Rejection"]

# What these say holds also when they come from a proxy, as a page; of any other page nothing is believed.
_BELIEVED_OF_A_PAGE = frozenset({401, 403, 404, 429}) | frozenset(range(500, 600))

# A Retry-After on a page is a proxy's guess and not the provider's word: it is believed for so many seconds.
_LONGEST_WAIT_OF_A_PAGE = 60.0


@dataclass(frozen=True)
class Rejection:
    """The status and what else was said. The provider's own text stays in here: it may quote the input."""

    status: int
    """200 for an error inside an answer that says no status."""
    error: dict[str, Any] = field(repr=False)
    """The error object, whatever it was wrapped in; empty where there is none."""
    wait: float | None = None
    """Seconds to wait, by the headers."""
    is_page: bool = False
    """Whether the body is no JSON: a proxy's word, most likely."""
    is_final: bool = False
    """Whether the headers ask not to try again."""

    @classmethod
    def of(cls, response: HttpResponse, now: datetime) -> Self:
        """What this answer says; `now` is the wall clock, for a Retry-After that names a date."""
        try:
            body = orjson.loads(response.body)
        except orjson.JSONDecodeError:
            body, is_page = None, True
        else:
            is_page = False
        wait = retry_after(response.headers, now)
        if is_page and wait is not None:
            wait = min(wait, _LONGEST_WAIT_OF_A_PAGE)
        return cls(
            response.status,
            _error_object(body),
            wait,
            is_page,
            response.headers.get("x-should-retry") == "false",
        )

    @classmethod
    def inside(cls, error: Any) -> Self:
        """What an error inside an answer says: its own code is the status if it is one."""
        said = _error_object({"error": error})
        for name in ("code", "http_status", "status"):
            status = said.get(name)
            if type(status) is int and 400 <= status < 600:
                return cls(status, said)
        return cls(200, said)

    def says(self, *path: str | int) -> str | None:
        """The short word at this place of the error object, to compare; None where there is no such thing."""
        return word(dig(self.error, *path))

    def code(self, *path: str | int) -> str | None:
        """The same as a code that may be told; None for a word that might be out of the input."""
        return coined(dig(self.error, *path))

    def begins(self, *beginnings: str) -> bool:
        """Whether the provider's message begins so; for what is told in no other way."""
        message = self.error.get("message")
        return isinstance(message, str) and message.startswith(beginnings)

    def waiting(self, seconds: float | None) -> Self:
        """The same with the wait that its body asks for; None leaves it as the headers said."""
        return self if seconds is None else replace(self, wait=seconds)

    def become(self, failure: Failure | None = None, code: str | None = None) -> ProviderError:
        """The error; by the status alone where neither is given."""
        if failure is None and self.is_page and self.status not in _BELIEVED_OF_A_PAGE:
            failure, code = Failure.FAILOVER, "not_json"
        if self.status == 200 and code is None:
            code = "error_inside"
        error = by_status(self.status, failure=failure, code=code, wait=self.wait)
        if self.is_final and error.failure is Failure.RETRY:
            return by_status(self.status, failure=Failure.FAILOVER, code=code, wait=self.wait)
        return error


def _error_object(body: Any) -> dict[str, Any]:
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict):
        return {}
    error = body.get("error", body)
    return error if isinstance(error, dict) else {}
