"""Requests and tokens of a minute, dollars of a day: counted by us, for all processes together."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.source import parse_logic
from gifty_compute.providers.base import Reply, Usage
from gifty_compute.routing.bill import Bill
from gifty_compute.routing.budget import Budgets
from gifty_compute.routing.call import Call
from gifty_compute.routing.cost import cost_usd
from gifty_compute.routing.guard import Candidate
from gifty_compute.routing.limits import Limits
from gifty_compute.routing.spending import Spending
from gifty_compute.windows import Sum
from gifty_compute.wire.spending import Amount, Line
from tests.unit.conftest import HandClock


class Sums:
    """The counters of a world with one process."""

    def __init__(self) -> None:
        self.sums: dict[Sum, float] = {}

    def add(self, to: Sum, amount: float) -> None:
        self.sums[to] = self.sums.get(to, 0.0) + amount

    def take(self, of: Sum, amount: float, most: float) -> bool:
        fits = self.total(of) + amount <= most
        if fits:
            self.add(of, amount)
        return fits

    def total(self, of: Sum) -> float:
        return self.sums.get(of, 0.0)


@pytest.fixture
def sums() -> Sums:
    return Sums()


def bill(clock: HandClock, usd: float = 0.0, tokens: int = 0, **fields: Any) -> Bill:
    return Bill(clock.now(), Usage(tokens), usd, **fields)


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

    limits.paid(runpod, large, bill(clock, tokens=99))
    assert limits.wait(runpod, small) is not None


def test_a_bill_corrects_the_minute_in_which_its_attempt_began(
    sums: Sums, clock: HandClock, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    logic = parse_logic("providers: {runpod: {limits: {tokens_per_minute: 100}}}")
    limits, runpod, asked = Limits(clock, sums), candidate(by=logic), call(by=logic, payload=texts(90))
    clock.advance(60 - clock.monotonic() % 60 + 59)
    limits.enter(runpod, asked)
    long = bill(clock, tokens=95)

    clock.advance(2)
    limits.paid(runpod, asked, long)

    assert limits.wait(runpod, call(by=logic, payload=texts(300))) is None


def test_a_look_that_passes_by_the_guards_counts_as_a_whole(
    sums: Sums, clock: HandClock, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    limits, asked, runpod = Limits(clock, sums), call(by=LIMITED), candidate(by=LIMITED)

    for _ in range(2):
        limits.paid(runpod, asked, bill(clock, tokens=5, entered=False))

    assert limits.wait(runpod, asked) is not None
    assert sorted(sums.sums.values()) == [2, 10]


def test_two_threads_that_both_found_room_do_not_both_take_the_last_place(
    sums: Sums, clock: HandClock, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    limits, asked, runpod = Limits(clock, sums), call(by=LIMITED), candidate(by=LIMITED)

    found = [limits.wait(runpod, asked) for _ in range(3)]
    entered = [limits.enter(runpod, asked) for _ in range(3)]

    assert (found, entered) == ([None] * 3, [True, True, False])


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
    limits.paid(candidate(), call(), bill(clock, tokens=5))

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


@pytest.fixture
def spending(clock: HandClock) -> Spending:
    return Spending(clock, is_shared=False)


def test_a_spent_budget_keeps_the_provider_out_until_midnight(
    spending: Spending, clock: HandClock, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    budgets, groq = Budgets(clock, spending), candidate("groq", kind="llm", by=PRICED)
    asked = call("llm", by=PRICED)

    spending.paid(groq, asked, bill(clock, 0.6))
    assert budgets.wait(groq, asked) is None

    spending.paid(groq, asked, bill(clock, 0.6))
    assert budgets.spent_usd("groq") == pytest.approx(1.2)
    assert budgets.wait(groq, asked) == (86_400 - 1000, "its budget of today is spent")

    clock.advance(86_400 - 1000)
    assert budgets.wait(groq, asked) is None


def test_an_attempt_over_midnight_counts_in_the_day_in_which_it_began(
    spending: Spending, clock: HandClock, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    budgets, groq = Budgets(clock, spending), candidate("groq", kind="llm", by=PRICED)
    late = bill(clock, 2.0)

    clock.advance(86_400)
    spending.paid(groq, call("llm", by=PRICED), late)

    assert budgets.wait(groq, call("llm", by=PRICED)) is None
    [(line, _)] = spending.unwritten()
    assert line.day == date(2026, 1, 1)


def test_before_todays_spending_is_known_a_budget_is_closed(
    clock: HandClock, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    spending = Spending(clock, is_shared=True)
    budgets, groq, asked = (
        Budgets(clock, spending),
        candidate("groq", kind="llm", by=PRICED),
        call("llm", by=PRICED),
    )

    assert budgets.wait(groq, asked) == (1, "its budget cannot be counted before PostgreSQL answers")
    assert budgets.wait(candidate("openrouter", kind="llm", by=PRICED), asked) is None

    today = clock.now().date()
    spending.learn(today, [(Line(today, "groq", "m", "backend"), Amount(0.9, 0, 3))])
    assert budgets.wait(groq, asked) is None
    assert budgets.spent_usd("groq") == 0.9


def test_what_others_spent_and_what_is_not_written_yet_count_together(
    clock: HandClock, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    spending, groq = Spending(clock, is_shared=True), candidate("groq", kind="llm", by=PRICED)
    today = clock.now().date()
    spending.paid(groq, call("llm", by=PRICED), bill(clock, 0.5))
    sent = spending.unwritten()
    spending.paid(groq, call("llm", by=PRICED), bill(clock, 0.25))

    spending.written(sent)
    spending.learn(today - timedelta(days=1), [*sent, (Line(today, "groq", "m", "other"), Amount(1, 0, 1))])

    assert Budgets(clock, spending).spent_usd("groq") == 1.75
    assert [amount.usd for _, amount in spending.unwritten()] == [0.25]


def test_an_attempt_without_a_price_is_reckoned_as_the_others_and_told_where_a_budget_misses_it(
    spending: Spending,
    clock: HandClock,
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    caplog: pytest.LogCaptureFixture,
) -> None:
    budgets, groq = Budgets(clock, spending), candidate("groq", kind="llm", by=PRICED)
    asked = call("llm", by=PRICED)

    spending.paid(groq, asked, bill(clock, unpriced=1))
    assert (budgets.spent_usd("groq"), budgets.unpriced("groq"), budgets.wait(groq, asked)) == (0, 1, None)
    assert "providers.groq.price is not set" in caplog.text

    spending.paid(groq, asked, bill(clock, 0.6))
    assert budgets.wait(groq, asked) is not None


def test_a_budget_that_sees_no_price_at_all_is_closed_after_three_attempts(
    spending: Spending, clock: HandClock, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    budgets, groq = Budgets(clock, spending), candidate("groq", kind="llm", by=PRICED)
    asked = call("llm", by=PRICED)

    waits = []
    for _ in range(3):
        waits.append(budgets.wait(groq, asked))
        spending.paid(groq, asked, bill(clock, unpriced=1))

    assert waits == [None] * 3
    assert budgets.wait(groq, asked) is not None


def test_a_provider_may_state_a_price_for_models_that_have_none_of_their_own(
    candidate: Callable[..., Candidate],
) -> None:
    logic = parse_logic(
        """
        llm: {default_provider: groq}
        providers:
          groq:
            budget_usd_per_day: 1
            price: {input_per_million: 1, output_per_million: 2}
            models: {openai/gpt-oss-20b: {price: {input_per_million: 3, output_per_million: 4}}}
        """
    )

    own = logic.offers("llm", logic.model("llm", "fast"))[0].flags.price
    [other] = logic.offers("llm", logic.model("llm", "groq/not-in-the-file"))

    assert own is not None
    assert own.input_per_million == 3
    assert other.flags.price is not None
    assert cost_usd(other, Reply({}, Usage(1_000_000, 1_000_000))) == 3


def test_half_a_price_is_refused_under_a_budget() -> None:
    with pytest.raises(InvalidConfig, match=r"groq.*output_per_million"):
        parse_logic("providers: {groq: {budget_usd_per_day: 1, price: {input_per_million: 1}}}")


@pytest.mark.parametrize(
    "price", ["price: {input_per_million: 1}", "models: {x: {price: {input_per_million: 1}}}"]
)
def test_half_a_price_is_refused_where_a_client_may_spend_so_much_a_day(price: str) -> None:
    """Its other half would count as nothing: the client would spend without an end."""
    text = f"providers: {{groq: {{{price}}}}}"
    parse_logic(text)

    with pytest.raises(InvalidConfig, match=r"clients\.shop\.usd_per_day.*groq.*output_per_million"):
        parse_logic(f"{text}\nclients: {{shop: {{usd_per_day: 1}}}}")


def test_what_the_packaged_model_does_is_no_spending(
    spending: Spending, clock: HandClock, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    logic = parse_logic("llm: {embedding_provider: local, model_embedding: multilingual-e5-small}")

    spending.paid(candidate("local", by=logic), call(), bill(clock))

    assert spending.unwritten() == []
