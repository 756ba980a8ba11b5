"""An edit of logic.yaml takes effect without a restart, whatever is under way."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from api import create_app
from gifty_compute.clock import SystemClock
from gifty_compute.core import Core, build
from gifty_compute.settings import Settings
from tests.conftest import LOCAL_LOGIC
from tests.e2e.service import eventually
from tests.integration.conftest import API, OPS

SWAPS = 200


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "logic.yaml"
    path.write_text(LOCAL_LOGIC.read_text())
    return path


class LeapingClock(SystemClock):
    """The machine's own clock, and ahead of it by so many seconds."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@pytest.fixture
def clock() -> LeapingClock:
    return LeapingClock()


@pytest.fixture
def watching(settings: Settings, file: Path, clock: LeapingClock) -> Iterator[Core]:
    built = build(
        settings.model_copy(update={"logic_config_path": file}),
        Celery("test", set_as_current=False),
        clock=clock,
    )
    yield built
    built.close()


def test_an_edit_takes_effect_and_a_bad_one_is_shown(watching: Core, file: Path) -> None:
    client = create_app(watching).test_client()
    watching.start()
    body = {"external_names": ["Кофе в зёрнах"], "timeout_ms": 20_000}
    first = client.post("/v1/classify/categories", json=body, headers=API)

    file.write_text(
        LOCAL_LOGIC.read_text().replace(
            "  internal_categories:", "  min_confidence: 1.0\n  internal_categories:"
        )
    )
    eventually(
        lambda: watching.logic.file.classify.min_confidence == 1.0, within=10, what="the edit is in force"
    )
    second = client.post("/v1/classify/categories", json=body, headers=API)
    file.write_text("llm: [")
    eventually(lambda: watching.logic_watch.error, within=10, what="the bad edit is noticed")
    ready = client.get("/readyz")
    third = client.post("/v1/classify/categories", json=body, headers=API)

    assert first.json["mappings"][0]["internal_category_id"] == 8
    assert second.json["mappings"][0]["internal_category_id"] is None
    assert (ready.status_code, ready.json) == (
        200,
        {
            "status": "degraded",
            "parts": ["logic"],
            "reasons": ["logic: the file is refused; an older version stays in force"],
        },
    )
    assert third.json["mappings"][0]["internal_category_id"] is None
    versions = [answer.headers["X-Gifty-Config"] for answer in (first, second, third)]
    assert versions[0] != versions[1] == versions[2]


GUARDS = "callbacks: {allow_hosts: [hooks.example]}\nlimits: {requests_per_minute: 600}\n"


def test_a_version_that_loses_guards_is_shown_while_it_waits_and_then_taken(
    watching: Core, file: Path, clock: LeapingClock
) -> None:
    """P17: /readyz was ok and the guards were gone."""
    client = create_app(watching).test_client()
    file.write_text(LOCAL_LOGIC.read_text() + GUARDS)
    watching.logic_watch.look()
    guarded = client.get("/readyz").json

    file.write_text(LOCAL_LOGIC.read_text())
    watching.logic_watch.look()
    waiting, counted = client.get("/readyz").json, client.get("/metrics", headers=OPS).text
    hosts = watching.logic.file.callbacks.allow_hosts
    clock.ahead = 10.0
    watching.logic_watch.look()

    why = "logic: the file loses something; it is taken once it has not changed for 10 s"
    assert guarded == {"status": "ok"}
    assert waiting == {"status": "degraded", "parts": ["logic"], "reasons": [why]}
    assert "\ngifty_logic_waiting 1.0\n" in counted
    assert [str(host) for host in hosts] == ["hooks.example"]
    assert watching.logic.file.callbacks.allow_hosts == ()
    assert client.get("/readyz").json == {"status": "ok"}
    assert "\ngifty_logic_waiting 0.0\n" in client.get("/metrics", headers=OPS).text


def test_a_fifo_for_three_seconds_does_not_end_the_watch(watching: Core, file: Path) -> None:
    """P19: the file was never read again."""
    client = create_app(watching).test_client()
    watching.start()
    file.unlink()
    os.mkfifo(file)
    eventually(lambda: watching.logic_watch.error, within=10, what="the FIFO is noticed")
    stuck = client.get("/readyz").json
    file.unlink()

    file.write_text(LOCAL_LOGIC.read_text().replace("{id: 8,", "{id: 80,"))
    eventually(lambda: 80 in category_ids(watching), within=10, what="the good file is in force")

    why = "logic: the file cannot be read; an older version stays in force"
    assert stuck == {"status": "degraded", "parts": ["logic"], "reasons": [why]}
    eventually(lambda: watching.logic_watch.trouble is None, within=10, what="nothing is wrong any more")


def category_ids(core: Core) -> list[int]:
    return [one.id for one in core.logic.file.classify.internal_categories]


def test_200_swaps_half_of_them_broken_fail_no_request_and_mix_no_versions(
    watching: Core, file: Path
) -> None:
    app = create_app(watching)
    odd = LOCAL_LOGIC.read_text().replace("{id: 8,", "{id: 80,")
    seen: set[tuple[str, int]] = set()
    failed: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        client = app.test_client()
        body = {"external_names": ["Кофе в зёрнах"], "timeout_ms": 30_000}
        while not stop.is_set():
            answer = client.post("/v1/classify/categories", json=body, headers=API)
            if answer.status_code != 200:
                failed.append(answer.text)
                return
            seen.add((answer.headers["X-Gifty-Config"], answer.json["mappings"][0]["internal_category_id"]))

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    eventually(lambda: seen or failed, within=60, what="the first version answers")
    versions = set()
    for number in range(SWAPS // 4):
        for text in (LOCAL_LOGIC.read_text(), "llm: {", odd, f"nonsense: {number}"):
            file.write_text(text)
            watching.logic_watch.look()
            versions.add(watching.logic.version)
    eventually(lambda: len(seen) == 2 or failed, within=60, what="both versions answered")
    stop.set()
    for thread in asking:
        thread.join(60)

    assert failed == []
    assert len(versions) == 2
    assert len(seen) == 2  # each version gave its own id only
    assert {found for _, found in seen} == {8, 80}
    assert watching.logic_watch.rejected == SWAPS // 2
