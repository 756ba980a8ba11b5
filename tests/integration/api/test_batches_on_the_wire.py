"""Batches before the server that production runs, over connections that break."""

from __future__ import annotations

import gzip
import io
import json
import socket
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import urllib3

from gifty_compute.core import Core
from tests.integration.conftest import API
from tests.integration.queue.batches import body, claim, complete, execute, line

HEAD = (
    "POST /v1/batches HTTP/1.1\r\nHost: facade\r\nAuthorization: Bearer api-token\r\n"
    "Content-Type: application/x-ndjson\r\nIdempotency-Key: night-7\r\n"
)


def broken(granian: str, headers: str, sent: bytes) -> None:
    """An upload whose connection is closed before the end of its body; returns when the server saw it."""
    where = urlsplit(granian)
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        connection.sendall((HEAD + headers + "\r\n").encode() + sent)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def chunk(data: bytes) -> bytes:
    return b"%x\r\n" % len(data) + data + b"\r\n"


def stored(core: Core) -> int:
    [row] = execute(core.database, "SELECT count(*) AS n FROM compute_tasks")
    return int(row["n"])


def test_an_upload_that_breaks_off_behind_a_whole_line_leaves_nothing_and_its_key_free(
    granian: str, core: Core
) -> None:
    whole = body(200)
    half = whole[: whole.index(b"\n", len(whole) // 2) + 1]
    packed = gzip.compress(whole)
    part = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    flushed = part.compress(half) + part.flush(zlib.Z_SYNC_FLUSH)

    broken(granian, f"Content-Length: {len(whole)}\r\n", half)
    broken(granian, "Transfer-Encoding: chunked\r\n", chunk(half))
    broken(granian, "Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n", chunk(flushed))
    broken(granian, "Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n", chunk(packed[:-1]))
    left = stored(core)
    headers = {**API, "Content-Type": "application/x-ndjson", "Idempotency-Key": "night-7"}
    answer = requests.post(f"{granian}/v1/batches", data=whole, headers=headers, timeout=30)

    assert left == 0
    assert answer.status_code == 202
    assert stored(core) == 200


def test_gzip_may_come_in_chunks_and_plain_lines_may_not(granian: str, core: Core) -> None:
    headers = {**API, "Content-Type": "application/x-ndjson"}
    packed = gzip.compress(body(200))
    pieces = [packed[n : n + 500] for n in range(0, len(packed), 500)]

    good = requests.post(
        f"{granian}/v1/batches",
        data=iter(pieces),
        headers={**headers, "Content-Encoding": "gzip"},
        timeout=30,
    )
    refused = requests.post(f"{granian}/v1/batches", data=iter([body(200)]), headers=headers, timeout=30)

    assert (good.status_code, good.json()["total"]) == (202, 200)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "Content-Length")


def test_a_bad_line_is_answered_while_the_rest_is_still_being_sent(granian: str) -> None:
    data = b"{\n" + body(1) * 200_000

    answer = requests.post(
        f"{granian}/v1/batches",
        data=data,
        headers={**API, "Content-Type": "application/x-ndjson"},
        timeout=60,
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_body")


@pytest.fixture
def results(granian: str, core: Core) -> str:
    """The address of the results of 60 tasks of 300 texts: 27 MB of numbers, more than sockets hold."""
    texts = [f"чайник {n}" for n in range(300)]
    answer = requests.post(
        f"{granian}/v1/batches",
        data=line("", payload={"texts": texts}) * 60,
        headers={**API, "Content-Type": "application/x-ndjson"},
        timeout=30,
    )
    while tasks := claim(core.leases, limit=10):
        complete(core.leases, tasks)
    return f"{granian}/v1/batches/{answer.json()['id']}/results"


@pytest.fixture
def unreadable(core: Core) -> Iterator[Callable[[], None]]:
    """Takes the vectors away, as an outage would; they are back at the end."""
    yield lambda: execute(core.database, "ALTER TABLE compute_task_vectors RENAME TO away") and None
    execute(core.database, "ALTER TABLE IF EXISTS away RENAME TO compute_task_vectors")


def read(results: str, accept: str, unreadable: Callable[[], None]) -> bytes:
    """All that came, of an answer during which the database went away."""
    answer = requests.get(results, headers={**API, "Accept": accept}, stream=True, timeout=30)
    assert answer.status_code == 200
    first = answer.raw.read(100_000)
    unreadable()
    return bytes(first + answer.raw.read())


def test_results_come_whole_through_a_real_server(results: str) -> None:
    npy = requests.get(results, headers={**API, "Accept": "application/x-npy"}, timeout=60)
    lines = requests.get(results, headers=API, timeout=60).content.splitlines()

    matrix = np.load(io.BytesIO(npy.content))
    assert matrix.shape == (18_000, 384)
    assert [json.loads(one)["position"] for one in lines] == list(range(60))


def test_lines_that_break_off_say_so_in_the_last(results: str, unreadable: Callable[[], None]) -> None:
    *lines, last = read(results, "application/x-ndjson", unreadable).splitlines()

    assert 0 < len(lines) < 60
    assert all("error" in json.loads(one) and "id" in json.loads(one) for one in lines)
    assert list(json.loads(last)) == ["error"]
    assert json.loads(last)["error"]["code"] == "store_unavailable"


def test_a_matrix_that_breaks_off_is_seen_to_be_cut(results: str, unreadable: Callable[[], None]) -> None:
    with pytest.raises(urllib3.exceptions.ProtocolError, match=r"IncompleteRead|broken|closed"):
        read(results, "application/x-npy", unreadable)


def test_parquet_that_breaks_off_cannot_be_read(results: str, unreadable: Callable[[], None]) -> None:
    came = read(results, "application/vnd.apache.parquet", unreadable)

    with pytest.raises(pa.ArrowInvalid, match=r"[Ff]ooter|magic"):
        pq.read_table(io.BytesIO(came))


def test_a_slow_reader_holds_no_connection_to_the_database(results: str, core: Core) -> None:
    answer = requests.get(results, headers=API, stream=True, timeout=30)
    answer.raw.read(10)
    busy = execute(
        core.database,
        """SELECT count(*) AS n FROM pg_stat_activity
           WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL""",
    )
    answer.close()

    assert busy == [{"n": 0}]
