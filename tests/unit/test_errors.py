"""The tree of errors: codes, default messages, and the way through a pickle."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from gifty_compute import errors
from gifty_compute.errors import GiftyComputeError

ALL: list[type[GiftyComputeError]] = [getattr(errors, name) for name in errors.__all__ if name != "Failure"]


@pytest.mark.parametrize("kind", ALL)
def test_an_error_without_words_of_its_own_says_what_its_class_stands_for(
    kind: type[GiftyComputeError],
) -> None:
    assert kind().message == str(kind()) == kind.__doc__


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in ALL]

    assert sorted(set(codes)) == sorted(codes)


@pytest.mark.parametrize(
    "error",
    [
        *(kind("what happened") for kind in ALL),
        errors.InvalidRequest("bad", param="texts.1", code="invalid_text"),
        errors.InvalidResult("bad", param="scores"),
        errors.NoRoute("all failed", code="engine_error"),
        errors.Unavailable("busy", retry_after=7.5),
        errors.TransportError("lost", code="timeout", sent=False),
        errors.ProviderError(failure=errors.Failure.CONFIG, code="bad_key", retry_after=3.0),
    ],
    ids=repr,
)
def test_an_error_comes_through_a_pickle_with_all_it_says(error: Any) -> None:
    other = pickle.loads(pickle.dumps(error))

    assert type(other) is type(error)
    assert (other.message, other.code, other.retryable) == (error.message, error.code, error.retryable)
    assert vars(other) == vars(error)


def test_the_tree_in_the_modules_docstring_is_the_tree() -> None:
    drawn = {line.lstrip("│├└─ ").split()[0] for line in str(errors.__doc__).splitlines() if "──" in line}

    assert drawn | {"GiftyComputeError"} == {kind.__name__ for kind in ALL}


def test_what_is_not_said_of_an_error_has_a_default() -> None:
    assert errors.Unavailable().retry_after == 1.0
    assert errors.Unavailable(retry_after=7.5).retry_after == 7.5
    assert errors.InvalidRequest(code="too_deep").code == "too_deep"
    assert (errors.InvalidRequest().code, errors.InvalidRequest().param) == ("invalid_value", None)
