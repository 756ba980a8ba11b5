"""Who is asked first: as configured, the fastest, the cheapest; and the keys of one provider in turn."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gifty_compute.logic.source import parse_logic
from gifty_compute.providers.base import Reply
from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate, Outcome
from gifty_compute.routing.latency import Latencies
from gifty_compute.routing.order import Ordering
from tests.unit.conftest import HandClock


def names(candidates: list[Candidate]) -> list[str]:
    return [candidate.name for candidate in candidates]


@pytest.fixture
def three(candidate: Callable[..., Candidate]) -> list[Candidate]:
    return [candidate(name) for name in ("runpod", "intelligence_api", "openrouter")]


def test_the_configured_order_is_kept(call: Callable[..., Call], three: list[Candidate]) -> None:
    assert Ordering(lambda *_: 0.0).sort(call(), three) == three


def test_the_fastest_of_late_is_first_and_who_was_never_asked_is_tried(
    call: Callable[..., Call], three: list[Candidate], clock: HandClock
) -> None:
    latencies, logic = Latencies(clock), parse_logic("embedding: {order: fastest}")
    for candidate, seconds in zip(three, (0.9, 0.3, 0.1), strict=True):
        for _ in range(20):
            latencies.left(candidate, call(), Outcome(seconds, reply=Reply({})))
    order = Ordering(latencies.seconds)

    assert names(order.sort(call(by=logic), three)) == ["openrouter", "intelligence_api", "runpod"]

    for _ in range(20):
        latencies.left(three[2], call(), Outcome(2.0, reply=Reply({})))
    assert names(order.sort(call(by=logic), three)) == ["intelligence_api", "runpod", "openrouter"]


def test_one_never_asked_goes_first_among_the_fastest(
    call: Callable[..., Call], three: list[Candidate], clock: HandClock
) -> None:
    latencies, logic = Latencies(clock), parse_logic("embedding: {order: fastest}")
    latencies.left(three[0], call(), Outcome(0.1, reply=Reply({})))

    assert names(Ordering(latencies.seconds).sort(call(by=logic), three))[-1] == "runpod"


def test_one_that_was_slow_once_is_asked_again_after_some_minutes(
    call: Callable[..., Call], candidate: Callable[..., Candidate], clock: HandClock
) -> None:
    """A cold start would else put it last for ever, and cold."""
    cold, warm = candidate("runpod"), candidate("openrouter")
    latencies, logic = Latencies(clock), parse_logic("embedding: {order: fastest}")
    order = Ordering(latencies.seconds)
    latencies.left(cold, call(), Outcome(2.0, reply=Reply({})))
    firsts = []

    for _ in range(6):
        latencies.left(warm, call(), Outcome(0.2, reply=Reply({})))
        firsts.append(order.sort(call(by=logic), [cold, warm])[0].name)
        clock.advance(60)

    assert firsts == ["openrouter"] * 4 + ["runpod"] * 2


def test_the_cheapest_is_first_and_who_names_no_price_is_last(
    call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    logic = parse_logic(
        """
        llm: {default_provider: groq, fallbacks: [gemini, anthropic], order: cheapest}
        providers:
          gemini: {models: {gemini-3.5-flash-lite: {price: {input_per_million: 0.3}}}}
          anthropic: {models: {claude-haiku-5-5: {price: {input_per_million: 0.1}}}}
        """
    )
    candidates = [candidate(name, kind="llm", by=logic) for name in ("groq", "gemini", "anthropic")]

    found = Ordering(lambda *_: 0.0).sort(call("llm", by=logic), candidates)

    assert names(found) == ["anthropic", "gemini", "groq"]


def test_whom_the_call_wants_last_is_last(call: Callable[..., Call], three: list[Candidate]) -> None:
    found = Ordering(lambda *_: 0.0).sort(call(last=frozenset({"runpod"})), three)

    assert names(found) == ["intelligence_api", "openrouter", "runpod"]


def test_the_keys_of_a_provider_take_turns(
    call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    keys = [candidate(key="1"), candidate(key="2"), candidate("openrouter")]
    ordering = Ordering(lambda *_: 0.0)

    firsts = [ordering.sort(call(), keys)[0].site.key_label for _ in range(4)]

    assert firsts == ["1", "2", "1", "2"]
    assert names(ordering.sort(call(), keys)) == ["runpod", "runpod", "openrouter"]


def test_a_long_stream_is_no_slow_provider(
    call: Callable[..., Call], candidate: Callable[..., Candidate], clock: HandClock
) -> None:
    """K3: thinking and long answers counted as slowness."""
    logic = parse_logic("llm: {default_provider: groq, fallbacks: [anthropic], order: fastest}")
    latencies, streamed = Latencies(clock), call("llm", by=logic, is_stream=True)
    groq, anthropic = (candidate(name, kind="llm", by=logic) for name in ("groq", "anthropic"))
    latencies.left(groq, streamed, Outcome(90.0, reply=Reply({}), first_seconds=0.2))
    latencies.left(anthropic, streamed, Outcome(3.0, reply=Reply({}), first_seconds=0.9))

    assert names(Ordering(latencies.seconds).sort(streamed, [anthropic, groq])) == ["groq", "anthropic"]
    assert latencies.seconds(groq, call("llm", by=logic)) == 0.0
