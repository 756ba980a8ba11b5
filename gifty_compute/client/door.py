"""What both clients do around one exchange: the headers, the answer, the errors of a lost connection."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, TypeVar

from gifty_compute.client.calls import ApiCall
from gifty_compute.client.errors import ServiceFault, Unreachable, error_of
from gifty_compute.door import checked_token, checked_url, innermost
from gifty_compute.errors import InvalidConfig
from gifty_compute.version import VERSION

__all__ = ["CONNECTIONS", "CONNECT_SECONDS", "Door", "read_answer"]

T = TypeVar("T")

CONNECT_SECONDS = 10.0
CONNECTIONS = 64
"""That are kept alive."""


class Door:
    """Where the service is, and the token that opens it; from the environment where they are not given."""

    def __init__(self, base_url: str | None, token: str | None) -> None:
        """Raises InvalidConfig for what cannot be an address or a token."""
        self.base_url = checked_url(
            _given(base_url, "GIFTY_COMPUTE_URL", "where is the service? Give base_url")
        )
        self._token = checked_token(_given(token, "GIFTY_COMPUTE_TOKEN", "with which token? Give token"))
        if self.base_url.endswith("/v1"):
            raise InvalidConfig(f"{self.base_url!r}: give the address without /v1")

    def url(self, call: ApiCall[Any]) -> str:
        return self.base_url + call.path

    def headers(self, call: ApiCall[Any]) -> dict[str, str]:
        """Without the token."""
        about = {"User-Agent": f"gifty-compute/{VERSION}", "Accept": "application/json, text/event-stream"}
        if call.body is not None:
            about["Content-Type"] = "application/json"
        return {**about, **call.headers}

    @property
    def authorization(self) -> str:
        return f"Bearer {self._token}"

    def shut(self, error: Exception) -> Unreachable:
        """Nobody has seen the request."""
        return Unreachable(f"{self.base_url} cannot be reached: {innermost(error)}", sent=False)

    def late(self, call: ApiCall[Any], seconds: float) -> Unreachable:
        return Unreachable(f"{self.base_url} did not answer {call} within {seconds:.3g} s")

    def lost(self, call: ApiCall[Any], error: Exception | None = None) -> Unreachable:
        """The connection broke after the request had begun."""
        why = f": {innermost(error)}" if error is not None else ""
        return Unreachable(f"the connection to {self.base_url} was lost in the middle of {call}{why}")


def read_answer(call: ApiCall[T], status: int, headers: Mapping[str, str], raw: bytes) -> T:
    """The call's answer. Raises ApiError; ServiceFault also for a body that is not the contract's."""
    try:
        body = json.loads(raw)
    except ValueError as error:
        if status < 300:
            raise ServiceFault(f"{call}: the answer is not JSON", status=status) from error
        body = None
    if status >= 300:
        raise error_of(status, headers, body)
    try:
        return call.read(body, headers)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"{call}: the answer is not as the contract has it"
        raise ServiceFault(message, status=status) from error


def _given(value: str | None, variable: str, question: str) -> str:
    found = value or os.environ.get(variable)
    if not found:
        raise InvalidConfig(f"{question}, or set {variable}")
    return found
