"""Who is asked, in what order, and what is said when nobody can answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from gifty_compute.clock import Deadline
from gifty_compute.errors import (
    DeadlineExceeded,
    EngineError,
    GiftyComputeError,
    InvalidRequest,
    InvalidResult,
    NoRoute,
    Unavailable,
)
from gifty_compute.logic.logic import Logic, Model
from gifty_compute.logic.source import parse_logic
from gifty_compute.routing.router import Router
from tests.unit.conftest import HandClock

ROUTE = "rerank: {providers: [runpod, intelligence_api, local]}"
PAYLOAD = {"query": "чай", "documents": ["canary-мёд", "кружка"], "model": "bge-reranker-v2-m3"}
GOOD = {"scores": [0.9, 0.1], "kind": "cross-encoder", "usage": {"prompt_tokens": 3, "total_tokens": 3}}


class Scripted:
    """Answers as written, or raises it; notes the models that it was asked for."""

    def __init__(self, name: str, answer: Any = GOOD, *, serves: bool = True) -> None:
        self.name, self._answer, self._serves = name, answer, serves
        self.asked: list[str] = []

    def serves(self, kind: str, model: Model) -> bool:
        return self._serves

    def run(self, kind: str, model: Model, payload: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        self.asked.append(model.name)
        answer = self._answer() if callable(self._answer) else self._answer
        if isinstance(answer, GiftyComputeError):
            raise answer
        assert isinstance(answer, dict)
        return answer


@pytest.fixture
def logic() -> Logic:
    return parse_logic(ROUTE)


@pytest.fixture
def ask(clock: HandClock, logic: Logic) -> Callable[..., Any]:
    def run(
        *providers: Scripted, by: Logic = logic, payload: dict[str, Any] = PAYLOAD, seconds: float = 2
    ) -> Any:
        router = Router({provider.name: provider for provider in providers})
        return router.run(by, "rerank", payload, Deadline.after(seconds, clock))

    return run


def test_the_first_of_the_route_answers_and_no_other_is_asked(ask: Callable[..., Any]) -> None:
    others = [Scripted("local"), Scripted("intelligence_api")]

    answer = ask(*others, Scripted("runpod"))

    assert (answer.provider, answer.attempts) == ("runpod", 1)
    assert answer.usage == {"prompt_tokens": 3, "total_tokens": 3}
    assert [other.asked for other in others] == [[], []]


def test_what_is_answered_has_been_checked(ask: Callable[..., Any]) -> None:
    answer = ask(Scripted("runpod"))

    assert answer.result == {"scores": [0.9, 0.1], "model": "bge-reranker-v2-m3", "kind": "cross-encoder"}


def test_an_alias_in_the_payload_is_asked_for_by_the_models_own_name(ask: Callable[..., Any]) -> None:
    provider = Scripted("runpod")

    ask(provider, payload={**PAYLOAD, "model": "BAAI/bge-reranker-v2-m3"})

    assert provider.asked == ["bge-reranker-v2-m3"]


@pytest.mark.parametrize("error", [EngineError(), Unavailable(), InvalidRequest("refused there"), NoRoute()])
def test_after_an_error_the_next_of_the_route_is_asked(
    ask: Callable[..., Any], error: GiftyComputeError
) -> None:
    last = Scripted("local")

    answer = ask(Scripted("runpod", error), Scripted("intelligence_api"), last)

    assert (answer.provider, answer.attempts) == ("intelligence_api", 2)
    assert last.asked == []


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"scores": [0.5]},
        {"scores": [0.5, float("nan")]},
        {"scores": [0.5, 0.1], "model": "another"},
        {"scores": [0.5, 0.1], "note": "a field of its own"},
    ],
)
def test_a_wrong_result_is_its_providers_failure_and_the_next_is_asked(
    ask: Callable[..., Any], wrong: dict[str, Any]
) -> None:
    answer = ask(Scripted("runpod", wrong), Scripted("local"))

    assert (answer.provider, answer.attempts) == ("local", 2)


def test_a_provider_that_does_not_serve_the_model_is_passed_over_and_not_counted(
    ask: Callable[..., Any],
) -> None:
    unable = Scripted("runpod", serves=False)

    answer = ask(unable, Scripted("local"))

    assert (answer.provider, answer.attempts) == ("local", 1)
    assert unable.asked == []


def test_the_switch_keeps_runpod_from_being_asked(ask: Callable[..., Any]) -> None:
    runpod = Scripted("runpod")

    answer = ask(
        runpod, Scripted("local"), by=parse_logic(ROUTE + "\nfeatures: {use_runpod_for_high_priority: false}")
    )

    assert answer.provider == "local"
    assert runpod.asked == []


@pytest.mark.parametrize(
    "providers",
    [[], [Scripted("together")], [Scripted("runpod", serves=False), Scripted("local", serves=False)]],
)
def test_without_an_able_provider_the_model_is_not_served(
    ask: Callable[..., Any], providers: list[Scripted]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(*providers)

    assert (caught.value.code, caught.value.param) == ("not_served", "model")
    assert "runpod, intelligence_api, local" in caught.value.message


def test_an_empty_route_is_not_served_either(ask: Callable[..., Any]) -> None:
    with pytest.raises(InvalidRequest, match="no provider") as caught:
        ask(Scripted("local"), by=parse_logic("rerank: {providers: []}"))

    assert caught.value.code == "not_served"


def test_when_all_fail_each_is_named_and_the_code_is_that_of_the_last(ask: Callable[..., Any]) -> None:
    with pytest.raises(NoRoute) as caught:
        ask(
            Scripted("runpod", Unavailable()),
            Scripted("intelligence_api", {}),
            Scripted("local", EngineError()),
        )

    assert caught.value.message == (
        "every provider failed: runpod: unavailable; intelligence_api: invalid_result; local: engine_error"
    )
    assert caught.value.code == "engine_error"


def test_what_a_provider_says_of_the_input_stays_out_of_the_answer_and_the_log(
    ask: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    with pytest.raises(NoRoute) as caught:
        ask(Scripted("runpod", InvalidResult("cannot score canary-мёд")))

    assert "canary" not in caught.value.message + caplog.text


def test_a_deadline_that_passes_between_two_providers_ends_the_search(
    ask: Callable[..., Any], clock: HandClock
) -> None:
    def slow() -> GiftyComputeError:
        clock.advance(2)
        return EngineError()

    second = Scripted("local")
    with pytest.raises(DeadlineExceeded):
        ask(Scripted("runpod", slow), second)

    assert second.asked == []


def test_a_deadline_that_passed_before_asks_nobody(ask: Callable[..., Any]) -> None:
    provider = Scripted("runpod")

    with pytest.raises(DeadlineExceeded):
        ask(provider, seconds=0)

    assert provider.asked == []


def test_a_provider_that_ran_out_of_time_is_the_last(ask: Callable[..., Any], clock: HandClock) -> None:
    def too_slow() -> GiftyComputeError:
        clock.advance(2)
        return DeadlineExceeded("runpod: not done")

    second = Scripted("local")
    with pytest.raises(DeadlineExceeded, match="runpod: not done"):
        ask(Scripted("runpod", too_slow), second)

    assert second.asked == []


def test_an_unknown_model_is_the_callers_fault(ask: Callable[..., Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(Scripted("runpod"), payload={**PAYLOAD, "model": "gpt"})

    assert caught.value.code == "unknown_model"
