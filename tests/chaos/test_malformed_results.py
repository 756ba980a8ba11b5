"""Results as broken workers send them: each is refused in clear words and the task stays with its holder."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from random import Random
from typing import Any
from uuid import uuid4

import orjson
import pytest
from flask.testing import FlaskClient

from api import create_app
from gifty_compute.core import Core
from gifty_compute.queue.tasks import Origin
from gifty_compute.wire.task import SubmitRequest
from tests.chaos.fleet import SOAK, scaled
from tests.integration.conftest import WORKER

pytestmark = pytest.mark.timeout(0 if SOAK else 300)

DIM, TEXTS = 384, 2
FINAL = {400, 409, 413, 415, 422}
JSON = {"Content-Type": "application/json", **WORKER}

Body = dict[str, Any]


def good(rng: Random) -> Body:
    vectors = [[rng.uniform(-1, 1) for _ in range(DIM)] for _ in range(TEXTS)]
    return {"status": "completed", "result": {"embeddings": vectors}, "worker_id": "w", "attempt": 1}


def binary(shape: list[Any], data: bytes, dtype: Any = "float32") -> Body:
    return {"dtype": dtype, "shape": shape, "data": base64.b64encode(data).decode()}


def zeros(count: int) -> bytes:
    return b"\0" * count


def in_result(change: Callable[[Body, Random], None]) -> Callable[[Body, Random], bytes]:
    def break_it(body: Body, rng: Random) -> bytes:
        change(body["result"], rng)
        return json.dumps(body).encode()

    return break_it


def in_body(change: Callable[[Body, Random], None]) -> Callable[[Body, Random], bytes]:
    def break_it(body: Body, rng: Random) -> bytes:
        change(body, rng)
        return json.dumps(body).encode()

    return break_it


def one_number(value: Any) -> Callable[[Body, Random], bytes]:
    """Some number of some vector is this instead."""
    return in_result(
        lambda r, rng: r["embeddings"][rng.randrange(TEXTS)].__setitem__(rng.randrange(DIM), value)
    )


def cut(body: Body, rng: Random) -> bytes:
    text = json.dumps(body).encode()
    return text[: rng.randrange(1, len(text) - 1)]


def noise(body: Body, rng: Random) -> bytes:
    return rng.randbytes(rng.randrange(1, 2000))


def one_bad_byte(body: Body, rng: Random) -> bytes:
    text = bytearray(json.dumps(body).encode())
    text[rng.randrange(len(text) // 2)] = 0xFF
    return bytes(text)


def deep(body: Body, rng: Random) -> bytes:
    return json.dumps(body).encode()[:-1] + b', "x": ' + b"[" * 5000 + b"]" * 5000 + b"}"


FLAWS: list[Callable[[Body, Random], bytes]] = [
    one_number(float("nan")),
    one_number(float("inf")),
    one_number(-float("inf")),
    one_number("0.5"),
    one_number(None),
    one_number(True),
    one_number([0.5]),
    one_number({"x": 1}),
    one_number(10**400),
    in_result(lambda r, rng: r["embeddings"].pop()),
    in_result(lambda r, rng: r["embeddings"].append(r["embeddings"][0])),
    in_result(lambda r, rng: r["embeddings"][rng.randrange(TEXTS)].pop()),
    in_result(lambda r, rng: r["embeddings"][rng.randrange(TEXTS)].append(0.1)),
    in_result(lambda r, rng: [v.pop() for v in r["embeddings"]]),
    in_result(lambda r, rng: r["embeddings"].__setitem__(rng.randrange(TEXTS), [0.0] * DIM)),
    in_result(lambda r, rng: r.update(embeddings=[])),
    in_result(lambda r, rng: r.update(embeddings=None)),
    in_result(lambda r, rng: r.update(embeddings="vectors")),
    in_result(lambda r, rng: r.update(embeddings=rng.random())),
    in_result(lambda r, rng: r.update(embeddings=r["embeddings"][0])),
    in_result(lambda r, rng: r.pop("embeddings")),
    in_result(lambda r, rng: r.update(model=rng.choice(["bge-m3", 7, None, ["m"]]) or "other")),
    in_result(lambda r, rng: r.update(space="bge-m3")),
    in_result(lambda r, rng: r.update(dim=rng.choice([383, "384", -1]))),
    in_result(lambda r, rng: r.update(ids=["a", "b"])),
    in_result(lambda r, rng: r.update({f"x{rng.random()}": 1})),
    in_result(lambda r, rng: r.update(embeddings=binary([TEXTS, DIM], zeros(TEXTS * DIM * 4)))),
    in_result(lambda r, rng: r.update(embeddings=binary([TEXTS, DIM], rng.randbytes(TEXTS * DIM * 4 - 1)))),
    in_result(lambda r, rng: r.update(embeddings=binary([DIM, TEXTS], b"\1" * (TEXTS * DIM * 4)))),
    in_result(lambda r, rng: r.update(embeddings=binary([TEXTS, DIM], b"\xff" * (TEXTS * DIM * 4)))),
    in_result(lambda r, rng: r.update(embeddings=binary([TEXTS], b"\1" * 8))),
    in_result(lambda r, rng: r.update(embeddings=binary([-1, -DIM], b"\1" * (DIM * 4)))),
    in_result(lambda r, rng: r.update(embeddings=binary([2**40, 2**40], b"\1" * 8))),
    in_result(lambda r, rng: r.update(embeddings=binary([TEXTS, DIM], b"\1" * (TEXTS * DIM * 8), "float64"))),
    in_result(lambda r, rng: r.update(embeddings={**binary([TEXTS, DIM], b""), "data": "не base64"})),
    in_result(lambda r, rng: r.update(embeddings={"dtype": "float32"})),
    in_body(lambda b, rng: b.update(status=rng.choice(["done", "", None, 1, "processing", ["completed"]]))),
    in_body(lambda b, rng: b.pop("status")),
    in_body(lambda b, rng: b.update(attempt=rng.choice([0, -1, 2**31, 2**80, "1", 1.5, True, 99]))),
    in_body(lambda b, rng: b.update(result=rng.choice([None, [], "x", 1, {}]))),
    in_body(lambda b, rng: b.update(worker_id=rng.choice(["", "x" * 500, 5, "a\x00b", "\ud800"]))),
    in_body(lambda b, rng: b.update(session=rng.choice(["x" * 500, 5, "a\x00b"]))),
    in_body(lambda b, rng: b.update(retryable="no")),
    in_body(lambda b, rng: b.update({f"x{rng.random()}": 1})),
    lambda body, rng: json.dumps([body]).encode(),
    lambda body, rng: json.dumps(json.dumps(body)).encode(),
    lambda body, rng: b"",
    cut,
    noise,
    one_bad_byte,
    deep,
]


@pytest.fixture
def http(core: Core) -> FlaskClient:
    return create_app(core).test_client()


def claimed(core: Core, http: FlaskClient) -> Body:
    request = SubmitRequest(task_type="embedding", payload={"texts": ["чай", "кофе"]})
    core.store.submit(request, Origin(client="shop"))
    query = {"worker_id": "w", "model": "multilingual-e5-small", "claim_id": str(uuid4())}
    [task] = http.get("/internal/workers/tasks", query_string=query, headers=WORKER).get_json()["tasks"]
    found: Body = task
    return found


def test_no_malformed_result_takes_effect(core: Core, http: FlaskClient) -> None:
    rng, count = Random(11), scaled(1_000, 100_000)
    task = claimed(core, http)
    path = f"/internal/workers/tasks/{task['id']}/result"

    for number in range(count):
        flaw = FLAWS[number % len(FLAWS)]
        sent = flaw(good(rng), rng)
        answer = http.post(path, data=sent, headers=JSON)
        assert answer.status_code in FINAL, (number, answer.status_code, sent[:300])
        error = answer.get_json()["error"]
        assert error["message"], number
        assert error["code"], number

    assert core.store.stored(task["id"]).status == "processing"
    assert http.post(path, json=good(rng), headers=WORKER).status_code == 200


def test_among_many_results_the_bad_ones_are_refused_and_the_good_ones_kept(
    core: Core, http: FlaskClient
) -> None:
    rng = Random(12)
    flaws = [flaw for flaw in FLAWS if parses(flaw(good(Random(0)), Random(0)))]
    tasks = [claimed(core, http) for _ in range(len(flaws) * 2)]
    outcomes = []
    for number, task in enumerate(tasks):
        outcome = good(rng)
        if number % 2:
            outcome = json.loads(flaws[number // 2](outcome, rng))
        if isinstance(outcome, dict):
            outcome = {k: v for k, v in outcome.items() if k not in ("worker_id", "session")}
            outcome["id"] = task["id"]
        outcomes.append(outcome)

    verdicts = []
    for start in range(0, len(outcomes), 10):
        body = json.dumps({"worker_id": "w", "results": outcomes[start : start + 10]})
        answer = http.post("/internal/workers/results", data=body, headers=JSON)
        assert answer.status_code == 200, answer.get_json()
        verdicts += answer.get_json()["verdicts"]

    assert [verdict["status"] for verdict in verdicts[::2]] == ["completed"] * (len(tasks) // 2)
    for number, verdict in enumerate(verdicts[1::2]):
        ended = core.store.stored(tasks[number * 2 + 1]["id"]).status
        assert verdict["status"] == ("completed" if ended == "completed" else "refused")


def parses(sent: bytes) -> bool:
    """Whether the facade can read it at all; if not, it refuses the whole call."""
    try:
        orjson.loads(sent)
    except orjson.JSONDecodeError:
        return False
    return True
