"""A provider joins a space when it gives the vectors that the space is known by; drifting, it leaves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gifty_compute.clock import Deadline
from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.reference import Reference, write_reference
from gifty_compute.logic.source import DEFAULT_LOGIC, parse_logic
from gifty_compute.providers.base import Reply
from gifty_compute.routing.call import Answer, Call
from gifty_compute.routing.canary import Canaries
from gifty_compute.routing.guard import Candidate, Outcome
from tests.e2e.service import eventually
from tests.unit.conftest import HandClock
from tests.unit.routing.conftest import failed

KNOWN = np.random.default_rng(7).normal(size=(3, 1024)).astype("<f4")
TEXTS = ("чайник", "мяч", "книга")


class Asker:
    """Three providers of one space, each with vectors of its own."""

    def __init__(self, candidates: list[Candidate], **vectors: Any) -> None:
        self._candidates, self.vectors = candidates, vectors
        self.asked: list[str] = []

    def candidates(self, call: Call) -> list[Candidate]:
        return self._candidates

    def attempt(self, call: Call, candidate: Candidate, deadline: Deadline) -> tuple[Answer, Reply]:
        self.asked.append(candidate.name)
        assert call.payload["texts"] == list(TEXTS)
        found = self.vectors.get(candidate.name, KNOWN)
        if isinstance(found, Exception):
            raise found
        return Answer({"embeddings": found}, candidate.name, 1), Reply({})


@pytest.fixture
def known(tmp_path: Path) -> Logic:
    reference = Reference("bge-m3", TEXTS, 1024, KNOWN.tobytes())
    write_reference(tmp_path / "bge.json", reference, provider="runpod", recorded_at="2026-01-01T00:00:00Z")
    return parse_logic("spaces: {bge-m3: {reference: bge.json}}", folder=tmp_path)


@pytest.fixture
def asker(candidate: Callable[..., Candidate]) -> Asker:
    return Asker([candidate("runpod"), candidate("openrouter")])


@pytest.fixture
def canaries(clock: HandClock) -> Canaries:
    return Canaries(clock)


def look(canaries: Canaries, logic: Logic, asker: Any) -> None:
    """A look, to its end."""
    for thread in canaries.look(logic, asker):
        thread.join(10)
        assert not thread.is_alive()


def test_a_space_without_reference_lets_everybody_in(
    canaries: Canaries, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    assert canaries.wait(candidate(), call()) is None


def test_nobody_is_in_before_a_look(
    canaries: Canaries, known: Logic, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    assert canaries.wait(candidate(), call(by=known)) is not None
    assert not canaries.enter(candidate(), call(by=known))


def test_a_work_without_vectors_is_not_concerned(
    canaries: Canaries, known: Logic, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> None:
    assert canaries.wait(candidate(kind="rerank"), call("rerank", by=known)) is None


def test_who_was_in_before_there_was_a_reference_stays_until_it_is_known(
    canaries: Canaries,
    known: Logic,
    asker: Asker,
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    canaries.left(candidate(), call(), Outcome(0.1, reply=Reply({})))
    asker.vectors["runpod"] = np.roll(KNOWN, 1, axis=1)

    assert canaries.wait(candidate(), call(by=known)) is None
    assert canaries.wait(candidate("openrouter"), call(by=known)) is not None
    look(canaries, known, asker)
    assert canaries.wait(candidate(), call(by=known)) == (600, "its vectors are of another space")


def test_the_first_call_in_a_space_with_a_reference_has_its_providers_looked_at_at_once(
    clock: HandClock,
    known: Logic,
    asker: Asker,
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    canaries = Canaries(clock)
    logic = [DEFAULT_LOGIC]
    canaries.start(lambda: logic[0], asker)
    try:
        logic[0] = known
        eventually(lambda: canaries.enter(candidate(), call(by=known)), within=10, what="it was looked at")
    finally:
        canaries.stop()


def test_who_gives_the_known_vectors_is_in(
    canaries: Canaries,
    known: Logic,
    asker: Asker,
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    asker.vectors["runpod"] = KNOWN * 3.0  # longer, but of the same direction

    look(canaries, known, asker)

    assert canaries.wait(candidate(), call(by=known)) is None
    assert canaries.enter(candidate(), call(by=known))


def test_a_rotated_space_stays_out_and_is_alarmed(
    canaries: Canaries,
    known: Logic,
    asker: Asker,
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    caplog: pytest.LogCaptureFixture,
) -> None:
    asker.vectors["runpod"] = np.roll(KNOWN, 1, axis=1)

    look(canaries, known, asker)

    assert canaries.wait(candidate(), call(by=known)) == (600, "its vectors are of another space")
    assert canaries.wait(candidate("openrouter"), call(by=known)) is None
    assert [record.levelno for record in caplog.records if "not in space" in record.message] == [
        logging.ERROR
    ]
    assert canaries.standings()[candidate().circuit] == "drifted"


def test_one_wrong_canary_among_good_ones_is_enough(
    canaries: Canaries,
    known: Logic,
    asker: Asker,
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    vectors = KNOWN.copy()
    vectors[2] = KNOWN[0]
    asker.vectors["runpod"] = vectors

    look(canaries, known, asker)

    assert canaries.wait(candidate(), call(by=known)) is not None


def test_looks_are_repeated_and_one_that_drifts_later_is_put_out_and_may_come_back(
    canaries: Canaries,
    known: Logic,
    asker: Asker,
    clock: HandClock,
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    look(canaries, known, asker)
    look(canaries, known, asker)
    assert sorted(asker.asked) == ["openrouter", "runpod"]

    clock.advance(600)
    asker.vectors["runpod"] = -KNOWN
    look(canaries, known, asker)
    assert canaries.wait(candidate(), call(by=known)) is not None

    clock.advance(600)
    asker.vectors["runpod"] = KNOWN
    look(canaries, known, asker)
    assert canaries.wait(candidate(), call(by=known)) is None


def test_a_look_that_fails_leaves_who_was_in_and_lets_nobody_new_in(
    canaries: Canaries,
    known: Logic,
    asker: Asker,
    clock: HandClock,
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    asker.vectors["openrouter"] = failed()
    look(canaries, known, asker)
    clock.advance(600)
    asker.vectors["runpod"] = failed()
    look(canaries, known, asker)

    assert canaries.wait(candidate("runpod"), call(by=known)) is None
    assert canaries.wait(candidate("openrouter"), call(by=known)) is not None


def test_a_new_reference_puts_everybody_to_the_test_again(
    canaries: Canaries,
    known: Logic,
    asker: Asker,
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    look(canaries, known, asker)
    other = Reference("bge-m3", TEXTS, 1024, np.roll(KNOWN, 5, axis=1).tobytes())
    changed = replace(known, references={"bge-m3": other})

    assert canaries.wait(candidate(), call(by=changed)) is not None
    look(canaries, changed, asker)
    assert canaries.wait(candidate(), call(by=changed)) is not None
    assert canaries.standings()[candidate().circuit] == "drifted"


def test_a_provider_that_hangs_keeps_no_other_out_and_is_asked_once_at_a_time(
    canaries: Canaries,
    known: Logic,
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    let_go = threading.Event()

    class Hanging(Asker):
        def attempt(self, call: Call, candidate: Candidate, deadline: Deadline) -> tuple[Answer, Reply]:
            if candidate.name == "runpod":
                assert let_go.wait(10)
            return super().attempt(call, candidate, deadline)

    asker = Hanging([candidate("runpod"), candidate("openrouter")])
    hung, well = canaries.look(known, asker)
    well.join(10)

    assert canaries.wait(candidate("openrouter"), call(by=known)) is None
    assert canaries.wait(candidate("runpod"), call(by=known)) is not None
    assert canaries.look(known, asker) == []
    let_go.set()
    hung.join(10)
    assert canaries.wait(candidate("runpod"), call(by=known)) is None


def test_an_edited_provider_is_no_longer_shown_as_it_was(
    canaries: Canaries, known: Logic, asker: Asker, candidate: Callable[..., Candidate]
) -> None:
    asker.vectors["runpod"] = -KNOWN
    look(canaries, known, asker)
    assert canaries.standings()[candidate().circuit] == "drifted"
    mended = parse_logic("models: {bge-m3: {providers: {runpod: BAAI/bge-m3}}}")

    look(canaries, known, Asker([candidate("runpod", by=mended)]))

    assert set(canaries.standings().values()) == {"proven"}


def test_a_space_whose_reference_is_gone_has_no_standings(
    canaries: Canaries, known: Logic, asker: Asker
) -> None:
    look(canaries, known, asker)

    look(canaries, DEFAULT_LOGIC, asker)

    assert canaries.standings() == {}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: "{", "Invalid JSON"),
        (lambda text: text.replace('"dim": 1024', '"dim": 1023'), "do not hold one row"),
        (lambda text: text.replace('"space": "bge-m3"', '"space": "other"'), "is of other"),
    ],
)
def test_a_damaged_reference_is_an_error_at_the_start(
    known: Logic, tmp_path: Path, damage: Callable[[str], str], reason: str
) -> None:
    path = tmp_path / "bge.json"
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")

    with pytest.raises(InvalidConfig, match=reason) as caught:
        parse_logic("spaces: {bge-m3: {reference: bge.json}}", folder=tmp_path)

    assert "spaces.bge-m3.reference" in caught.value.message
