"""Bodies that come as gzip."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.compression import unpacked
from gifty_compute.errors import MalformedBody, TooLarge


@given(st.binary(max_size=1000))
def test_what_was_packed_comes_out_again(content: bytes) -> None:
    assert unpacked(gzip.compress(content), 1000) == content


@given(st.binary(max_size=200))
def test_anything_else_is_malformed(content: bytes) -> None:
    with pytest.raises(MalformedBody):
        unpacked(content, 1000)


def test_a_bomb_is_not_unpacked_beyond_the_limit() -> None:
    bomb = gzip.compress(b" " * 100_000_000)
    tracemalloc.start()

    with pytest.raises(TooLarge):
        unpacked(bomb, 1_000_000)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_body_of_just_the_limit_is_taken() -> None:
    assert len(unpacked(gzip.compress(b"a" * 1000), 1000)) == 1000
    with pytest.raises(TooLarge):
        unpacked(gzip.compress(b"a" * 1001), 1000)
