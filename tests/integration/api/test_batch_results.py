"""The results of a batch, as every format reads them back."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow.parquet as pq
import pytest
from flask.testing import FlaskClient

from api import create_app
from api.admission import Kind
from gifty_compute.core import Core
from gifty_compute.errors import StoreUnavailable
from gifty_compute.queue import results
from gifty_compute.queue.results import BatchResults
from gifty_compute.queue.sight import Sight
from gifty_compute.settings import Settings
from gifty_compute.wire.vectors import decode
from tests.conftest import EVERY_CLIENT
from tests.integration.conftest import API
from tests.integration.conftest import WORKER as WORKERS_TOKEN
from tests.integration.queue.batches import WORKER, body, claim, complete, execute, line, vectors

PARQUET = "application/vnd.apache.parquet"
NPY = "application/x-npy"
FIELDS = {"id", "position", "task_type", "status", "result", "error", "metadata"}
HALF = vectors(1, 2).astype(np.float16).astype(np.float32)


def post(client: FlaskClient, data: bytes, token: dict[str, str] = API) -> str:
    """The path of the results of a new batch."""
    headers = {**token, "Content-Type": "application/x-ndjson"}
    answer = client.post("/v1/batches", data=data, headers=headers)
    assert answer.status_code == 202, answer.text
    return f"{answer.headers['Location']}/results"


def read(client: FlaskClient, path: str, accept: str | None = None) -> Any:
    return client.get(path, headers={**API, **({"Accept": accept} if accept else {})})


def lines(answer: Any) -> list[dict[str, Any]]:
    return [json.loads(one) for one in answer.data.splitlines()]


def _matrix(rows: Any) -> np.ndarray[Any, Any]:
    return np.array(rows, dtype=np.float32)


@pytest.fixture
def mixed(client: FlaskClient, core: Core) -> str:
    """Six tasks: done, failed, done in half precision, cancelled, reranked, pending."""
    rerank = {"task_type": "rerank", "payload": {"query": "чай", "documents": ["кружка", "лопата"]}}
    data = body(4) + json.dumps(rerank).encode() + b"\n" + line("чайник 5")
    path = post(client, data)
    tasks = {task.payload["texts"][0]: task for task in claim(core.leases) if task.task_type == "embedding"}
    complete(core.leases, [tasks["чайник 0"]])
    core.leases.fail(WORKER, tasks["чайник 1"], "too hot", retryable=False)
    half = {"embeddings": vectors(1, 2).astype(np.float16)}
    core.leases.complete(WORKER, tasks["чайник 2"], half)
    core.store.cancel(EVERY_CLIENT, tasks["чайник 3"].id)
    execute(core.database, "UPDATE compute_tasks SET status = 'pending' WHERE status = 'processing'")
    [task] = [task for task in claim(core.leases) if task.task_type == "rerank"]
    core.leases.complete(WORKER, task, {"scores": [0.9, 0.1]})
    return path


def test_lines_are_in_the_order_of_the_submit_whatever_became_of_each(
    client: FlaskClient, mixed: str
) -> None:
    answer = read(client, mixed)

    found = lines(answer)
    assert (answer.status_code, answer.mimetype) == (200, "application/x-ndjson")
    assert [one["position"] for one in found] == [0, 1, 2, 3, 4, 5]
    assert [one["status"] for one in found] == [
        *("completed", "failed", "completed", "cancelled", "completed", "processing")
    ]
    assert [one["error"] for one in found] == [None, "too hot", None, None, None, None]
    assert [one["metadata"] for one in found] == [{"n": 0}, {"n": 1}, {"n": 2}, {"n": 3}, None, None]
    assert np.array_equal(_matrix(found[0]["result"]["embeddings"]), vectors(1, 0))
    assert found[0]["result"]["space"] == "multilingual-e5-small-q4"
    assert np.array_equal(_matrix(found[2]["result"]["embeddings"]), HALF)
    assert found[4]["result"]["scores"] == [0.9, 0.1]
    assert [one["result"] for one in (found[1], found[3], found[5])] == [None, None, None]
    assert all(set(one) == FIELDS for one in found)
    assert client.get(f"/v1/tasks/{found[1]['id']}", headers=API).json["error"] == "too hot"


def test_vectors_of_lines_come_in_the_binary_form_for_who_asks(client: FlaskClient, mixed: str) -> None:
    found = lines(client.get(f"{mixed}?encoding_format=base64", headers=API))

    assert np.array_equal(decode(found[0]["result"]["embeddings"]), vectors(1, 0))
    assert found[2]["result"]["embeddings"]["dtype"] == "float16"


def test_pages_join_without_a_gap(client: FlaskClient, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    path = post(client, body(25))
    complete(core.leases, claim(core.leases))
    monkeypatch.setattr(results, "_ROWS_A_PAGE", 10)
    by_rows = lines(read(client, path))
    # About five vectors of 384 numbers.
    monkeypatch.setattr(results, "_BYTES_A_PAGE", 8000)
    by_bytes = lines(read(client, path))
    monkeypatch.setattr(results, "_BYTES_A_PAGE", 1)
    one_by_one = lines(read(client, path))

    assert [one["metadata"]["n"] for one in by_rows] == list(range(25))
    assert by_rows == by_bytes == one_by_one


@pytest.mark.parametrize("first", [0, 1, 9, 10, 24, 25, 99_999])
def test_a_reader_goes_on_where_the_connection_broke(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    path = post(client, body(25))
    monkeypatch.setattr(results, "_ROWS_A_PAGE", 10)

    found = lines(client.get(f"{path}?first={first}", headers=API))
    table = pq.read_table(io.BytesIO(read(client, f"{path}?first={first}", PARQUET).data))

    assert [one["position"] for one in found] == list(range(first, 25))
    assert table.column("position").to_pylist() == list(range(first, 25))


@pytest.mark.parametrize("query", ["first=-1", "first=x", "first=100001", "encoding_format=hex", "limit=1"])
def test_a_query_that_breaks_a_rule_is_422(client: FlaskClient, mixed: str, query: str) -> None:
    assert client.get(f"{mixed}?{query}", headers=API).status_code == 422
    assert read(client, f"{mixed}?first=1", NPY).status_code == 422


def test_positions_stay_when_rows_before_them_were_removed(
    client: FlaskClient, core: Core, mixed: str
) -> None:
    execute(core.database, "DELETE FROM compute_tasks WHERE status = 'completed'")

    assert [one["position"] for one in lines(read(client, mixed))] == [1, 3, 5]
    assert [one["position"] for one in lines(read(client, f"{mixed}?first=2"))] == [3, 5]


def test_a_fault_of_ours_ends_the_lines_with_an_error(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = post(client, body(20))
    monkeypatch.setattr(results, "_ROWS_A_PAGE", 10)
    monkeypatch.setattr("gifty_compute.queue.formats._PIECE", 1)
    real = BatchResults._page
    monkeypatch.setattr(
        BatchResults, "_page", lambda self, *of, after: real(self, *of, after=after) if after == 0 else 1 / 0
    )

    *found, last = lines(read(client, path))

    assert len(found) == 10
    assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "internal_error")


def test_no_page_is_read_before_its_turn_and_no_connection_is_held_between(
    client: FlaskClient, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = post(client, body(30))
    complete(core.leases, claim(core.leases))
    monkeypatch.setattr(results, "_ROWS_A_PAGE", 10)
    monkeypatch.setattr("gifty_compute.queue.formats._PIECE", 1)
    asked: list[int] = []
    real = BatchResults._page
    monkeypatch.setattr(
        BatchResults,
        "_page",
        lambda self, *of, after: asked.append(after) or real(self, *of, after=after),
    )

    answer = client.get(path, headers=API, buffered=False)
    pieces = iter(answer.response)
    next(pieces)
    after_one = len(asked), core.database.engine.pool.checkedout()
    [next(pieces) for _ in range(10)]
    after_eleven = len(asked), core.database.engine.pool.checkedout()
    answer.close()

    assert (after_one, after_eleven) == ((1, 0), (2, 0))


def test_a_reader_who_leaves_gives_the_place_back(client: FlaskClient, core: Core) -> None:
    path = post(client, body(30))
    admission = client.application.extensions["admission"]

    answer = client.get(path, headers=API, buffered=False)
    held = admission.occupancy()[Kind.RESULTS].taken
    answer.close()

    assert (held, admission.occupancy()[Kind.RESULTS].taken) == (1, 0)


def test_slow_readers_of_results_take_no_places_of_users_and_workers(
    client: FlaskClient, settings: Settings
) -> None:
    """K8: 60 readers at no speed made every embedding and every claim a 503."""
    path = post(client, body(30))
    readers = []
    while (answer := client.get(path, headers=API, buffered=False)).status_code == 200:
        readers.append(answer)

    jobs = {"Authorization": "Bearer jobs-token"}
    other = client.get(post(client, body(3), jobs), headers=jobs, buffered=False)
    embedded = client.post("/v1/embeddings", json={"input": "чай"}, headers=API)
    claimed = client.get("/internal/workers/tasks?worker_id=w", headers=WORKERS_TOKEN)
    for reader in (*readers, other):
        reader.close()

    places = max(1, settings.facade_threads // 64)
    assert len(readers) == math.ceil(places * 3 / 4)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert (other.status_code, embedded.status_code, claimed.status_code) == (200, 200, 200)


def test_parquet_reads_back_as_it_was(client: FlaskClient, mixed: str) -> None:
    answer = read(client, mixed, PARQUET)

    table = pq.read_table(io.BytesIO(answer.data))
    rows = table.to_pylist()
    assert (answer.status_code, answer.mimetype) == (200, PARQUET)
    assert [row["position"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row["status"] for row in rows][:4] == ["completed", "failed", "completed", "cancelled"]
    assert rows[1]["error"] == "too hot"
    assert np.array_equal(_matrix(rows[0]["embeddings"]), vectors(1, 0))
    assert np.array_equal(_matrix(rows[2]["embeddings"]), HALF)
    assert [row["embeddings"] for row in (rows[1], rows[3], rows[4])] == [None, None, None]
    assert json.loads(rows[4]["result"])["scores"] == [0.9, 0.1]
    assert json.loads(rows[3]["metadata"]) == {"n": 3}
    assert rows[0]["space"] == "multilingual-e5-small-q4"
    assert UUID(rows[0]["id"])


def test_parquet_of_many_pages_has_all_rows(
    client: FlaskClient, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [[f"{m} {n}" for m in range(n % 3 + 1)] for n in range(25)]
    many = b"".join(line("", payload={"texts": some}) for some in texts)
    path = post(client, many)
    complete(core.leases, claim(core.leases))
    monkeypatch.setattr(results, "_ROWS_A_PAGE", 10)

    table = pq.ParquetFile(io.BytesIO(read(client, path, PARQUET).data))

    assert table.num_row_groups == 3
    nested = table.read().column("embeddings").to_pylist()
    for n, matrix in enumerate(nested):
        assert np.array_equal(_matrix(matrix), vectors(n % 3 + 1, n))


def test_parquet_without_its_extra_is_406_and_names_it(
    client: FlaskClient, mixed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "gifty_compute.queue.parquet", raising=False)

    answer = read(client, mixed, PARQUET)

    assert (answer.status_code, answer.json["error"]["code"]) == (406, "not_acceptable")
    assert "gifty-compute[parquet]" in answer.json["error"]["message"]


def test_numpy_gets_all_vectors_in_order(
    client: FlaskClient, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = post(client, body(24) + b'{"task_type":"embedding","payload":{"texts":["a 24","b 24"]}}\n')
    tasks = claim(core.leases)
    complete(core.leases, tasks[1:])
    core.leases.complete(WORKER, tasks[0], {"embeddings": vectors(1, 0).astype(np.float16)})
    monkeypatch.setattr(results, "_ROWS_A_PAGE", 10)

    answer = read(client, path, NPY)

    matrix = np.load(io.BytesIO(answer.data))
    assert (answer.status_code, answer.mimetype) == (200, NPY)
    assert int(answer.headers["Content-Length"]) == len(answer.data)
    assert (matrix.dtype, matrix.shape) == (np.float32, (26, 384))
    assert np.array_equal(matrix[0], vectors(1, 0).astype(np.float16).astype(np.float32)[0])
    assert np.array_equal(matrix[1:24], np.concatenate([vectors(1, n) for n in range(1, 24)]))
    assert np.array_equal(matrix[24:], vectors(2, 24))


def _unfinished(core: Core, client: FlaskClient) -> str:
    path = post(client, body(3))
    complete(core.leases, claim(core.leases, limit=2))
    return path


def _failed(core: Core, client: FlaskClient) -> str:
    path = post(client, body(2))
    first, second = claim(core.leases)
    complete(core.leases, [first])
    core.leases.fail(WORKER, second, "no", retryable=False)
    return path


def _of_two_kinds(core: Core, client: FlaskClient) -> str:
    path = post(client, body(1) + b'{"task_type":"rerank","payload":{"query":"a","documents":["b"]}}\n')
    for task in claim(core.leases):
        if task.task_type == "rerank":
            core.leases.complete(WORKER, task, {"scores": [0.5]})
        else:
            complete(core.leases, [task])
    return path


def _of_two_spaces(core: Core, client: FlaskClient) -> str:
    path = post(client, body(2))
    complete(core.leases, claim(core.leases))
    sql = "UPDATE compute_tasks SET space = 'another' WHERE seq = (SELECT max(seq) FROM compute_tasks)"
    execute(core.database, sql)
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_unfinished, "1 of its 3 tasks have no result"),
        (_failed, "1 of its 2 tasks have no result"),
        (_of_two_kinds, "1 of its 2 tasks are no embeddings"),
        (_of_two_spaces, "several spaces: another, multilingual-e5-small-q4"),
    ],
)
def test_numpy_is_409_where_the_vectors_are_not_one_matrix(
    client: FlaskClient, core: Core, make: Any, reason: str
) -> None:
    answer = read(client, make(core, client), NPY)

    assert (answer.status_code, answer.json["error"]["code"]) == (409, "conflict")
    assert reason in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("accept", "mimetype"),
    [
        (None, "application/x-ndjson"),
        ("*/*", "application/x-ndjson"),
        ("application/json;q=0.5, application/*;q=0.2", "application/x-ndjson"),
        (f"{PARQUET}, */*;q=0.1", PARQUET),
    ],
)
def test_the_reader_says_which_format(
    client: FlaskClient, mixed: str, accept: str | None, mimetype: str
) -> None:
    assert read(client, mixed, accept).mimetype == mimetype


def test_another_format_is_406(client: FlaskClient, mixed: str) -> None:
    answer = read(client, mixed, "text/csv")

    assert answer.status_code == 406
    assert "application/x-npy" in answer.json["error"]["message"]


def test_a_store_that_is_gone_before_the_first_page_is_503(
    client: FlaskClient, mixed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BatchResults, "_page", _gone)

    assert read(client, mixed).status_code == 503


def _gone(*_: Any, **__: Any) -> Any:
    raise StoreUnavailable("the database does not answer; try again")


def test_lines_that_break_off_end_with_an_error_and_files_without_an_end(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = create_app(core).test_client()
    path = post(client, body(20))
    complete(core.leases, claim(core.leases))
    monkeypatch.setattr(results, "_ROWS_A_PAGE", 10)
    real = BatchResults._page

    def breaks(self: BatchResults, sight: Sight, batch: UUID, *, after: int) -> Any:
        return real(self, sight, batch, after=after) if after == 0 else _gone()

    monkeypatch.setattr(BatchResults, "_page", breaks)
    monkeypatch.setattr("gifty_compute.queue.formats._PIECE", 1)

    found = lines(read(client, path))
    parquet = read(client, path, PARQUET).data
    npy = client.get(path, headers={**API, "Accept": NPY})

    assert [one["position"] for one in found[:-1]] == list(range(10))
    assert set(found[-1]) == {"error"}
    assert found[-1]["error"]["code"] == "store_unavailable"
    with pytest.raises(Exception, match=r"[Ff]ooter|magic"):
        pq.read_table(io.BytesIO(parquet))
    with pytest.raises(ValueError, match=r"reshape|array"):
        np.load(io.BytesIO(npy.data))


def test_a_batch_whose_rows_were_removed_has_no_lines(client: FlaskClient, core: Core, mixed: str) -> None:
    execute(core.database, "DELETE FROM compute_tasks")

    answer = read(client, mixed)

    assert (answer.status_code, answer.data) == (200, b"")


@pytest.fixture(autouse=True)
def _parquet_is_imported_anew() -> Iterator[None]:
    yield
    sys.modules.pop("gifty_compute.queue.parquet", None)
