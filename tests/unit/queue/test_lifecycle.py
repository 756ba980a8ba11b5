"""The state machine by itself: what leads where, and that nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifty_compute.errors import Conflict
from gifty_compute.queue.lifecycle import VERBS, State, drawing
from gifty_compute.wire.task import ENDS

ARCHITECTURE = Path(__file__).parents[3] / "docs/architecture.md"


@given(st.lists(st.sampled_from(sorted(VERBS)), max_size=40), st.integers(1, 20))
def test_every_walk_stays_within_what_the_verbs_promise(names: list[str], max_attempts: int) -> None:
    state = State(max_attempts=max_attempts)
    for name in names:
        try:
            after = VERBS[name](state)
        except Conflict:
            continue
        assert after.status in VERBS[name].after
        assert after.attempt == state.attempt + (name.startswith("claim"))
        assert after.generation == state.generation + (name == "retry")
        assert (after.failures < max_attempts) or after.status in ENDS
        assert not (after.status == "processing" and after.suspect and after.in_company)
        state = after


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
@pytest.mark.parametrize("name", sorted(set(VERBS) - {"retry"}))
def test_an_end_is_an_end_for_all_but_retry(status: str, name: str) -> None:
    with pytest.raises(Conflict):
        VERBS[name](State(status=status))


def test_a_lease_that_runs_out_in_company_counts_for_nobody() -> None:
    state = VERBS["sweep"](VERBS["claim in company"](State()))

    assert (state.status, state.failures, state.suspect) == ("pending", 0, True)


def test_a_lease_that_runs_out_alone_counts() -> None:
    state = VERBS["sweep"](VERBS["claim"](State(max_attempts=1)))

    assert (state.status, state.failures) == ("failed", 1)


def test_the_drawing_in_the_docs_is_this_state_machine() -> None:
    assert drawing() in ARCHITECTURE.read_text(encoding="utf-8")
