"""The one line of a worker that somebody watches."""

from __future__ import annotations

import sys
import threading
from random import Random
from types import ModuleType
from typing import Any, cast

import pytest

from gifty_compute.errors import InvalidConfig
from gifty_compute.perform import TaskSource, Tools
from gifty_compute.poll.duration import seconds_of
from gifty_compute.poll.loop import PollLoop
from gifty_compute.poll.progress import Progress, is_watched
from gifty_compute.wire.task import Holder, Want


def loop() -> PollLoop:
    tools = Tools(stop=threading.Event(), rng=Random(1))
    source = cast("TaskSource", None)
    return PollLoop(source, Holder(worker_id="kaggle-1"), Want(), cast("Any", None), tools)


def test_the_line_has_rate_tasks_lease_and_server_and_no_token() -> None:
    watched = loop()
    line = Progress(watched, "https://compute.example.org/gifty")

    assert line.said() == "no text yet | 0 tasks done | 0 in hand | no lease | compute.example.org"
    watched.pace.worked(2, 50)
    assert line.said().startswith("25.0 texts/s | 0 tasks done")


def test_a_log_file_gets_no_line_and_a_notebook_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert not is_watched()

    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    assert is_watched()


@pytest.mark.parametrize("written", ["", "11", "11x", "h", "-5m", "0s", "1h 30m", "10000d"])
def test_what_is_no_duration_is_refused_by_its_name(written: str) -> None:
    with pytest.raises(InvalidConfig, match="is not a duration like 11h30m"):
        seconds_of(written)
