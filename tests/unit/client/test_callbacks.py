"""A callback is taken only with a good signature, and only while it is fresh."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest

from gifty_compute.client.callbacks import InvalidCallback, verify_callback
from tests.unit.conftest import HandClock

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes, yes").decode()
OTHER = "whsec_" + base64.b64encode(b"another secret of 24 byte").decode()
BODY = b'{"type": "task.completed", "data": {"id": "7"}}'


def signed(clock: HandClock, *, secret: str = SECRET, body: bytes = BODY, age: float = 0) -> dict[str, Any]:
    stamp = str(int(clock.now().timestamp() - age))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.digest(key, f"msg_1.{stamp}.".encode() + body, hashlib.sha256)
    signature = f"v1,{base64.b64encode(mac).decode()}"
    return {"Webhook-Id": "msg_1", "Webhook-Timestamp": stamp, "Webhook-Signature": signature}


def test_a_good_one_is_read(clock: HandClock) -> None:
    assert verify_callback(signed(clock), BODY, SECRET, clock=clock)["data"] == {"id": "7"}


def test_the_example_of_the_standard_is_good() -> None:
    """From the specification's own test vectors (standard-webhooks, libraries' tests)."""

    class Then(HandClock):
        def now(self) -> Any:
            from datetime import UTC, datetime  # noqa: PLC0415

            return datetime.fromtimestamp(1614265330, UTC)

    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }

    body = b'{"test": 2432232314}'
    assert verify_callback(headers, body, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", clock=Then()) == {
        "test": 2432232314
    }


def test_during_a_rotation_either_secret_is_good(clock: HandClock) -> None:
    assert verify_callback(signed(clock), BODY, [OTHER, SECRET], clock=clock)


def test_one_good_signature_among_several_is_enough(clock: HandClock) -> None:
    headers = signed(clock)
    headers["Webhook-Signature"] = "v1a,eW9s v1,AAAA " + headers["Webhook-Signature"]

    assert verify_callback(headers, BODY, SECRET, clock=clock)


@pytest.mark.parametrize(
    ("change", "body"),
    [
        ({}, BODY + b" "),
        ({"Webhook-Id": "msg_2"}, BODY),
        ({"Webhook-Signature": "v1,AAAA"}, BODY),
        ({"Webhook-Signature": "v2,AAAA"}, BODY),
        ({"Webhook-Signature": ""}, BODY),
        ({"Webhook-Timestamp": "soon"}, BODY),
    ],
)
def test_a_changed_one_is_refused(clock: HandClock, change: dict[str, str], body: bytes) -> None:
    with pytest.raises(InvalidCallback):
        verify_callback({**signed(clock), **change}, body, SECRET, clock=clock)


@pytest.mark.parametrize("age", [301, -301])
def test_an_old_one_and_one_from_the_future_are_refused(clock: HandClock, age: float) -> None:
    with pytest.raises(InvalidCallback, match="too old"):
        verify_callback(signed(clock, age=age), BODY, SECRET, clock=clock)


def test_the_secret_of_somebody_else_is_refused(clock: HandClock) -> None:
    with pytest.raises(InvalidCallback, match="signature is wrong"):
        verify_callback(signed(clock, secret=OTHER), BODY, SECRET, clock=clock)
