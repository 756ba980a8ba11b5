"""Attacks 2 and 3: a refusal costs no more than an acceptance, at each operation of the OpenAPI document.

The facade is the deployed one. The bodies are small as gzip and large as JSON; beside them /healthz is asked.
What is measured is compared with a body of the same size that is accepted.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests

from gifty_compute.embedded.valkey import Valkey
from gifty_compute.wire.kinds import KINDS
from tests.facade import RunningFacade, running_facade
from tests.integration.conftest import API, OPS

NOBODY = str(UUID(int=0))
NDJSON = "application/x-ndjson"
SIZE = 4_000_000
"""Of each body, in bytes; a few kilobytes as gzip."""
MOST_BYTES = 150_000_000
"""What one request may take: six times MAX_BODY_BYTES for its values, and the body twice."""
REFUSED = (400, 404, 413, 422)


@pytest.fixture
def facade(database_url: str, valkey: Valkey, tmp_path: Path) -> Iterator[RunningFacade]:
    environ = {"DATABASE_URL": database_url, "REDIS_URL": valkey.url}
    with running_facade(tmp_path, environ, threads=16) as running:
        yield running


@dataclass
class Cost:
    """What one request took: seconds until its answer, the longest wait of /healthz beside it, and memory."""

    status: int
    seconds: float
    wait: float
    bytes: int


@dataclass
class Scales:
    """Sends a body and weighs what it costs the process."""

    facade: RunningFacade
    waits: list[float] = field(default_factory=list)

    def cost(self, path: str, headers: dict[str, str], body: bytes, media: str) -> Cost:
        worker, packed = self._worker(), gzip.compress(body, 1)
        sent = {**headers, "Content-Type": media, "Content-Encoding": "gzip"}
        (worker / "clear_refs").write_text("5")
        before = _status(worker, "VmRSS")
        with self._probing():
            began = time.perf_counter()
            answer = requests.post(f"{self.facade.url}{path}", data=packed, headers=sent, timeout=300)
            seconds = time.perf_counter() - began
        grown = _status(worker, "VmHWM") - before
        return Cost(answer.status_code, seconds, max(self.waits, default=0.0), grown)

    @contextmanager
    def _probing(self) -> Iterator[None]:
        over, self.waits = threading.Event(), []

        def probe() -> None:
            with requests.Session() as session:
                while not over.is_set():
                    began = time.perf_counter()
                    session.get(f"{self.facade.url}/healthz", timeout=300)
                    self.waits.append(time.perf_counter() - began)

        thread = threading.Thread(target=probe)
        thread.start()
        yield
        over.set()
        thread.join(300)

    def _worker(self) -> Path:
        """The process that answers: the server's only child."""
        pid = self.facade.process.pid
        [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return Path(f"/proc/{child}")


def _status(process: Path, name: str) -> int:
    line = next(one for one in (process / "status").read_text().splitlines() if one.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


@dataclass(frozen=True)
class Operation:
    """An operation with a body, as the document has it."""

    path: str
    scope: str
    media: str
    schema: dict[str, Any]


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for described in methods.values():
            if "requestBody" not in described:
                continue
            [(media, content)] = described["requestBody"]["content"].items()
            [scope, *_] = [name for one in described["security"] for name in one if name != "header"]
            schema = content.get("x-itemSchema") or content["schema"]
            yield Operation(path, scope, media, _whole(schema, document))


def _whole(schema: Any, document: dict[str, Any]) -> Any:
    """The schema with what it refers to in its place."""
    if isinstance(schema, list):
        return [_whole(one, document) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _whole(document["components"]["schemas"][name], document)
    return {name: _whole(inner, document) for name, inner in schema.items()}


def filled(schema: dict[str, Any], lists: str, names: str) -> str:
    """JSON of the schema's shape in which each list is `lists` and each object has `names` besides."""
    if "properties" in schema:
        fields = [
            f"{json.dumps(name)}:{filled(one, lists, names)}" for name, one in schema["properties"].items()
        ]
        return "{" + ",".join([*fields, *([names] if names else [])]) + "}"
    if schema.get("type") == "object":
        return "{" + names + "}"
    if schema.get("type") == "array":
        return lists or f"[{filled(schema['items'], lists, names)}]"
    for other in schema.get("anyOf", ()):
        if other.get("type") in ("array", "object") or "properties" in other:
            return filled(other, lists, names)
    words = schema.get("enum") or [schema.get("const", "a")]
    return json.dumps(5 if schema.get("type") == "integer" else words[0])


def places(shape: str, of: str) -> int:
    return max(1, shape.count(of))


def worst(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Bodies that are refused, each of a kind of its own, by a name for each."""
    lists = places(filled(schema, "[0]", ""), "[0]")
    objects = places(filled(schema, "", '"?":0'), '"?"')
    nulls, empties, names = SIZE // 5 // lists, SIZE // 7 // lists, SIZE // 11 // objects
    yield "lists of nulls", filled(schema, "[" + "null," * (nulls - 1) + "null]", "")
    yield "lists of lists", filled(schema, "[" + "[]," * empties + "[]]", "")
    yield "unknown names", filled(schema, "", ",".join(f'"{n:06x}":0' for n in range(names)))
    yield "one long name", filled(schema, "", f'"{"k" * (SIZE // objects)}":0')


JSON_ALONE = {
    "a number of many digits": '{"tasks":' + "9" * SIZE + "}",
    "a fraction of many digits": '{"tasks":0.' + "9" * SIZE + "}",
    "brackets": "[" * SIZE,
    "braces": '{"":' * (SIZE // 4),
    "more lists than a body may hold": "[" + "[]," * (SIZE // 3) + "[]]",
}
"""Bodies that no model is asked about."""


def in_task(kind: str) -> dict[str, Any]:
    """The schema of a task of this kind, whose payload the document leaves open."""
    payload = KINDS[kind].payload.model_json_schema()
    whole = _whole(payload, {"components": {"schemas": payload.get("$defs", {})}})
    return {"properties": {"task_type": {"const": kind}, "payload": whole}}


@pytest.mark.timeout(600)
def test_a_refusal_costs_no_more_than_an_acceptance(facade: RunningFacade) -> None:
    scales, document = Scales(facade), requests.get(f"{facade.url}/openapi.json", timeout=30).json()
    minted = requests.post(
        f"{facade.url}/ops/tokens",
        json={"name": "stranger", "trust": "untrusted", "task_types": ["embedding"]},
        headers=OPS,
        timeout=30,
    ).json()
    assert "token" in minted, minted
    credentials = {
        "api": API,
        "internal": {"Authorization": f"Bearer {minted['token']}"},
        "operator": OPS,
    }
    texts = [f"{number} {'чайник ' * 140}" for number in range(2048)]
    sound = json.dumps({"task_type": "embedding", "payload": {"texts": texts}}, ensure_ascii=False).encode()
    assert SIZE * 0.9 < len(sound) < SIZE * 1.1
    accepted = [scales.cost("/v1/tasks", API, sound, "application/json") for _ in range(2)]
    assert {one.status for one in accepted} == {202}
    limit = max(one.seconds for one in accepted)

    found = list(operations(document))
    found += [Operation("/v1/tasks", "api", "application/json", in_task(kind)) for kind in KINDS]
    assert len(found) > 20
    assert all(operation.schema.get("properties") for operation in found)
    for operation in found:
        path = operation.path.replace("{task_id}", NOBODY)
        bodies = dict(worst(operation.schema))
        for name, body in (bodies | JSON_ALONE if path == "/internal/workers/heartbeat" else bodies).items():
            refused = scales.cost(path, credentials[operation.scope], body.encode(), operation.media)

            assert refused.status in REFUSED, (path, name, refused)
            assert refused.bytes <= MOST_BYTES, (path, name, refused)
            assert refused.seconds <= 2 * limit, (path, name, refused, accepted)
            assert refused.wait <= limit, (path, name, refused, accepted)
