"""What both clients share about one call: its bytes, its answer, and whether to ask again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from gifty_compute.client.answers import ChatPiece
from gifty_compute.client.calls import ApiCall, piece_of
from gifty_compute.client.errors import ApiError, Busy, ServiceFault, Unreachable, error_of
from gifty_compute.clock import Deadline
from gifty_compute.version import VERSION

__all__ = ["TRIES", "ChatEvents", "Door", "again", "read_answer"]

T = TypeVar("T")

# Of a call that may be repeated, and of one that the service has not seen.
TRIES = 3
_PAUSE_SECONDS = 0.2


class Door:
    """Where the service is, and the token that opens it; from the environment where they are not given."""

    def __init__(self, base_url: str | None, token: str | None) -> None:
        url = base_url or os.environ.get("GIFTY_COMPUTE_URL")
        if not url:
            raise ValueError("where is the service? Give base_url, or set GIFTY_COMPUTE_URL")
        self.base_url = url.rstrip("/")
        self._token = token or os.environ.get("GIFTY_COMPUTE_TOKEN") or ""

    def headers(self, call: ApiCall[Any]) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self._token}",
            "User-Agent": f"gifty-compute/{VERSION}",
            **call.headers,
        }


def read_answer(call: ApiCall[T], status: int, headers: Mapping[str, str], raw: bytes) -> T:
    """The call's answer. Raises ApiError; ServiceFault also for a body that is not the contract's."""
    try:
        body = json.loads(raw)
    except ValueError as error:
        if status < 400:
            raise ServiceFault("the answer is not JSON", status=status) from error
        body = None
    if status >= 400:
        raise error_of(status, headers, body)
    try:
        return call.read(body, headers)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ServiceFault("the answer is not as the contract has it", status=status) from error


def again(call: ApiCall[Any], error: ApiError | Unreachable, tries: int, deadline: Deadline) -> float | None:
    """Seconds until the call is made once more; None where it is not.

    A request that nobody saw may be made again; one that somebody saw only if two are as good as one. The
    service has a retry loop of its own: nothing else is repeated here.
    """
    if tries >= TRIES:
        return None
    if isinstance(error, Busy):
        pause = error.retry_after if error.retry_after is not None else _PAUSE_SECONDS
    elif isinstance(error, Unreachable) and (call.repeatable or not error.sent):
        pause = _PAUSE_SECONDS * 2**tries
    else:
        return None
    return pause if pause < deadline.remaining else None


class ChatEvents:
    """Reads a stream's lines; `feed` gives the pieces that a line completes."""

    def __init__(self) -> None:
        self.ended = False

    def feed(self, line: str) -> Iterator[ChatPiece]:
        """Raises ApiError for an error in the middle of the stream."""
        if not line.startswith("data:"):
            return
        data = line[5:].strip()
        if data == "[DONE]":
            self.ended = True
            return
        chunk = json.loads(data)
        if "error" in chunk:
            raise error_of(502, {}, chunk)
        piece = piece_of(chunk)
        if piece is not None:
            yield piece
