"""A rejection: what a provider says in place of an answer, and the error that it becomes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, Self

import orjson

from gifty_compute.errors import Failure, ProviderError
from gifty_compute.providers.base import Ask
from gifty_compute.providers.failures import by_status, coined, retry_after, word
from gifty_compute.providers.foreign import dig
from gifty_compute.transport.base import HttpResponse
from gifty_compute.wire import words

__all__ = ["Rejection"]

# What these say holds also when they come from a proxy, as a page; of any other page nothing is believed.
_BELIEVED_OF_A_PAGE = frozenset({401, 403, 404, 429}) | frozenset(range(500, 600))

# litellm/proxy/route_llm_request.py: 400, without a code of its own.
_LITELLM = re.compile(r"(?:litellm\.\w+: )?(?:/?[\w/-]+: )?Invalid model name passed in model=")
# A Retry-After on a page is a proxy's guess and not the provider's word: it is believed for so many seconds.
_LONGEST_WAIT_OF_A_PAGE = 60.0


@dataclass(frozen=True)
class Rejection:
    """The status and what else was said. The provider's own text stays in here: it may quote the input.

    What operators may read of it is in `reason`.
    """

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
    reason: str | None = field(default=None, repr=False)
    """What operators may read of the provider's own words: no payload, no secret."""
    model_id: str = ""
    """The model that was asked for."""

    @classmethod
    def of(cls, response: HttpResponse, ask: Ask) -> Self:
        """What this answer to `ask` says."""
        try:
            body = orjson.loads(response.body)
        except orjson.JSONDecodeError:
            body, is_page = None, True
        else:
            is_page = False
        wait = retry_after(response.headers, ask.deadline.clock.now())
        if is_page and wait is not None:
            wait = min(wait, _LONGEST_WAIT_OF_A_PAGE)
        return cls(
            response.status,
            _error_object(body),
            wait,
            is_page,
            response.headers.get("x-should-retry") == "false",
            _tellable(ask, words.of_page(response.body) if is_page else words.of_body(body)),
            ask.offer.model_id,
        )

    @classmethod
    def inside(cls, error: Any, ask: Ask) -> Self:
        """What an error inside an answer says: its own code is the status if it is one."""
        said = _error_object({"error": error})
        reason = _tellable(ask, words.of_body({"error": error}))
        for name in ("code", "http_status", "status"):
            status = said.get(name)
            if type(status) is int and 400 <= status < 600:
                return cls(status, said, reason=reason, model_id=ask.offer.model_id)
        return cls(200, said, reason=reason, model_id=ask.offer.model_id)

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

    def names_model(self) -> bool:
        """Whether the word is that the model which was asked for is not served, or not for this.

        OpenAI's form names the field that is at fault. LiteLLM names none; its sentence begins the message,
        where nothing of a caller's text can stand.
        """
        if self.error.get("param") == "model":
            return True
        message = self.error.get("message")
        found = _LITELLM.match(message) if isinstance(message, str) else None
        return found is not None and found.string.startswith(self.model_id, found.end())

    def waiting(self, seconds: float | None) -> Self:
        """The same with the wait that its body asks for; None leaves it as the headers said."""
        return self if seconds is None else replace(self, wait=seconds)

    def become(self, failure: Failure | None = None, code: str | None = None) -> ProviderError:
        """The error; by the status alone where neither is given."""
        if failure is None and self.is_page and self.status not in _BELIEVED_OF_A_PAGE:
            failure, code = Failure.FAILOVER, "not_json"
        if self.status == 200 and code is None:
            code = "error_inside"
        error = by_status(self.status, failure=failure, code=code, wait=self.wait, reason=self.reason)
        if self.is_final and error.failure is Failure.RETRY:
            error.failure = Failure.FAILOVER
        return error


def _tellable(ask: Ask, said: str | None) -> str | None:
    return ask.tellable(said) if said else None


def _error_object(body: Any) -> dict[str, Any]:
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict):
        return {}
    error = body.get("error", body)
    return error if isinstance(error, dict) else {}
