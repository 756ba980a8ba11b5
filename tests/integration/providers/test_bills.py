"""What each way in which an attempt can end is counted for (K9): over real sockets, by every speaker."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gifty_compute.errors import GiftyComputeError
from gifty_compute.high import HighRoad
from gifty_compute.logic.logic import Logic
from gifty_compute.providers.access import Access
from tests.fakes.fault import STATUSES, Fault
from tests.fakes.server import FakeProviders
from tests.fakes.vendor import PIECES
from tests.integration.providers.conftest import call_of, logic_for

SPEAKERS = ["groq", "anthropic", "gemini", "together"]
# A million dollars for a million tokens: dollars are tokens.
PRICE = "{input_per_million: 1000000, output_per_million: 1000000}"
# The fakes count 9 in and 5 out.
ANSWER = 14
BROKEN = [
    *(Fault.HTML, Fault.EMPTY, Fault.TRUNCATED_JSON, Fault.TRUNCATED, Fault.RESET),
    *(Fault.HANG, Fault.HEADERS_ONLY, Fault.DRIP),
]
SLOW = {Fault.HANG, Fault.HEADERS_ONLY, Fault.DRIP, Fault.HUNG_STREAM}


def priced(provider: str, kind: str = "llm") -> Logic:
    budget = "budget_usd_per_day: 1000000"
    return logic_for(provider, kind, f"providers: {{{provider}: {{{budget}, price: {PRICE}}}}}")


def ask(high: HighRoad, provider: str, kind: str = "llm", *, seconds: float = 10, **more: Any) -> None:
    try:
        high.router.run(call_of(priced(provider, kind), kind, seconds=seconds, **more))
    except GiftyComputeError:
        return


def spent(high: HighRoad, provider: str) -> tuple[float, float]:
    """Dollars, and the part of them that is estimated."""
    names = {"provider": provider, "kind": "llm"}
    metrics = [
        high.registry.get_sample_value(f"gifty_cost_{name}_total", names) or 0.0
        for name in ("usd", "estimated_usd")
    ]
    assert metrics[0] == pytest.approx(high.budgets.spent_usd(provider))
    return metrics[0], metrics[1]


@pytest.mark.parametrize("provider", SPEAKERS)
def test_an_answer_is_counted_as_the_provider_counts_it(
    fake: FakeProviders, road: Callable[..., HighRoad], provider: str
) -> None:
    high = road(provider)

    ask(high, provider)

    assert spent(high, provider) == (ANSWER, 0)


@pytest.mark.parametrize("provider", SPEAKERS)
@pytest.mark.parametrize("fault", STATUSES)
def test_what_the_provider_refuses_by_a_status_costs_nothing(
    fake: FakeProviders, road: Callable[..., HighRoad], provider: str, fault: Fault
) -> None:
    high = road(provider)
    fake.fault(provider, fault)

    ask(high, provider, seconds=1)

    assert fake.calls(provider)
    assert spent(high, provider) == (0, 0)


@pytest.mark.parametrize("provider", SPEAKERS)
@pytest.mark.parametrize("fault", BROKEN)
def test_what_was_sent_and_brought_no_answer_is_counted_at_an_estimate(
    fake: FakeProviders, road: Callable[..., HighRoad], provider: str, fault: Fault
) -> None:
    high = road(provider)
    fake.fault(provider, fault)

    ask(high, provider, seconds=0.6 if fault in SLOW else 10)

    assert len(fake.calls(provider)) == 1
    usd, estimated = spent(high, provider)
    assert usd == estimated
    assert 5 < usd < 60


def test_a_connection_that_never_stood_costs_nothing(road: Callable[..., HighRoad]) -> None:
    high = road("groq")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    high.router._access = Access({"GROQ_API_KEY": "k", "GROQ_BASE_URL": nowhere})

    ask(high, "groq")

    assert spent(high, "groq") == (0, 0)


@pytest.mark.parametrize("provider", SPEAKERS)
def test_half_of_a_json_text_is_counted_as_the_provider_counts_it(
    fake: FakeProviders, road: Callable[..., HighRoad], provider: str
) -> None:
    """P4: thrown away, and paid all the same. The fakes' words are no JSON where none was asked for."""
    high, vendor = road(provider), fake.vendors[provider]
    fake.vendors[provider] = replace(vendor, answer=lambda path, body: cut(vendor.answer(path, body)))

    ask(high, provider, json_mode=True)

    assert spent(high, provider) == (ANSWER, 0)


def cut(answer: Any) -> Any:
    """The same answer, ended by the cap on its tokens."""
    if "choices" in answer:
        answer["choices"][0]["finish_reason"] = "length"
    elif "candidates" in answer:
        answer["candidates"][0]["finishReason"] = "MAX_TOKENS"
    else:
        answer["stop_reason"] = "max_tokens"
    return answer


@pytest.mark.parametrize("provider", SPEAKERS)
def test_a_stream_that_ends_is_counted_as_the_provider_counts_it(
    fake: FakeProviders, road: Callable[..., HighRoad], provider: str
) -> None:
    high = road(provider)

    list(high.router.stream(call_of(priced(provider), "llm")).deltas)

    assert spent(high, provider) == (ANSWER, 0)


@pytest.mark.parametrize("provider", SPEAKERS)
@pytest.mark.parametrize("fault", [Fault.CUT_STREAM, Fault.HUNG_STREAM])
def test_a_stream_that_breaks_off_is_counted_by_what_was_sent_and_heard(
    fake: FakeProviders, road: Callable[..., HighRoad], provider: str, fault: Fault
) -> None:
    high = road(provider)
    fake.fault(provider, fault)
    seconds = 0.6 if fault in SLOW else 10

    with pytest.raises(GiftyComputeError):
        list(high.router.stream(call_of(priced(provider), "llm", seconds=seconds)).deltas)

    assert 5 < spent(high, provider)[0] < 60


@pytest.mark.parametrize("provider", SPEAKERS)
def test_a_stream_that_its_client_leaves_is_counted_by_what_was_sent_and_heard(
    fake: FakeProviders, road: Callable[..., HighRoad], provider: str
) -> None:
    high = road(provider)
    fake.fault(provider, Fault.HUNG_STREAM)
    stream = high.router.stream(call_of(priced(provider), "llm"))
    first = next(delta.text for delta in stream.deltas if delta.text)

    stream.deltas.close()  # type: ignore[attr-defined]

    assert first == PIECES[0]
    assert 5 < spent(high, provider)[0] < 60


def test_both_questions_of_a_mended_answer_are_counted(
    fake: FakeProviders, road: Callable[..., HighRoad]
) -> None:
    """A repair: the fake's chat never is a classification, so it is asked twice and fails."""
    high = road("groq")
    extra = f"providers: {{groq: {{budget_usd_per_day: 1000000, price: {PRICE}}}}}"
    logic = logic_for("groq", "llm", f"classify: {{providers: [groq]}}\n{extra}")

    with pytest.raises(GiftyComputeError):
        high.router.run(call_of(logic, "classify"))

    assert len(fake.calls("groq")) == 2
    assert high.budgets.spent_usd("groq") == 2 * ANSWER


def test_portions_that_were_answered_count_though_a_later_one_fails(
    fake: FakeProviders, road: Callable[..., HighRoad]
) -> None:
    high = road("together")
    vendor, answers = fake.vendors["together"], iter([True, False])
    fake.vendors["together"] = replace(
        vendor, answer=lambda path, body: vendor.answer(path, body) if next(answers) else {}
    )
    logic = priced("together", "embedding")

    with pytest.raises(GiftyComputeError):
        high.router.run(call_of(logic, "embedding", texts=["чайник"] * 150))

    assert len(fake.calls("together")) == 2
    # About two tokens a text, for all 150 of them: 100 in the first portion, 50 in the second.
    assert high.budgets.spent_usd("together") >= 2 * 150


def test_an_answer_without_usage_is_estimated_never_free(
    fake: FakeProviders, road: Callable[..., HighRoad]
) -> None:
    high, vendor = road("groq"), fake.vendors["groq"]

    def silent(path: str, body: Any) -> Any:
        answer = vendor.answer(path, body)
        del answer["usage"]
        return answer

    fake.vendors["groq"] = replace(vendor, answer=silent)

    ask(high, "groq")

    usd, estimated = spent(high, "groq")
    assert usd == estimated > 5


def test_the_attempts_before_an_answer_are_in_its_cost(
    fake: FakeProviders, road: Callable[..., HighRoad]
) -> None:
    extra = f"providers: {{groq: {{price: {PRICE}}}, together: {{price: {PRICE}}}}}"
    logic = logic_for("groq", "llm", extra)
    logic = replace(
        logic,
        file=logic.file.model_copy(
            update={"llm": logic.file.llm.model_copy(update={"fallbacks": ("together",)})}
        ),
    )
    high = road("groq", "together")
    fake.fault("groq", Fault.EMPTY)

    answer = high.router.run(call_of(logic, "llm"))

    assert (answer.provider, answer.attempts) == ("together", 2)
    assert answer.cost_usd == pytest.approx(ANSWER + high.budgets.spent_usd("groq"))
    assert high.budgets.spent_usd("groq") > 5


def test_a_look_past_the_guards_is_paid_under_its_own_name(
    fake: FakeProviders, road: Callable[..., HighRoad]
) -> None:
    high = road("groq")
    call = replace(call_of(priced("groq"), "llm"), client="gifty:doctor")

    [candidate] = high.router.candidates(call)
    high.router.attempt(call, candidate, call.deadline)

    assert spent(high, "groq") == (ANSWER, 0)
    assert high.clients._spending.of_client("gifty:doctor") is not None
