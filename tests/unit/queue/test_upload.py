"""An upload arrives whole or is an error, and never takes more memory than its limits say."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tracemalloc
import zlib
from typing import Any

import pytest

from gifty_compute.errors import InvalidRequest, MalformedBody, TooLarge
from gifty_compute.queue.upload import Upload, UploadLimits
from gifty_compute.wire.batch import MAX_LINES

LIMITS = UploadLimits(line_bytes=1000, bytes=100_000)


class Trickle:
    """A socket: gives a few bytes at a time."""

    def __init__(self, data: bytes, at_once: int = 7) -> None:
        self._data, self._at_once = io.BytesIO(data), at_once

    def read(self, size: int) -> bytes:
        return self._data.read(min(size, self._at_once))


def upload(data: bytes, *, packed: bool = False, limits: UploadLimits = LIMITS, **fields: Any) -> Upload:
    fields.setdefault("length", len(data))
    return Upload(Trickle(data), limits, gzip=packed, **fields)


def test_lines_are_numbered_as_the_sender_counts_and_blank_ones_are_passed_over() -> None:
    assert list(upload(b"a\n\n b\r\nc")) == [(1, b"a\n"), (3, b" b\r\n"), (4, b"c")]


@pytest.mark.parametrize("body", [b"a\nb", b"a\nb\n", b"a\r\n\r\nb"])
def test_the_digest_is_of_what_was_inflated_and_of_the_options(body: bytes) -> None:
    plain, packed = upload(body), upload(gzip.compress(body), packed=True)
    assert [*plain] == [*packed]

    assert plain.digest(b"{}") == packed.digest(b"{}") == hashlib.sha256(body + b"\0{}").digest()
    assert plain.digest(b"{}") != plain.digest(b"")


def test_members_of_gzip_follow_each_other_and_may_be_padded_with_zeros() -> None:
    data = gzip.compress(b"a\nb") + gzip.compress(b"c\n") + b"\0" * 500

    assert [line for _, line in upload(data, packed=True)] == [b"a\n", b"bc\n"]


def test_of_a_body_without_length_a_second_member_is_refused() -> None:
    data = gzip.compress(b"a\n") + gzip.compress(b"b\n")

    with pytest.raises(MalformedBody, match="Content-Length"):
        list(upload(data, packed=True, length=None))


def test_a_body_whose_end_cannot_be_seen_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidRequest, match="must be gzip") as refused:
        upload(b"a\n", length=None)

    assert refused.value.param == "Content-Length"


@pytest.mark.parametrize("seen", range(1, 40))
def test_a_connection_that_breaks_is_not_taken_for_the_end(seen: int) -> None:
    data = b"a\nb\nc\n" * 10

    with pytest.raises(MalformedBody, match="broke"):
        list(upload(data[:seen], length=len(data)))


def test_gzip_that_is_cut_anywhere_is_malformed() -> None:
    data = gzip.compress(b"".join(b'{"n": %d}\n' % n for n in range(100)))

    for end in range(len(data)):
        with pytest.raises(MalformedBody):
            list(upload(data[:end], packed=True, length=None))


def test_an_error_of_the_socket_is_a_broken_connection() -> None:
    class Reset:
        def read(self, size: int) -> bytes:
            raise ConnectionResetError

    with pytest.raises(MalformedBody, match="broke"):
        list(Upload(Reset(), LIMITS, gzip=False, length=5))


@pytest.mark.parametrize("seed", range(50))
def test_damaged_gzip_is_malformed_and_nothing_else(seed: int) -> None:
    dice = random.Random(seed)
    data = bytearray(gzip.compress(b"".join(b"%x\n" % dice.randrange(10**9) for _ in range(99))))
    data[dice.randrange(10, len(data))] ^= 1 << dice.randrange(8)

    with pytest.raises(MalformedBody):
        list(upload(bytes(data), packed=True, length=dice.choice([None, len(data)])))


@pytest.mark.parametrize("data", [b"", b"plain", b"\x1f\x8b", b"\x1f\x8b\x08"])
def test_what_is_no_gzip_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedBody, match="gzip"):
        list(upload(data, packed=True))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"a" * 1001, "line 1 is over 1000"),
        (b"a\n" + b"b" * 1001 + b"\n", "line 2 is over 1000"),
        ((b"a" * 900 + b"\n") * 112, "over 100000 bytes"),
        (b"\n" * (MAX_LINES + 1), "100000 lines"),
    ],
)
def test_what_is_over_a_limit_is_too_large_however_it_is_packed(body: bytes, message: str) -> None:
    limits = UploadLimits(line_bytes=1000, bytes=100_000 if len(body) != MAX_LINES + 1 else 200_000)

    with pytest.raises(TooLarge, match="over 100000 bytes" if len(body) > limits.bytes else message):
        list(upload(body, limits=limits))
    with pytest.raises(TooLarge, match=message):
        list(upload(gzip.compress(body), packed=True, limits=limits))


def test_a_length_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(TooLarge):
        upload(b"", length=100_001)


def test_a_body_without_length_is_read_no_further_than_the_limit() -> None:
    noise = random.Random(1).randbytes(200_000)
    limits = UploadLimits(line_bytes=10**6, bytes=100_000)

    with pytest.raises(TooLarge):
        list(upload(zlib.compress(noise, 0, zlib.MAX_WBITS | 16), packed=True, length=None, limits=limits))


@pytest.mark.parametrize("filling", [b"a", b"\n", b"{}\n"])
def test_a_bomb_is_inflated_no_further_than_the_limits(filling: bytes) -> None:
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    piece = filling * (2**20 // len(filling))
    data = b"".join(packer.compress(piece) for _ in range(300)) + packer.flush()
    limits = UploadLimits(line_bytes=2**20, bytes=100 * 2**20)

    tracemalloc.start()
    with pytest.raises(TooLarge):
        for _ in Upload(io.BytesIO(data), limits, gzip=True, length=len(data)):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(data) < 2**20
    assert peak < 8 * 2**20
