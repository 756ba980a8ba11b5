"""The fixed hostile bodies and queries, at every path that is served: a 4xx, and not a row is changed."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from api.operation import Operation, operations
from gifty_compute.core import Core
from gifty_compute.wire.score import AXES
from tests.integration.api.test_hostile import assert_contract_shape
from tests.integration.conftest import API, OPS, WORKER

NOBODY = str(UUID(int=0))
CREDENTIALS = {"api": API, "internal": WORKER, "ops": OPS, "operator": OPS}
TABLES = (
    "compute_tasks",
    "compute_task_vectors",
    "compute_batches",
    "compute_worker_tokens",
    "compute_claims",
    "compute_checks",
    "compute_callbacks",
)
NDJSON = "application/x-ndjson"

NO_JSON = {
    "nothing": b"",
    "half": b'{"a":',
    "two values": b"{} {}",
    "a comment": b"{/**/}",
    "single quotes": b"{'a':1}",
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "a float beyond all": b'{"a":1e400}',
    "an integer beyond all": b'{"a":' + b"9" * 5000 + b"}",
    "a raw NUL": b'{"a":"\x00"}',
    "invalid UTF-8": b'{"a":"\xff\xfe"}',
    "an overlong slash": b'{"a":"\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "cp1251": '{"a":"чай"}'.encode("cp1251"),
    "UTF-16": '{"a":"b"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "two thousand levels": b'{"a":' * 2000 + b"1" + b"}" * 2000,
    "200 kB of brackets": b"[" * 200_000,
}
NO_REQUEST = {
    "a number": b"5",
    "a text": b'"a"',
    "true": b"true",
    "null": b"null",
    "a list": b"[{}]",
    "an empty object": b"{}",
    "an empty name": b'{"":1}',
    "a NUL in a name": b'{"a\\u0000":1}',
    "a lone surrogate in a name": b'{"\\ud800":1}',
    "names of other languages": b'{"__proto__":{},"constructor":1}',
    "over the limit": b'{"a":"' + b"a" * 1_000_001 + b'"}',
    "500 levels": b'{"a":' * 500 + b"1" + b"}" * 500,
}
BODIES = NO_JSON | NO_REQUEST
SOUND = gzip.compress(b"{}")
PACKED = {
    "not gzip": b"{}",
    "nothing": b"",
    "only a header": SOUND[:10],
    "cut in the data": SOUND[:-9],
    "cut in the trailer": SOUND[:-3],
    "a wrong checksum": SOUND[:-8] + b"\0" * 8,
    "a wrong length": SOUND[:-4] + b"\xff" * 4,
    "something behind it": SOUND + b"more",
    "gzip in gzip": gzip.compress(SOUND),
    "a bomb": gzip.compress(b" " * 30_000_000),
    "a bomb of brackets": gzip.compress(b"[" * 990_000),
    "a bomb of members": gzip.compress(b" " * 990_000) * 40,
}
# What a field may be given: another type, too much, too long, what JSON has and PostgreSQL has not.
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 2**31, 2**63, 10**30, 1e308, -0.0, "", " ", "NaN", "9" * 400, "a" * 40_000),
    *("\x00", "\ud800", NOBODY, [], {}, [[]], [None], [5], [{}], {"a": None}, {"a": {"\x00": 1}}, [NOBODY]),
    *([{"id": NOBODY}], [{"id": NOBODY, "attempt": 2**31}], [{"id": NOBODY, "attempt": 1.5}]),
    *([{"id": 5, "attempt": 1}], [{"id": NOBODY, "attempt": True}], [{"id": f"{{{NOBODY}}}", "attempt": 1}]),
    *({"embeddings": [[1, "a"]]}, {"embeddings": {"dtype": "float64", "shape": [1, 1], "data": ""}}),
    {"embeddings": {"dtype": "float32", "shape": [2**40, 2**40], "data": "AAAA"}},
    [{"id": NOBODY, "status": "completed", "result": {"embeddings": [[1e308]]}}],
)
QUERIES = (
    *(
        "a=1",
        "%00=%00",
        "%ff=%ff",
        "=",
        "&&&",
        "wait=-1",
        "wait=nan",
        "wait=1e999",
        "wait=0&wait=1",
        "limit=٣",
    ),
    *("limit=0", "limit=1e3", f"limit={'9' * 400}", "cursor=%ff", "cursor=%00", "cursor=-1", "first=-1"),
    *("first=99999999999999999999", "encoding_format=%00", "encoding_format=float&encoding_format=float"),
    *("finish_by=9999-12-31T23:59:59-23:59", "finish_by=0001-01-01T00:00:00%2B23:59", "finish_by=0"),
    *("finish_by=9999-12-31T23:59:59-05:00", "max_cost=nan", "max_cost=-1", "max_cost=1e400", "state=%00"),
    *(
        "callback_url=%00",
        "callback_url=http://[::1",
        "callback_url=http://127.0.0.1/",
        "task_id=1",
        "batch_id=x",
    ),
)
LEAST = {
    "worker_id": "w",
    "tasks": [],
    "reason": "drain",
    "results": [{}],
    "status": "completed",
    "name": "n",
    "task_type": "embedding",
    "payload": {"texts": ["a"]},
    "input": "a",
    "query": "a",
    "documents": ["a"],
    "external_names": ["a"],
    "title": "a",
    "messages": [{"role": "user", "content": "a"}],
}


@pytest.fixture
def held(client: FlaskClient, submit: Any) -> str:
    """A task that somebody works on."""
    task_id: str = submit("чайник")["id"]
    claimed = client.get(f"/internal/workers/tasks?worker_id=holder&claim_id={uuid4()}", headers=WORKER)
    assert [task["id"] for task in claimed.json["tasks"]] == [task_id]
    return task_id


def stored(core: Core) -> list[Any]:
    """All that is in all tables."""
    with core.database.connection() as connection:
        asked = (f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {name} t" for name in TABLES)
        return [connection.execute(text(one)).scalar() for one in asked]


class Path:
    """An operation as the application has it, to be called in hostile ways."""

    def __init__(self, client: FlaskClient, rule: Rule, found: Operation) -> None:
        self._client, self.rule, self.found = client, rule, found
        self.media = NDJSON if found.lines else "application/json"
        self.methods = (rule.methods or set()) - {"OPTIONS"}

    def call(self, method: str, id_: str | None = None, **how: Any) -> TestResponse:
        """With this id, or one that nothing has; the scale in an address is then one that there is."""
        path = self.rule.rule
        for argument in self.rule.arguments:
            is_a_tasks = id_ is None or (re.fullmatch(r"[0-9a-f-]{36}", id_) and id_ != NOBODY)
            scale = "0-1" if argument == "scale" and is_a_tasks else None
            path = path.replace(f"<{argument}>", scale or id_ or NOBODY)
        headers = {**CREDENTIALS.get(self.found.scope or "", {}), **how.pop("headers", {})}
        answer = self._client.open(path, method=method, headers=headers, **how)
        assert answer.status_code < 500, (method, path, how, answer.data)
        if answer.status_code >= 400 and method != "HEAD":
            assert_contract_shape(answer)
        return answer


@pytest.fixture
def paths(client: FlaskClient) -> list[Path]:
    views = client.application.view_functions
    known = ((rule, operations.get(views[rule.endpoint])) for rule in client.application.url_map.iter_rules())
    found = [Path(client, rule, operation) for rule, operation in known if operation is not None]
    assert len(found) > 25
    return found


def with_bodies(paths: list[Path]) -> Iterator[Path]:
    return (path for path in paths if path.found.body is not None or path.found.lines is not None)


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_refused_at_every_path(paths: list[Path], core: Core, held: str, name: str) -> None:
    before = stored(core)

    for path in with_bodies(paths):
        for how in ({}, {"headers": {"Content-Encoding": "gzip"}}):
            body = gzip.compress(BODIES[name]) if how else BODIES[name]
            answer = path.call("POST", held, data=body, content_type=path.media, **how)
            assert answer.status_code in (400, 413, 422), (path.rule, answer.status_code)
            if name in NO_JSON:
                # A line that is blank is none, and a batch of none is no batch.
                assert answer.status_code == 400 or (path.found.lines and name == "nothing"), path.rule

    assert stored(core) == before


@pytest.mark.parametrize("name", PACKED)
def test_a_hostile_gzip_body_is_refused_at_every_path(
    paths: list[Path], core: Core, held: str, name: str
) -> None:
    before = stored(core)
    packed = {"Content-Encoding": "gzip"}

    for path in with_bodies(paths):
        answer = path.call("POST", held, data=PACKED[name], content_type=path.media, headers=packed)
        assert answer.status_code in (400, 413, 422), (path.rule, answer.status_code)

    assert stored(core) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=a"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": ""},
        {"Content-Encoding": "br"},
        {"Content-Encoding": "gzip, gzip"},
        {"Content-Encoding": "\xff"},
    ],
    ids=str,
)
def test_another_type_or_encoding_is_415_at_every_path(
    paths: list[Path], core: Core, held: str, headers: dict[str, str]
) -> None:
    before = stored(core)

    for path in with_bodies(paths):
        answer = path.call("POST", held, data=b"{}", headers={"Content-Type": path.media, **headers})
        assert answer.status_code == 415, path.rule

    assert stored(core) == before


def test_no_value_of_a_field_is_answered_by_a_fault_of_ours(paths: list[Path], core: Core, held: str) -> None:
    """Many values are good ones; of those of the calls of workers none changes a task that is held."""
    for path in with_bodies(paths):
        before = stored(core)
        model = path.found.body or path.found.lines
        assert model is not None
        least = {name: value for name, value in LEAST.items() if name in model.model_fields}
        workers = path.found.scope == "internal"
        for name, info in model.model_fields.items():
            for value in VALUES:
                body = json.dumps({**least, info.alias or name: value}).encode()
                refused = path.call("POST", held, data=body, content_type=path.media).status_code >= 400
                assert refused or not workers or stored(core) == before, (path.rule, name, value)


def test_no_query_is_answered_by_a_fault_of_ours(paths: list[Path]) -> None:
    line = json.dumps({"task_type": "embedding", "payload": {"texts": ["a"]}}).encode()

    for path in paths:
        body = {"data": line, "content_type": path.media}
        for method in path.methods:
            for query in QUERIES if path.found.query else ():
                answer = path.call(method, query_string=query, **body)
                assert answer.status_code < 300 or answer.status_code in (404, 405, 422), (path.rule, query)


@pytest.mark.parametrize(
    "id_", ["x", "%00", "%ff", "..", "%2e%2e%2f", "a" * 5000, NOBODY, f"{{{NOBODY}}}", "٣"]
)
def test_an_id_that_is_none_is_404_at_every_path(paths: list[Path], core: Core, held: str, id_: str) -> None:
    before = stored(core)
    failed = {"data": b'{"status": "failed"}', "content_type": "application/json"}

    for path in paths:
        for method in path.methods if path.rule.arguments else ():
            assert path.call(method, id_, **failed).status_code in (404, 405), path.rule

    assert stored(core) == before


def test_of_a_name_that_comes_twice_the_last_one_counts(client: FlaskClient) -> None:
    """JSON leaves it open; what counts must be what is stored, and what was checked."""
    twice = b'{"task_type": "embedding", "payload": {"texts": ["a"]}, "max_attempts": 1, "max_attempts": %s}'

    last_good = client.post("/v1/tasks", data=twice % b"7", content_type="application/json", headers=API)
    last_bad = client.post("/v1/tasks", data=twice % b"70", content_type="application/json", headers=API)

    assert (last_good.status_code, last_bad.status_code) == (202, 422)
    assert last_good.json["max_attempts"] == 7


DEEP: Any = "a"
for _ in range(300):
    DEEP = {"a": DEEP}
PRODUCT = {"gift_score": 5, "reasoning": "годится", "tags": ["чай"]}
UNFIT_RESULTS = {
    "content": ("llm", {"content": "a\x00"}),
    "provider": ("llm", {"content": "a", "provider": "\x00"}),
    "model": ("llm", {"content": "a", "model": "\x00"}),
    "reasoning": ("score", {"scores": [{**PRODUCT, "reasoning": "\x00"}]}),
    "a tag": ("score", {"scores": [{**PRODUCT, "tags": ["\x00"]}]}),
    "version": ("score", {"scores": [PRODUCT], "version": "\x00"}),
    "an axis": (
        "score",
        {"scores": [{**PRODUCT, "gift_vector": dict.fromkeys(AXES) | {"age_suitability": DEEP}}]},
    ),
    "a name in an axis": (
        "score",
        {"scores": [{**PRODUCT, "gift_vector": dict.fromkeys(AXES) | {"age_suitability": {"\x00": 1}}}]},
    ),
}
PAYLOADS = {
    "llm": {"messages": [{"role": "user", "content": "a"}]},
    "score": {"products": [{"title": "чай"}]},
}


@pytest.mark.parametrize("name", UNFIT_RESULTS)
def test_a_result_that_cannot_be_stored_is_422_and_spoils_no_other(
    client: FlaskClient, core: Core, submit: Any, name: str
) -> None:
    kind, unfit = UNFIT_RESULTS[name]
    good = {"content": "a"} if kind == "llm" else {"scores": [PRODUCT]}
    bad_one, good_one = (submit(task_type=kind, payload=PAYLOADS[kind])["id"] for _ in range(2))
    asked = {"worker_id": "holder", "task_type": kind, "claim_id": str(uuid4())}
    assert client.get("/internal/workers/tasks", query_string=asked, headers=WORKER).json["count"] == 2
    results = [
        {"id": task_id, "status": "completed", "result": result, "attempt": 1}
        for task_id, result in ((bad_one, unfit), (good_one, good))
    ]

    alone = client.post(
        f"/internal/workers/tasks/{bad_one}/result",
        json={"status": "completed", "result": unfit, "attempt": 1},
        headers=WORKER,
    )
    both = client.post(
        "/internal/workers/results", json={"worker_id": "w", "results": results}, headers=WORKER
    )

    assert alone.status_code == 422
    assert [verdict["http_status"] for verdict in both.json["verdicts"]] == [422, 200]
    assert core.store.stored(UUID(bad_one)).status == "processing"
