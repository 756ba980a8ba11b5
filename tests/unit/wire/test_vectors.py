"""Vectors between lists, bytes and arrays: what goes in comes out, and what lies is refused."""

from __future__ import annotations

import base64
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gifty_compute.errors import InvalidResult
from gifty_compute.wire.vectors import check, decode, encode, same

shapes = st.tuples(st.integers(1, 6), st.integers(1, 12))
vectors = st.one_of(
    npst.arrays(np.float32, shapes, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    npst.arrays(np.float16, shapes, elements=st.floats(width=16, allow_nan=False, allow_infinity=False)),
)

ROWS = np.array([[1.0, 2.0, -0.5], [0.25, 0.0, 3.0]], "<f4")


def binary(**changed: Any) -> dict[str, Any]:
    """A true binary form of two rows, with some of it changed."""
    return {**encode(ROWS), **changed}


def reason(value: Any) -> InvalidResult:
    with pytest.raises(InvalidResult) as caught:
        decode(value)
    return caught.value


# -- round trips ---------------------------------------------------------------------------------------------


@given(vectors)
def test_the_binary_form_brings_back_the_same_bits(sent: Any) -> None:
    received = decode(json.loads(json.dumps(encode(sent))))

    assert received.dtype == sent.dtype
    assert received.shape == sent.shape
    assert received.tobytes() == sent.tobytes()


@given(vectors)
def test_nested_lists_bring_back_the_same_numbers(sent: Any) -> None:
    received = decode(json.loads(json.dumps(sent.tolist())))

    assert received.dtype == np.float32
    np.testing.assert_array_equal(received, sent.astype(np.float32))


@given(vectors)
def test_an_array_is_taken_as_it_is(sent: Any) -> None:
    received = decode(sent)

    assert received.dtype == sent.dtype
    np.testing.assert_array_equal(received, sent)


@given(vectors)
def test_what_was_decoded_is_the_same_outcome_as_what_was_sent(sent: Any) -> None:
    assert same(sent, decode(encode(sent)))


def test_the_binary_form_is_little_endian_bytes_in_base64() -> None:
    assert encode(np.array([[1.0, -2.0]], "<f4")) == {
        "dtype": "float32",
        "shape": [1, 2],
        "data": base64.b64encode(b"\x00\x00\x80\x3f\x00\x00\x00\xc0").decode(),
    }


def test_a_transposed_array_is_written_in_the_order_of_its_rows() -> None:
    transposed = ROWS.T

    np.testing.assert_array_equal(decode(encode(transposed)), transposed)


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i4", "<u1"])
def test_numbers_of_another_type_become_float32(dtype: str) -> None:
    received = decode(np.array([[1, 2]], dtype))

    assert received.dtype == np.dtype("<f4")
    assert received.tolist() == [[1.0, 2.0]]


def test_whole_numbers_in_lists_are_numbers() -> None:
    assert decode([[1, 0], [-2, 0.5]]).tolist() == [[1.0, 0.0], [-2.0, 0.5]]


# -- lies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "AAAA",
        True,
        [1.0, 2.0],
        [[[1.0]]],
        [[1.0, 2.0], [3.0]],
        [[1.0], 2.0],
        [["1.0", "2.0"]],
        [[1.0, "2.0"]],
        [[True, False]],
        [[1.0, True]],
        [[None, 1.0]],
        [[1.0, {}]],
        [[1.0, [2.0]]],
        [[10**400, 1.0]],
        [["1.0"], [1.0]],
        [{"0": 1.0}],
        ["ab", "cd"],
        np.array([["a"]]),
        np.array([[True]]),
        np.array([[1j]]),
        np.array([[None]]),
        np.array([1.0]),
    ],
    ids=repr,
)
def test_what_is_no_table_of_numbers_is_refused(value: Any) -> None:
    assert reason(value).param == "embeddings"


def test_one_long_text_among_numbers_costs_no_memory() -> None:
    hostile: list[list[Any]] = [["x" * 100_000, *["1"] * 1000]]
    tracemalloc.start()

    reason(hostile)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"dtype": "float64"}, "embeddings"),
        ({"dtype": None}, "embeddings"),
        ({"dtype": ["float32"]}, "embeddings"),
        ({"extra": 1}, "embeddings"),
        ({"data": 5}, "embeddings"),
        ({"data": None}, "embeddings"),
        ({"shape": None}, "embeddings.shape"),
        ({"shape": [6]}, "embeddings.shape"),
        ({"shape": [1, 2, 3]}, "embeddings.shape"),
        ({"shape": [2.0, 3]}, "embeddings.shape"),
        ({"shape": ["2", 3]}, "embeddings.shape"),
        ({"shape": [True, 6]}, "embeddings.shape"),
        ({"shape": [-2, -3]}, "embeddings.shape"),
        ({"shape": [-1, 3]}, "embeddings.shape"),
        ({"shape": [0, 10**30], "data": ""}, "embeddings.shape"),
        ({"shape": [10**30, 0], "data": ""}, "embeddings.shape"),
        ({"shape": [10**30, 10**30]}, "embeddings.data"),
        ({"shape": [2, 2]}, "embeddings.data"),
        ({"shape": [2, 4]}, "embeddings.data"),
        ({"dtype": "float16"}, "embeddings.data"),
        ({"data": ""}, "embeddings.data"),
        ({"data": "!!!!"}, "embeddings.data"),
        ({"data": "AAA"}, "embeddings.data"),
        ({"data": "чай="}, "embeddings.data"),
        ({"data": binary()["data"] + "\n"}, "embeddings.data"),
        ({"data": binary()["data"][:-4]}, "embeddings.data"),
    ],
)
def test_a_binary_form_that_lies_is_refused_where_it_lies(changed: dict[str, Any], param: str) -> None:
    assert reason(binary(**changed)).param == param


@pytest.mark.parametrize("missing", ["dtype", "shape", "data"])
def test_a_binary_form_with_a_part_missing_is_refused(missing: str) -> None:
    value = binary()
    del value[missing]

    assert reason(value).param == "embeddings"


# -- the check -----------------------------------------------------------------------------------------------


def refused(rows: Any, *, texts: int = 1, dim: int | None = 2) -> str:
    with pytest.raises(InvalidResult) as caught:
        check(decode(rows), rows=texts, dim=dim)
    return caught.value.message


@pytest.mark.parametrize(
    "rows", [[[0.6, 0.8]], [[1e-3, 0.0]], [[3e38, 3e38]], np.array([[1, 0]], np.float16)]
)
def test_finite_vectors_with_a_direction_pass(rows: Any) -> None:
    check(decode(rows), rows=1, dim=2)


def test_without_a_known_dimension_any_will_do() -> None:
    check(decode([[1.0, 2.0, 3.0]]), rows=1, dim=None)


def test_too_few_and_too_many_vectors_are_counted() -> None:
    assert refused([[1.0, 0.0]], texts=2) == "1 vectors for 2 texts"
    assert refused([[1.0, 0.0]] * 3, texts=2) == "3 vectors for 2 texts"
    assert refused([]) == "0 vectors for 1 texts"


@pytest.mark.parametrize("row", [[1.0], [1.0, 2.0, 3.0], []])
def test_another_dimension_is_refused_with_both_numbers(row: list[float]) -> None:
    assert refused([row]) == f"vectors have {len(row)} dimensions, the space has 2"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 1e39, -1e300])
def test_what_is_not_finite_in_float32_is_refused(number: float) -> None:
    assert refused([[1.0, 0.0], [number, 1.0]], texts=2) == "a vector holds NaN or infinity"


def test_what_is_not_finite_in_float16_is_refused() -> None:
    assert refused(encode(np.array([[np.inf, 1]], np.float16))) == "a vector holds NaN or infinity"


@pytest.mark.parametrize("row", [[0.0, 0.0], [-0.0, 0.0], [1e-30, 0.0], [5e-324, 0.0]])
def test_a_zero_vector_is_refused_wherever_it_stands(row: list[float]) -> None:
    assert refused([[1.0, 0.0], row], texts=2) == "a vector is zero"


def test_a_vector_without_dimensions_is_a_zero_vector() -> None:
    assert refused([[]], dim=None) == "a vector is zero"


# -- the same outcome ----------------------------------------------------------------------------------------


def turned(degrees: float) -> Any:
    radians = np.radians(degrees)
    return np.array([[np.cos(radians), np.sin(radians)]], np.float32)


@pytest.mark.parametrize(
    ("degrees", "alike"), [(0, True), (2.5, True), (2.6, False), (90, False), (180, False)]
)
def test_two_results_are_one_outcome_up_to_cosine_0_999(degrees: float, alike: bool) -> None:
    assert same(turned(0), turned(degrees)) is alike


def test_one_row_that_differs_makes_another_outcome() -> None:
    left, right = np.vstack([turned(0), turned(0)]), np.vstack([turned(0), turned(90)])

    assert not same(left, right)


def test_rows_in_another_order_are_another_outcome() -> None:
    assert not same(np.vstack([turned(0), turned(90)]), np.vstack([turned(90), turned(0)]))


@pytest.mark.parametrize("other", [np.ones((2, 3), "<f4"), np.ones((1, 2), "<f4"), np.ones((3, 2), "<f4")])
def test_another_shape_is_another_outcome(other: Any) -> None:
    assert not same(np.ones((2, 2), "<f4"), other)


def test_a_result_stored_in_half_precision_is_the_same_outcome() -> None:
    full = np.random.default_rng(7).normal(size=(4, 384)).astype(np.float32)

    assert same(full.astype(np.float16), full)
