"""Requests and tokens of a minute, dollars of a day: counted by us, for all processes together."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import parse_logic
from gifty_compute.providers.base import Reply, Usage
from gifty_compute.routing.budget import Budgets
from gifty_compute.routing.call import Call
from gifty_compute.routing.cost import cost_usd
from gifty_compute.routing.guard import Candidate, Outcome
from gifty_compute.routing.limits import Limits
from tests.unit.conftest import HandClock
from tests.unit.routing.conftest import failed


class Sums:
    """The counters of a world with one process."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}

    def add(self, name: str, amount: float, *, keep_seconds: float) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + amount

    def total(self, name: str) -> float:
        return self.sums.get(name, 0.0)


@pytest.fixture
def sums() -> Sums:
    return Sums()


LIMITED = parse_logic("providers: {runpod: {limits: {requests_per_minute: 2, tokens_per_minute: 100}}}")


def texts(characters: int) -> dict[str, object]:
    return {"texts": ["я" * characters], "model": "bge-m3", "input_type": "passage"}


# -- limits --------------------------------------------------------------------------------------------------


def test_after_so_many_requests_the_key_waits_for_the_next_minute(
    sums: Sums, clock: HandClock, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    limits, asked, runpod = Limits(clock, sums), call(by=LIMITED), candidate(by=LIMITED)
    clock.advance(60 - clock.monotonic() % 60 + 20)

    for _ in range(2):
        assert limits.wait(runpod, asked) is None
        assert limits.enter(runpod, asked)

    assert limits.wait(runpod, asked) == (40, "its limit of 2 requests a minute is reached")
    assert limits.wait(candidate(by=LIMITED, key="2"), asked) is None
    clock.advance(40)
    assert limits.wait(runpod, asked) is None


def test_tokens_are_estimated_before_and_corrected_after(
    sums: Sums, clock: HandClock, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    logic = parse_logic("providers: {runpod: {limits: {tokens_per_minute: 100}}}")
    limits, runpod = Limits(clock, sums), candidate(by=logic)
    large, small = call(by=logic, payload=texts(270)), call(by=logic, payload=texts(15))

    limits.enter(runpod, large)
    assert limits.wait(runpod, small) is None
    assert limits.wait(runpod, large) is not None

    limits.left(runpod, large, Outcome(0.1, reply=Reply({}, Usage(99))))
    assert limits.wait(runpod, small) is not None


def test_a_request_larger_than_the_whole_limit_goes_when_nothing_else_did(
    sums: Sums, clock: HandClock, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    logic = parse_logic("providers: {runpod: {limits: {tokens_per_minute: 100}}}")
    limits, huge = Limits(clock, sums), call(by=logic, payload=texts(3000))

    assert limits.wait(candidate(by=logic), huge) is None
    limits.enter(candidate(by=logic), huge)
    assert limits.wait(candidate(by=logic), huge) is not None


def test_without_limits_nothing_is_counted(
    sums: Sums, clock: HandClock, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    limits = Limits(clock, sums)

    limits.enter(candidate(), call())
    limits.left(candidate(), call(), Outcome(0.1, reply=Reply({}, Usage(5))))

    assert sums.sums == {}


# -- costs and budgets ---------------------------------------------------------------------------------------

PRICED = parse_logic(
    """
    llm: {default_provider: groq, fallbacks: [openrouter]}
    providers:
      groq:
        budget_usd_per_day: 1
        models:
          openai/gpt-oss-20b: {price: {input_per_million: 0.1, output_per_million: 0.5}}
          openai/gpt-oss-120b: {price: {input_per_million: 0.1, output_per_million: 0.5}}
      runpod: {usd_per_second: 0.0002}
    """
)


def test_a_cost_is_what_the_provider_says_else_what_the_price_list_says_else_unknown(
    candidate: Callable[..., Candidate],
) -> None:
    groq = candidate("groq", kind="llm", by=PRICED).offer
    openrouter = candidate("openrouter", kind="llm", by=PRICED).offer
    runpod = candidate("runpod", by=PRICED).offer

    assert cost_usd(groq, Reply({}, Usage(1_000_000, 2_000_000))) == pytest.approx(1.1)
    assert cost_usd(groq, Reply({})) is None
    assert cost_usd(openrouter, Reply({}, Usage(10, 10))) is None
    assert cost_usd(openrouter, Reply({}, Usage(10, 10), cost_usd=0.003)) == 0.003
    assert cost_usd(runpod, Reply({}, billed_seconds=1.5)) == pytest.approx(0.0003)


def test_the_packaged_model_costs_nothing(candidate: Callable[..., Candidate]) -> None:
    logic = parse_logic("llm: {embedding_provider: local, model_embedding: multilingual-e5-small}")

    assert cost_usd(candidate("local", by=logic).offer, Reply({})) == 0


def test_a_spent_budget_keeps_the_provider_out_until_midnight(
    sums: Sums, clock: HandClock, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    budgets, groq, asked = (
        Budgets(clock, sums),
        candidate("groq", kind="llm", by=PRICED),
        call("llm", by=PRICED),
    )

    budgets.left(groq, asked, Outcome(1, reply=Reply({}), cost_usd=0.6))
    assert budgets.wait(groq, asked) is None

    budgets.left(groq, asked, Outcome(1, reply=Reply({}), cost_usd=0.6))
    assert budgets.spent_usd("groq") == pytest.approx(1.2)
    assert budgets.wait(groq, asked) == (86_400 - 1000, "its budget of today is spent")

    clock.advance(86_400 - 1000)
    assert budgets.wait(groq, asked) is None


def test_an_unknown_cost_is_counted_as_unknown_and_told_where_a_budget_misses_it(
    sums: Sums,
    clock: HandClock,
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    caplog: pytest.LogCaptureFixture,
) -> None:
    budgets, groq = Budgets(clock, sums), candidate("groq", kind="llm", by=PRICED)

    budgets.left(groq, call("llm", by=PRICED), Outcome(1, reply=Reply({})))

    assert (budgets.spent_usd("groq"), budgets.unpriced("groq")) == (0, 1)
    assert "its cost is not known" in caplog.text


def test_a_failure_costs_nothing_that_is_known(
    sums: Sums, clock: HandClock, call: Callable[..., Call], candidate: Callable[..., Candidate], logic: Logic
) -> None:

    budgets = Budgets(clock, sums)

    budgets.left(candidate(), call(), Outcome(1, error=failed()))

    assert sums.sums == {}
