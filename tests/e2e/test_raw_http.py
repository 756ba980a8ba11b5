"""Bytes that no client library sends, at the server as it is deployed: framing, silence, crowds."""

from __future__ import annotations

import re
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg2
import pytest
import requests

from gifty_compute.embedded.valkey import Valkey
from tests.facade import RunningFacade, running_facade

TOKEN = "Authorization: Bearer api-token\r\n"
BODY = '{"task_type":"embedding","payload":{"texts":["a"]}}'
SIZE = len(BODY)
CHUNKED = f"{SIZE:x}\r\n{BODY}\r\n0\r\n\r\n"
# Behind each request comes this one: who reads the first one's length otherwise than we do shows it here.
NEXT = "GET /healthz HTTP/1.1\r\nHost: a\r\nX-Request-Id: the-next\r\nConnection: close\r\n\r\n"
SMUGGLED = "GET /healthz HTTP/1.1\r\nHost: a\r\nX-Request-Id: smuggled\r\n\r\n"
MORE_THAN_GRANIANS_OWN = 1100


@pytest.fixture(scope="module")
def facade(
    migrated_url: str, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningFacade]:
    environ = {"DATABASE_URL": migrated_url, "REDIS_URL": valkey.url}
    with running_facade(tmp_path_factory.mktemp("raw"), environ, threads=16) as running:
        yield running


def said(port: int, sent: str) -> tuple[list[int], list[str]]:
    """The statuses and request ids of all answers, up to the end of the connection."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent.encode("latin-1"))
        try:
            while piece := connection.recv(65_536):
                answer += piece
        except ConnectionResetError:
            pass  # What it had not read when it closed; the answer was here before.
    text = answer.decode("latin-1")
    statuses = [int(found) for found in re.findall(r"HTTP/1\.1 (\d{3}) ", text)]
    return statuses, re.findall(r"\r\nx-request-id: (\S+)\r\n", text)


def post(head: str, body: str, *, token: str = TOKEN, path: str = "/v1/tasks") -> str:
    return f"POST {path} HTTP/1.1\r\nHost: a\r\n{token}Content-Type: application/json\r\n{head}\r\n{body}"


def count(url: str) -> int:
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM compute_tasks")
        found: int = cursor.fetchone()[0]
    connection.close()
    return found


SOUND = {
    "a length": post(f"Content-Length: {SIZE}\r\n", BODY),
    "the same length twice": post(f"Content-Length: {SIZE}\r\n" * 2, BODY),
    "chunks": post("Transfer-Encoding: chunked\r\n", CHUNKED),
    "chunks with an extension": post(
        "Transfer-Encoding: chunked\r\n", CHUNKED.replace("\r\n", ";a=b\r\n", 1)
    ),
    "chunks with a trailer": post(
        "Transfer-Encoding: chunked\r\n", CHUNKED[:-2] + "Authorization: Bearer wrong\r\n\r\n"
    ),
    "a header that looks like a length": post(f"Content_Length: 5\r\nContent-Length: {SIZE}\r\n", BODY),
    "a header that looks like chunks": post(
        f"Transfer_Encoding: chunked\r\nContent-Length: {SIZE}\r\n", BODY
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_is_sound_is_taken_and_the_next_request_is_the_next(facade: RunningFacade, name: str) -> None:
    statuses, ids = said(facade.port, SOUND[name] + NEXT)

    assert statuses == [202, 200]
    assert ids[-1] == "the-next"


AMBIGUOUS = {
    "two lengths": post(f"Content-Length: {SIZE}\r\nContent-Length: 5\r\n", BODY),
    "a list of lengths": post(f"Content-Length: {SIZE}, {SIZE}\r\n", BODY),
    "a length with a sign": post(f"Content-Length: +{SIZE}\r\n", BODY),
    "a length below zero": post("Content-Length: -1\r\n", BODY),
    "a length in hex": post(f"Content-Length: {SIZE:#x}\r\n", BODY),
    "a length beyond all": post(f"Content-Length: {'9' * 30}\r\n", BODY),
    "a space before the colon": post(f"Content-Length : {SIZE}\r\n", BODY),
    "an unknown coding": post("Transfer-Encoding: xchunked\r\n", CHUNKED),
    "chunked, but not last": post("Transfer-Encoding: chunked, identity\r\n", CHUNKED),
    "two codings": post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", CHUNKED),
    "a tab of the other kind": post("Transfer-Encoding: \x0bchunked\r\n", CHUNKED),
    "a folded header": post(f"X-A: b\r\n c\r\nContent-Length: {SIZE}\r\n", BODY),
    "a carriage return in a header": post(f"X-A: b\rContent-Length: 5\r\nContent-Length: {SIZE}\r\n", BODY),
    "a NUL in a header": post(f"X-A: b\x00c\r\nContent-Length: {SIZE}\r\n", BODY),
    "a chunk's size below zero": post("Transfer-Encoding: chunked\r\n", f"-1\r\n{BODY}\r\n0\r\n\r\n"),
    "a chunk's size beyond all": post("Transfer-Encoding: chunked\r\n", f"{'f' * 17}\r\n{BODY}\r\n0\r\n\r\n"),
    "a chunk's size ended by LF": post("Transfer-Encoding: chunked\r\n", CHUNKED.replace("\r\n", "\n", 1)),
    "HTTP/0.9": "GET /healthz\r\n\r\n",
    "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "raw bytes in the path": f"GET /v1/tasks/\xff HTTP/1.1\r\nHost: a\r\n{TOKEN}\r\n",
    "2000 headers": "GET /healthz HTTP/1.1\r\nHost: a\r\n" + "X-A: b\r\n" * 2000 + "\r\n",
    "a header of 1 MB": f"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: {'b' * 1_000_000}\r\n\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_could_be_read_in_two_ways_is_refused_and_ends_the_connection(
    facade: RunningFacade, migrated_url: str, name: str
) -> None:
    before = count(migrated_url)

    statuses, ids = said(facade.port, AMBIGUOUS[name] + NEXT)

    assert statuses in ([400], [431], []), "answered, and no request behind it was"
    assert "the-next" not in ids
    assert count(migrated_url) == before


def test_of_a_length_and_chunks_the_chunks_count_and_nothing_follows(facade: RunningFacade) -> None:
    both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"

    statuses, ids = said(facade.port, post(both, CHUNKED) + NEXT)

    assert (statuses, "the-next" in ids) == ([202], False)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(f"Content-Length: {len(SMUGGLED)}\r\n", SMUGGLED, token="Authorization: Bearer no\r\n"), 401),
        (post(f"Content-Length: {len(SMUGGLED)}\r\n", SMUGGLED, path="/nowhere"), 404),
        (post(f"Content-Length: {len(SMUGGLED)}\r\n", SMUGGLED, path="/healthz"), 405),
        (post(f"Content-Encoding: br\r\nContent-Length: {len(SMUGGLED)}\r\n", SMUGGLED), 415),
        (f"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}", 200),
    ],
    ids=["401", "404", "405", "415", "200"],
)
def test_a_body_that_nobody_read_is_not_taken_for_a_request(
    facade: RunningFacade, request_: str, status: int
) -> None:
    statuses, ids = said(facade.port, request_ + NEXT)

    assert statuses[0] == status
    assert len(statuses) <= 2
    assert "smuggled" not in ids


def test_a_token_is_one_token(facade: RunningFacade) -> None:
    """Two headers are one list to some programs, the first or the last to others."""
    for lines in (f"Authorization: Bearer wrong\r\n{TOKEN}", f"{TOKEN}Authorization: Bearer wrong\r\n"):
        asked = f"GET /v1/tasks HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n"
        assert said(facade.port, asked)[0] == [401]


def test_crowds_that_say_nothing_or_half_a_word_lock_nobody_out(facade: RunningFacade) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 3 * MORE_THAN_GRANIANS_OWN
    if 0 <= hard < needed:
        pytest.skip(f"this system lets a process have {hard} descriptors, and {needed} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    with ExitStack() as crowd:
        for words in (b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-"):
            for _ in range(MORE_THAN_GRANIANS_OWN):
                one = crowd.enter_context(socket.create_connection(("127.0.0.1", facade.port), timeout=10))
                one.sendall(words)

        assert requests.get(f"{facade.url}/healthz", timeout=10).status_code == 200
