"""What is sent, before anything is: bodies, keys, and the mistakes that are caught here."""

from __future__ import annotations

import json
import math
import pickle
from random import Random
from typing import Any

import pytest

from gifty_compute.client import calls
from gifty_compute.client.door import Door, read_answer
from gifty_compute.client.errors import (
    ApiError,
    Busy,
    NotAllowed,
    NotThere,
    Refused,
    ServiceFault,
    TaskFailed,
    Unreachable,
    error_of,
)
from gifty_compute.client.low import Low
from gifty_compute.client.plans import Plans
from gifty_compute.client.reading import result_of
from gifty_compute.errors import GiftyComputeError, InvalidConfig
from gifty_compute.wire.task import Task
from tests.unit.conftest import HandClock

TASK: dict[str, Any] = {
    "id": "3f2a0000-0000-4000-8000-000000000000",
    "priority": "low",
    "status": "completed",
    "payload": {},
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
    "attempt": 1,
    "failures": 0,
    "max_attempts": 5,
}
NOTHING: dict[str, Any] = {"model": None, "timeout": None}


def body_of(call: calls.ApiCall[Any], seconds: float = 10) -> Any:
    return json.loads(call.content(seconds) or b"null")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: calls.embeddings("чай", input_type=None, **NOTHING), "texts"),
        (lambda: calls.rerank("q", "чай", top_n=None, **NOTHING), "documents"),
        (lambda: calls.classify("чай", None, timeout=None), "external_names"),
        (lambda: calls.messages_of("привет"), "messages"),
        (lambda: Low(lambda call: call).embeddings("чай"), "texts"),
        (lambda: Low(lambda call: call).score({"title": "чай"}), "products"),
    ],
)
def test_one_text_where_a_list_is_wanted_is_refused(make: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name}: "):
        make()


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf])
def test_a_timeout_is_a_number_of_seconds(timeout: float) -> None:
    with pytest.raises(ValueError, match=r"^timeout: "):
        calls.score({"title": "чай"}, axes=False, timeout=timeout)
    with pytest.raises(ValueError, match=r"^timeout: "):
        Plans(timeout, HandClock(), Random(1))


def test_the_service_is_told_of_every_timeout() -> None:
    """200 texts without a timeout were 504: the client's own 75 s were not told."""
    told = calls.embeddings(["чай"], model=None, input_type=None, timeout=2)
    untold = calls.embeddings(["чай"], model=None, input_type=None, timeout=None)

    assert body_of(told, 2)["timeout_ms"] == 1800
    assert body_of(told, 0.0001)["timeout_ms"] == 1
    assert body_of(untold, 20)["timeout_ms"] == 18_000


def test_what_the_caller_does_not_name_is_told_up_to_the_services_usual_maximum() -> None:
    named = calls.embeddings(["чай"], model=None, input_type=None, timeout=75)
    unnamed = calls.embeddings(["чай"], model=None, input_type=None, timeout=None)

    assert body_of(named, 75)["timeout_ms"] == 67_500
    assert body_of(unnamed, 75)["timeout_ms"] == 60_000
    assert body_of(chat(stream=False), 75)["timeout_ms"] == 67_500
    assert body_of(named, 3600)["timeout_ms"] == 600_000


def test_texts_are_sent_in_portions_by_their_number_and_by_their_length() -> None:
    """3,000 texts were 422: one call takes 2048."""
    many = calls.embeddings_in_portions(["чай"] * 3000, model=None, input_type=None, timeout=None)
    long = calls.embeddings_in_portions(["ч" * 100_000] * 3, model=None, input_type=None, timeout=None)

    assert [len(body_of(call)["input"]) for call in many] == [1024, 1024, 952]
    assert [len(body_of(call)["input"]) for call in long] == [1, 1, 1]


def test_names_are_classified_in_portions() -> None:
    found = calls.classify_in_portions(["чай"] * 1001, [{"id": 1, "name": "Чай"}], timeout=None)

    assert [len(body_of(call)["external_names"]) for call in found] == [1000, 1]
    assert all(body_of(call)["internal_categories"] for call in found)


@pytest.mark.parametrize("strange", [None, 7, ["чай"]])
def test_what_is_no_text_is_sent_so_that_the_service_says_where_it_is(strange: Any) -> None:
    """It was a TypeError of `len`, without a place."""
    [texts] = calls.embeddings_in_portions(["чай", strange], model=None, input_type=None, timeout=None)
    [names] = calls.classify_in_portions(["чай", strange], None, timeout=None)

    assert body_of(texts)["input"] == body_of(names)["external_names"] == ["чай", strange]


def chat(*, stream: bool) -> Any:
    return calls.chat(
        [{"role": "user", "content": "чай"}],
        model=None,
        max_tokens=None,
        temperature=None,
        stop=None,
        json_mode=False,
        stream=stream,
        timeout=None,
    )


def test_only_a_stream_goes_on_while_it_flows() -> None:
    assert chat(stream=True).longest_stream > 3600
    assert chat(stream=False).longest_stream == 0


def test_russian_takes_two_bytes_a_letter_and_half_a_pair_is_left_to_the_service() -> None:
    call = calls.embeddings(["чай"], model=None, input_type=None, timeout=None)
    half = calls.embeddings(["\ud800"], model=None, input_type=None, timeout=None)

    assert "чай".encode() in (call.content(1) or b"")
    assert b"\\ud800" in (half.content(1) or b"")


def test_a_number_that_json_has_not_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        calls.score({"title": "чай", "price": math.nan}, axes=False, timeout=None).content(1)


@pytest.mark.parametrize("key", ["ночной", "a" * 256, "line\n"])
def test_a_key_that_fits_no_header_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"^key: "):
        calls.submit("embedding", {}, key=key)


def test_the_two_roads_say_the_same() -> None:
    turns = [{"role": "user", "content": "Что подарить?"}]
    low = Low(lambda call: call).chat(turns, stop=["\n"], json_mode=True, model="fast")

    payload = {"messages": turns, "stops": ["\n"], "json_mode": True, "model": "fast"}
    assert body_of(low) == {"task_type": "llm", "payload": payload}


def test_an_id_cannot_leave_its_path() -> None:
    assert calls.task("../batches?a=1").path == "/v1/tasks/..%2Fbatches%3Fa%3D1"


# -- where, and with which token -----------------------------------------------------------------------------


def test_the_environment_says_where_and_with_which_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIFTY_COMPUTE_URL", "https://compute.example.org/")
    monkeypatch.setenv("GIFTY_COMPUTE_TOKEN", "t-1")

    door = Door(None, None)

    assert (door.base_url, door.authorization) == ("https://compute.example.org", "Bearer t-1")
    assert "t-1" not in str(door.headers(calls.task("7")))


@pytest.mark.parametrize(
    ("url", "token", "message"),
    [
        (None, "t", "set GIFTY_COMPUTE_URL"),
        ("https://h", None, "set GIFTY_COMPUTE_TOKEN"),
        ("https://h", "", "set GIFTY_COMPUTE_TOKEN"),
        ("https://h/v1", "t", "without /v1"),
        ("h:8000", "t", "not an address"),
        ("https://h", "t\n", "line end"),
    ],
)
def test_what_cannot_work_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, url: str | None, token: str | None, message: str
) -> None:
    monkeypatch.delenv("GIFTY_COMPUTE_URL", raising=False)
    monkeypatch.delenv("GIFTY_COMPUTE_TOKEN", raising=False)

    with pytest.raises(InvalidConfig, match=message):
        Door(url, token)


# -- answers and errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, NotAllowed),
        (405, NotThere),
        (406, Refused),
        (418, ServiceFault),
        (429, Busy),
        (500, ServiceFault),
    ],
)
def test_a_proxys_page_is_an_error_of_its_status(status: int, kind: type[ApiError]) -> None:
    error = error_of(status, {"X-Request-Id": "r-1"}, None)

    assert type(error) is kind
    assert not error.is_told
    assert (
        str(error) == f"not the service's own error: is this its address? [{status} api_error, request r-1]"
    )


def test_a_redirect_is_not_followed_and_says_where_to() -> None:
    with pytest.raises(ServiceFault, match=r"a redirect to https://new\.example/v1/tasks/7") as fault:
        read_answer(calls.task("7"), 301, {"Location": "https://new.example/v1/tasks/7"}, b"")

    assert not fault.value.retryable


@pytest.mark.parametrize("raw", [b"<html>", b"7", b"{}", b'{"id": 7}'])
def test_an_answer_that_is_not_the_contracts_names_the_call(raw: bytes) -> None:
    with pytest.raises(ServiceFault, match="GET /v1/tasks/7"):
        read_answer(calls.task("7"), 200, {}, raw)


@pytest.mark.parametrize(
    ("task_type", "result"),
    [
        ("embedding", {}),
        ("embedding", {"embeddings": 7}),
        ("rerank", {"scores": None}),
        ("score", {"scores": [7]}),
    ],
)
def test_a_result_that_is_not_the_contracts_is_an_error_of_ours(task_type: str, result: Any) -> None:
    with pytest.raises(ServiceFault, match=f"task {TASK['id']}: its result"):
        result_of(Task.model_validate({**TASK, "task_type": task_type, "result": result}))


def test_a_result_that_came_by_sql_may_name_no_model() -> None:
    task = {**TASK, "task_type": "embedding", "result": {"embeddings": [[1.0, 0.0]]}}

    assert result_of(Task.model_validate(task)).model is None
    assert result_of(Task.model_validate({**task, "model": "bge-m3"})).model == "bge-m3"


def test_a_result_of_a_type_that_is_unknown_here_is_given_as_it_is() -> None:
    task = {**TASK, "task_type": "captions", "result": {"captions": ["удочка"]}}

    assert result_of(Task.model_validate(task)) == {"captions": ["удочка"]}


@pytest.mark.parametrize(
    "error",
    [
        Refused("no", status=422, code="empty_text", param="input.0", request_id="r", retry_after=3),
        ServiceFault("no", status=500),
        Unreachable("no", sent=False),
        TaskFailed("no", task_id="7", status="cancelled"),
    ],
)
def test_errors_survive_pickling(error: GiftyComputeError) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
