"""How long a paid call may take: an answer that is given up is paid all the same."""

from __future__ import annotations

from typing import Any

import pytest

from gifty_compute.logic.file import KindName
from gifty_compute.logic.source import DEFAULT_LOGIC
from gifty_compute.paid.worker import call_seconds


@pytest.mark.parametrize(
    ("kind", "payload", "least", "most"),
    [
        ("embedding", {"texts": ["чай"]}, 60, 60),
        ("llm", {"messages": [{"role": "user", "content": "чай"}], "max_tokens": 8000}, 200, 600),
        ("llm", {"messages": [{"role": "user", "content": "чай"}], "max_tokens": 10**6}, 600, 600),
    ],
)
def test_a_paid_call_has_the_time_that_its_work_needs(
    kind: KindName, payload: dict[str, Any], least: float, most: float
) -> None:
    """K4: a minute for all work, however long its answer may be."""
    logic = DEFAULT_LOGIC
    offer = logic.offers(kind, logic.model(kind, None))[0]

    assert least <= call_seconds(logic, offer, payload) <= most
