"""Verifying a callback: Standard Webhooks, by hand, since it is less than what a dependency would cost."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from gifty_compute.clock import Clock, SystemClock
from gifty_compute.errors import GiftyComputeError
from gifty_compute.wire.task import Task

__all__ = ["Callback", "InvalidCallback", "verify_callback"]

_TOLERANCE_SECONDS = 300
_MOST_DIGITS = 12


class InvalidCallback(GiftyComputeError):
    """The callback is not from the service, or too old."""

    code = "invalid_callback"


@dataclass(frozen=True)
class Callback:
    """A callback that is from the service.

    The same one may come twice, always under the same `id`: remember it, and act on each id once.
    """

    id: str
    type: str
    """task.completed, task.failed, task.corrected or batch.finished."""
    timestamp: str
    data: dict[str, Any] = field(repr=False)
    """What `type` says of: a task, or a batch. A large result is left out, and `result_url` is there."""

    @property
    def task(self) -> Task:
        """The task, as the contract shows it. Raises InvalidCallback when it is of a batch."""
        try:
            return Task.model_validate(self.data)
        except ValidationError as error:
            raise InvalidCallback(f"{self.type} holds no task") from error


def verify_callback(
    headers: Mapping[str, str], body: bytes, secrets: str | Sequence[str], *, clock: Clock | None = None
) -> Callback:
    """The callback, once its signature and its time are found good: to be called before anything is believed.

    `body` is what came, byte for byte. During a rotation several secrets are valid. The scheme:
    https://github.com/standard-webhooks/standard-webhooks, "v1" (HMAC-SHA256 of `id.timestamp.body`; secrets
    are `whsec_` and base64). Raises InvalidCallback, and ValueError for a secret that is none.
    """
    keys = [_key(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    if not keys:
        raise ValueError("secrets: none is given, so that no callback could be good")
    told = {name.lower(): value for name, value in headers.items()}
    name, stamp, signatures = (_header(told, f"webhook-{part}") for part in ("id", "timestamp", "signature"))
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= _MOST_DIGITS):
        raise InvalidCallback("the header webhook-timestamp is not a time")
    if abs((clock or SystemClock()).now().timestamp() - int(stamp)) > _TOLERANCE_SECONDS:
        raise InvalidCallback("the callback is too old, or a clock is wrong")
    signed = f"{name}.{stamp}.".encode(errors="replace") + body
    if not any(_is_signed(signatures, signed, key) for key in keys):
        raise InvalidCallback("the signature is wrong")
    return _read(name, body)


def _header(told: Mapping[str, str], name: str) -> str:
    value = told.get(name)
    if not value:
        raise InvalidCallback(f"the header {name} is missing")
    return value


def _is_signed(signatures: str, signed: bytes, key: bytes) -> bool:
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
    return any(
        version == "v1" and hmac.compare_digest(value.encode(errors="replace"), expected)
        for version, _, value in (signature.partition(",") for signature in signatures.split())
    )


def _read(name: str, body: bytes) -> Callback:
    try:
        said = json.loads(body)
        return Callback(name, said["type"], said["timestamp"], said["data"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidCallback("the callback is not as the contract has it") from error


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("secrets: a callback secret is whsec_ and base64") from error
    if not key:
        # An empty key is one that everybody has.
        raise ValueError("secrets: a callback secret is empty")
    return key
