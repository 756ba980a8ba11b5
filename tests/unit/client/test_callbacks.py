"""A callback is taken only with a good signature, and only while it is fresh."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from gifty_compute.client.callbacks import InvalidCallback, verify_callback
from tests.unit.conftest import HandClock

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes, yes").decode()
OTHER = "whsec_" + base64.b64encode(b"another secret of 24 byte").decode()
BODY = b'{"type": "task.completed", "timestamp": "2026-01-01T00:00:00Z", "data": {"id": "7"}}'


def signed(clock: HandClock, *, secret: str = SECRET, body: bytes = BODY, age: float = 0) -> dict[str, Any]:
    stamp = str(int(clock.now().timestamp() - age))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.digest(key, f"msg_1.{stamp}.".encode() + body, hashlib.sha256)
    signature = f"v1,{base64.b64encode(mac).decode()}"
    return {"Webhook-Id": "msg_1", "Webhook-Timestamp": stamp, "Webhook-Signature": signature}


def test_a_good_one_is_read(clock: HandClock) -> None:
    callback = verify_callback(signed(clock), BODY, SECRET, clock=clock)

    assert (callback.id, callback.type, callback.data) == ("msg_1", "task.completed", {"id": "7"})


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

    # The signature is good; that test vector is no callback of ours.
    with pytest.raises(InvalidCallback, match="not as the contract has it"):
        verify_callback(
            headers, b'{"test": 2432232314}', "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", clock=Then()
        )


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
        ({"Webhook-Timestamp": "9" * 400}, BODY),
        ({"Webhook-Timestamp": "²"}, BODY),
        ({"Webhook-Signature": "v1,\udcff"}, BODY),
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


@pytest.mark.parametrize("name", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
def test_a_missing_header_is_named(clock: HandClock, name: str) -> None:
    headers = signed(clock)
    del headers[name]

    with pytest.raises(InvalidCallback, match=f"{name.lower()} is missing"):
        verify_callback(headers, BODY, SECRET, clock=clock)


@pytest.mark.parametrize("secrets", ["", "whsec_", [], [SECRET, ""], "not base64!"])
def test_without_a_secret_nothing_is_good(clock: HandClock, secrets: Any) -> None:
    """An unset variable must not be a key that everybody knows."""
    forged = signed(clock, secret="")

    with pytest.raises(ValueError, match=r"^secrets: "):
        verify_callback(forged, BODY, secrets, clock=clock)


def test_a_task_is_read_from_it_and_a_batch_is_none(clock: HandClock) -> None:
    now = "2026-01-01T00:00:00Z"
    task = {
        "id": "3f2a0000-0000-4000-8000-000000000000",
        "task_type": "embedding",
        "priority": "low",
        "status": "failed",
        "payload": {},
        "error": "out of memory",
        "created_at": now,
        "updated_at": now,
        "attempt": 1,
        "failures": 1,
        "max_attempts": 1,
    }
    body = json.dumps({"type": "task.failed", "timestamp": now, "data": task}).encode()
    batch = json.dumps({"type": "batch.finished", "timestamp": now, "data": {"total": 7}}).encode()

    failed = verify_callback(signed(clock, body=body), body, SECRET, clock=clock)
    finished = verify_callback(signed(clock, body=batch), batch, SECRET, clock=clock)

    assert (failed.task.status, failed.task.error) == ("failed", "out of memory")
    with pytest.raises(InvalidCallback, match=r"batch\.finished holds no task"):
        _ = finished.task


def test_what_it_holds_is_not_in_its_repr(clock: HandClock) -> None:
    assert "'7'" not in repr(verify_callback(signed(clock), BODY, SECRET, clock=clock))
