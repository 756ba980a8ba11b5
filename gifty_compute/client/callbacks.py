"""Verifying a callback: Standard Webhooks, by hand, since it is less than what a dependency would cost."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gifty_compute.clock import Clock, SystemClock
from gifty_compute.errors import GiftyComputeError

__all__ = ["InvalidCallback", "verify_callback"]

_TOLERANCE_SECONDS = 300


class InvalidCallback(GiftyComputeError):
    """The callback is not from the service, or too old."""

    code = "invalid_callback"


def verify_callback(
    headers: Mapping[str, str], body: bytes, secrets: str | Sequence[str], *, clock: Clock | None = None
) -> dict[str, Any]:
    """The callback's content, once its signature and its time are found good. Raises InvalidCallback.

    During a rotation several secrets are valid. Remember `webhook-id` and take each only once: a callback may
    come twice. The scheme: https://github.com/standard-webhooks/standard-webhooks, "v1" (HMAC-SHA256 of
    `id.timestamp.body`; secrets are `whsec_` and base64).
    """
    told = {name.lower(): value for name, value in headers.items()}
    try:
        name, stamp = told["webhook-id"], told["webhook-timestamp"]
        signatures = told["webhook-signature"].split()
        seconds = int(stamp)
    except (KeyError, ValueError) as error:
        raise InvalidCallback("a header of the signature is missing") from error
    now = (clock or SystemClock()).now().timestamp()
    if abs(now - seconds) > _TOLERANCE_SECONDS:
        raise InvalidCallback("the callback is too old, or a clock is wrong")
    signed = f"{name}.{stamp}.".encode() + body
    for secret in [secrets] if isinstance(secrets, str) else secrets:
        expected = base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()
        for signature in signatures:
            version, _, value = signature.partition(",")
            if version == "v1" and hmac.compare_digest(value.encode(), expected.encode()):
                found: dict[str, Any] = json.loads(body)
                return found
    raise InvalidCallback("the signature is wrong")


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a callback secret is whsec_ and base64") from error
