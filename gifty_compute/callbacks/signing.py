"""Signatures by Standard Webhooks, which receivers verify with a library of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from standardwebhooks import Webhook

__all__ = ["Signer"]


class Signer:
    """Signs with every secret, the first one first: while secrets change, receivers may know any of them."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._signers = [Webhook(secret) for secret in secrets]

    def headers(self, webhook_id: str, now: datetime, body: bytes) -> dict[str, str]:
        """The three headers that go with this very body."""
        text = body.decode()
        return {
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(one.sign(webhook_id, now, text) for one in self._signers),
        }
