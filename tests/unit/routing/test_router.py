"""From a call to a checked answer: whom the router asks, how, and what it takes for an answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np
import pytest

from gifty_compute.errors import InvalidRequest, NoRoute, ProviderError
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import parse_logic
from gifty_compute.providers.access import Access
from gifty_compute.providers.base import PROGRESS, QUIET, THINKING, Ask, Delta, Reply, Usage
from gifty_compute.routing.call import Answer, Call, Next
from gifty_compute.routing.guard import Candidate, Outcome
from gifty_compute.routing.order import Ordering
from gifty_compute.routing.router import Router
from tests.unit.conftest import HandClock
from tests.unit.routing.conftest import failed

ENVIRON = {
    "RUNPOD_API_KEY": "r",
    "RUNPOD_ENDPOINT_ID": "abc",
    "INTELLIGENCE_API_TOKEN": "i",
    "OPENROUTER_API_KEY": "o1, o2",
    "GROQ_API_KEY": "g",
    "ANTHROPIC_API_KEY": "a",
}
GOOD: dict[str, Reply] = {
    "embedding": Reply({"embeddings": np.ones((1, 1024), "<f4")}, Usage(3)),
    "rerank": Reply({"scores": [0.9, 0.1], "kind": "cross-encoder"}),
    "llm": Reply({"content": "Привет!", "finish_reason": "stop"}, Usage(5, 2)),
}


class Scripted:
    """One provider for all adapters: answers, or does what was said for the provider that is asked."""

    def __init__(self) -> None:
        self.doings: dict[str, Any] = {}
        self.asks: list[Ask] = []
        self.closed: list[str] = []

    def run(self, ask: Ask) -> Reply:
        self.asks.append(ask)
        doing = self.doings.get(ask.offer.provider) or GOOD[ask.offer.ask_as]
        if isinstance(doing, Exception):
            raise doing
        assert isinstance(doing, Reply)
        return doing

    def stream(self, ask: Ask) -> Iterator[Delta]:
        self.asks.append(ask)
        doing = self.doings.get(ask.offer.provider, [Delta("При"), Delta("вет", "stop", Usage(1, 2))])
        try:
            for delta in doing.of(ask) if isinstance(doing, Timed) else doing:
                if isinstance(delta, Exception):
                    raise delta
                yield delta
        finally:
            self.closed.append(ask.offer.provider)

    @property
    def asked(self) -> list[str]:
        return [ask.offer.provider for ask in self.asks]


class Notes:
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def build(scripted: Scripted, notes: Notes) -> Callable[..., Router]:
    def build(environ: dict[str, str] = ENVIRON, **parts: Any) -> Router:
        adapters = ("intelligence", "runpod", "openai_like", "anthropic", "gemini", "local")
        providers: Any = dict.fromkeys(adapters, scripted)
        ordering = Ordering(lambda *_: 0.0)
        return Router(
            providers, Access(environ), ordering=ordering, rng=Random(1), observers=[notes], **parts
        )

    return build


# -- who is asked --------------------------------------------------------------------------------------------


def test_the_first_of_the_route_answers(build: Any, scripted: Scripted, call: Callable[..., Call]) -> None:
    answer = build().run(call())

    assert (answer.provider, answer.attempts, answer.usage) == ("runpod", 1, Usage(3))
    assert answer.result["space"] == "bge-m3"
    [ask] = scripted.asks
    assert ask.site.base_url == "https://api.runpod.ai/v2/abc"
    assert (ask.site.key, ask.offer.model_id) == ("r", "bge-m3")


def test_a_provider_without_a_key_is_passed_over(
    build: Any, scripted: Scripted, call: Callable[..., Call]
) -> None:
    build({"OPENROUTER_API_KEY": "o"}).run(call())

    assert scripted.asked == ["openrouter"]


def test_without_any_key_it_is_not_served_and_the_route_is_named(
    build: Any, call: Callable[..., Call]
) -> None:
    with pytest.raises(InvalidRequest, match="runpod, intelligence_api, openrouter") as caught:
        build({}).run(call())

    assert (caught.value.code, caught.value.param) == ("not_served", "model")


def test_a_key_without_an_endpoint_is_no_runpod(
    build: Any, scripted: Scripted, call: Callable[..., Call]
) -> None:
    build({"RUNPOD_API_KEY": "r", "INTELLIGENCE_API_TOKEN": "i"}).run(call())

    assert scripted.asked == ["intelligence_api"]


def test_the_keys_of_a_provider_are_tried_one_after_the_other(
    build: Any, scripted: Scripted, call: Callable[..., Call]
) -> None:
    scripted.doings = dict.fromkeys(("runpod", "intelligence_api", "openrouter"), failed())

    with pytest.raises(NoRoute):
        build().run(call())

    assert scripted.asked == ["runpod", "intelligence_api", "openrouter", "openrouter"]
    assert sorted(ask.site.key for ask in scripted.asks[2:]) == ["o1", "o2"]


def test_where_the_asker_alone_could_answer_it_is_told_so(build: Any, call: Callable[..., Call]) -> None:
    logic = parse_logic("embedding: {providers: [intelligence_api]}")

    with pytest.raises(InvalidRequest, match="X-Gifty-Hop") as caught:
        build().run(call(by=logic, never=frozenset({"intelligence_api"})))

    assert caught.value.code == "not_served"


def test_who_may_be_the_asker_is_never_asked_back(
    build: Any, scripted: Scripted, call: Callable[..., Call]
) -> None:
    scripted.doings = {"runpod": failed()}

    build().run(call(never=frozenset({"intelligence_api"})))

    assert scripted.asked == ["runpod", "openrouter"]


def test_an_edit_of_the_file_is_in_force_with_the_next_call(
    build: Any, scripted: Scripted, call: Callable[..., Call]
) -> None:
    router = build()

    router.run(call(by=parse_logic("llm: {embedding_provider: runpod}")))
    router.run(call(by=parse_logic("llm: {embedding_provider: openrouter}")))
    router.run(call(by=parse_logic("models: {bge-m3: {providers: {runpod: other-id}}}")))

    assert scripted.asked == ["runpod", "openrouter", "runpod"]
    assert scripted.asks[2].offer.model_id == "other-id"


# -- what is an answer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "vectors",
    [
        np.ones((2, 1024), "<f4"),
        np.ones((1, 768), "<f4"),
        np.zeros((1, 1024), "<f4"),
        np.full((1, 1024), np.nan, "<f4"),
        np.full((1, 1024), np.inf, "<f4"),
    ],
    ids=["count", "dimension", "zero", "nan", "infinity"],
)
def test_vectors_that_cannot_be_right_are_a_failure_of_their_provider(
    build: Any, scripted: Scripted, call: Callable[..., Call], notes: Notes, vectors: Any
) -> None:
    scripted.doings = {"runpod": Reply({"embeddings": vectors})}

    answer = build().run(call())

    assert (answer.provider, answer.attempts) == ("intelligence_api", 2)
    assert np.isfinite(answer.result["embeddings"]).all()
    assert notes.outcomes[0].error is not None
    assert notes.outcomes[0].error.code == "bad_answer"


def test_what_a_provider_says_of_the_input_is_in_no_log_and_no_answer(
    build: Any, scripted: Scripted, call: Callable[..., Call], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    scripted.doings = dict.fromkeys(("runpod", "intelligence_api", "openrouter"), failed())

    with pytest.raises(NoRoute) as caught:
        build().run(call(payload={"texts": ["canary-мёд"], "model": "bge-m3", "input_type": "passage"}))

    assert "canary" not in caught.value.message + caplog.text


def test_a_classification_by_a_language_model_names_it(
    build: Any, scripted: Scripted, call: Callable[..., Call], logic: Logic
) -> None:
    scripted.doings = {
        "intelligence_api": failed(),
        "anthropic": Reply(
            {
                "content": '{"answers": [{"name": 1, "category": 2, "confidence": 0.9}]}',
                "finish_reason": "stop",
            }
        ),
    }
    payload = {
        "external_names": ["Удочки"],
        "internal_categories": [{"id": "a", "name": "Книги"}, {"id": "b", "name": "Рыбалка"}],
        "model": "bge-reranker-v2-m3",
    }

    answer = build().run(call("classify", payload=payload))

    assert answer.provider == "anthropic"
    assert answer.result["model"] == "anthropic/claude-haiku-5-5"
    assert answer.result["mappings"] == [
        {"external_name": "Удочки", "internal_category_id": "b", "confidence": 0.9}
    ]


def test_the_cap_of_an_answer_is_the_callers_or_the_configured_one(
    build: Any, scripted: Scripted, call: Callable[..., Call]
) -> None:
    router = build()

    router.run(call("llm"))
    router.run(call("llm", payload={**call("llm").payload, "max_tokens": 7}))

    assert [ask.payload["max_tokens"] for ask in scripted.asks] == [1000, 7]


# -- stages --------------------------------------------------------------------------------------------------


def test_a_call_passes_the_stages_in_their_order(build: Any, call: Callable[..., Call]) -> None:
    passed: list[str] = []

    class Marker:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, call: Call, then: Next) -> Answer:
            passed.append(self.name)
            answer = then(call)
            passed.append(f"/{self.name}")
            return answer

    build(stages=[Marker("a"), Marker("b")]).run(call())

    assert passed == ["a", "b", "/b", "/a"]


# -- streams -------------------------------------------------------------------------------------------------

CHAT = "llm: {default_provider: groq, fallbacks: [anthropic]}"


def chat(call: Callable[..., Call], *, text: str = CHAT, **fields: Any) -> Call:
    return call("llm", by=parse_logic(text), **fields)


def test_a_stream_comes_piece_by_piece_and_the_observers_learn_of_its_end(
    build: Any, scripted: Scripted, call: Callable[..., Call], notes: Notes
) -> None:
    stream = build().stream(chat(call))

    assert (stream.provider, stream.model, stream.attempts) == ("groq", "groq/openai/gpt-oss-20b", 1)
    assert notes.outcomes == []
    assert "".join(delta.text for delta in stream.deltas) == "Привет"
    assert [outcome.reply.usage for outcome in notes.outcomes if outcome.reply] == [Usage(1, 2)]
    assert scripted.closed == ["groq"]


@pytest.mark.parametrize("broken", [[failed()], [PROGRESS, failed()], []], ids=["at once", "silent", "empty"])
def test_before_the_first_piece_another_provider_is_asked(
    build: Any, scripted: Scripted, call: Callable[..., Call], broken: list[Any]
) -> None:
    scripted.doings = {"groq": broken}

    stream = build().stream(chat(call))

    assert (stream.provider, stream.attempts) == ("anthropic", 2)
    assert "".join(delta.text for delta in stream.deltas) == "Привет"


def test_after_the_first_piece_nobody_else_is_asked_and_the_break_is_told(
    build: Any, scripted: Scripted, call: Callable[..., Call], notes: Notes
) -> None:
    scripted.doings = {"groq": [Delta("При"), failed(code="connection_lost")]}
    stream = build().stream(chat(call))

    with pytest.raises(ProviderError, match="connection_lost"):
        list(stream.deltas)

    assert scripted.asked == ["groq"]
    assert [outcome.error.code for outcome in notes.outcomes if outcome.error] == ["connection_lost"]


def test_a_reader_that_leaves_ends_the_exchange_with_the_provider(
    build: Any, scripted: Scripted, call: Callable[..., Call], notes: Notes
) -> None:
    stream = build().stream(chat(call))
    assert next(stream.deltas).text == "При"

    stream.deltas.close()

    assert scripted.closed == ["groq"]
    assert len(notes.outcomes) == 1


def test_a_reader_that_never_begins_ends_the_exchange_too(
    build: Any, scripted: Scripted, call: Callable[..., Call], notes: Notes
) -> None:
    stream = build().stream(chat(call))

    stream.deltas.close()

    assert scripted.closed == ["groq"]
    assert len(notes.outcomes) == 1


def test_the_first_sign_must_come_within_the_share_and_then_silence_has_the_whole_budget(
    build: Any, scripted: Scripted, call: Callable[..., Call]
) -> None:
    stream = build().stream(chat(call))

    [ask] = scripted.asks
    assert ask.deadline.remaining == 2
    list(stream.deltas)


class Timed:
    """The deltas of a stream, each after so many seconds of the hand clock; a TransportError's code at the
    ask's deadline, as every transport raises it."""

    def __init__(self, clock: HandClock, *pieces: tuple[float, Delta]) -> None:
        self._clock, self._pieces = clock, pieces
        self.seconds = 0.0

    def of(self, ask: Ask) -> Iterator[Delta]:
        for seconds, delta in self._pieces:
            left = ask.deadline.remaining
            self._clock.advance(min(seconds, left))
            if seconds >= left:
                raise failed(code="timeout")
            yield delta


def test_a_stream_that_flows_is_not_ended_by_the_wall_clock(
    build: Any, scripted: Scripted, call: Callable[..., Call], clock: HandClock
) -> None:
    """P7: a budget of 4 s, a piece each quarter of a second for 8 s."""
    pieces = [(0.25, Delta("а"))] * 32 + [(0.25, Delta(finish_reason="stop"))]
    scripted.doings = {"groq": Timed(clock, *pieces)}

    stream = build().stream(chat(call, seconds=4))

    assert "".join(delta.text for delta in stream.deltas) == "а" * 32


def test_thinking_is_progress_and_its_first_sign_begins_the_answer(
    build: Any, scripted: Scripted, call: Callable[..., Call], clock: HandClock
) -> None:
    """P8, P9: another provider was asked while the first one thought."""
    pieces = [(0.2, THINKING)] * 30 + [(0.2, Delta("да")), (0.2, Delta(finish_reason="stop"))]
    scripted.doings = {"groq": Timed(clock, *pieces)}

    stream = build().stream(chat(call, seconds=6))

    assert clock.monotonic() == pytest.approx(1000.2)
    assert (stream.provider, scripted.asked) == ("groq", ["groq"])
    assert "".join(delta.text for delta in stream.deltas) == "да"


def test_signs_without_thought_keep_the_provider_and_begin_the_answer_after_a_second(
    build: Any, scripted: Scripted, call: Callable[..., Call], clock: HandClock
) -> None:
    pieces = [(0.4, PROGRESS)] * 30 + [(0.4, Delta("да")), (0.4, Delta(finish_reason="stop"))]
    scripted.doings = {"groq": Timed(clock, *pieces)}

    stream = build().stream(chat(call, seconds=1))

    assert clock.monotonic() == pytest.approx(1001.6)
    assert "".join(delta.text for delta in stream.deltas) == "да"
    assert scripted.asked == ["groq"]


def test_a_provider_that_fails_right_after_its_first_sign_still_gives_way_to_another_one(
    build: Any, scripted: Scripted, call: Callable[..., Call], clock: HandClock
) -> None:
    scripted.doings = {"groq": [PROGRESS, failed()]}

    assert build().stream(chat(call)).provider == "anthropic"


def test_a_provider_that_says_nothing_has_the_share_of_an_attempt(
    build: Any, scripted: Scripted, call: Callable[..., Call], clock: HandClock
) -> None:
    scripted.doings = {"groq": Timed(clock, *[(1.0, QUIET)] * 99)}

    assert build().stream(chat(call, seconds=6)).provider == "anthropic"
    assert clock.monotonic() == 1003


def test_a_stream_that_falls_silent_is_ended_by_us_and_the_error_says_so(
    build: Any, scripted: Scripted, call: Callable[..., Call], clock: HandClock, notes: Notes
) -> None:
    scripted.doings = {"groq": Timed(clock, (0.1, Delta("При")), *[(1.0, QUIET)] * 99)}
    stream = build().stream(chat(call, seconds=60, silence_seconds=5))

    with pytest.raises(ProviderError, match="nothing came from the provider for 5 s") as caught:
        list(stream.deltas)

    assert caught.value.code == "timeout"
    assert clock.monotonic() == pytest.approx(1005.1)
    assert [outcome.error.code for outcome in notes.outcomes if outcome.error] == ["timeout"]


def test_a_stream_without_an_end_is_ended_by_us_and_speaks_not_against_its_provider(
    build: Any, scripted: Scripted, call: Callable[..., Call], clock: HandClock, notes: Notes
) -> None:
    scripted.doings = {"groq": Timed(clock, *[(1.0, Delta("а"))] * 99)}
    stream = build().stream(chat(call, seconds=60, text=CHAT[:-1] + ", longest_stream_ms: 20000}"))

    with pytest.raises(ProviderError, match="a stream may last 20 s") as caught:
        list(stream.deltas)

    assert caught.value.code == "stream_too_long"
    assert clock.monotonic() == pytest.approx(1020)


def test_the_observers_learn_how_soon_a_stream_began(
    build: Any, scripted: Scripted, call: Callable[..., Call], clock: HandClock, notes: Notes
) -> None:
    """K3: a long answer, or a long thought, is not a slow provider."""
    pieces = [(0.2, THINKING)] * 10 + [(0.2, Delta("да")), (0.2, Delta(finish_reason="stop"))]
    scripted.doings = {"groq": Timed(clock, *pieces)}

    list(build().stream(chat(call)).deltas)

    assert [outcome.first_seconds for outcome in notes.outcomes] == [pytest.approx(0.2)]
