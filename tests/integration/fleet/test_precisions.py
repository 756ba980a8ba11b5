"""/metrics says in which numbers the poll workers compute: a fallback from int8 can be alarmed on."""

from __future__ import annotations

import re

from flask.testing import FlaskClient

from gifty_compute.fleet.fleet import _MOST_PRECISIONS
from tests.integration.conftest import OPS

INTERNAL = {"Authorization": "Bearer internal-token"}


def beat(client: FlaskClient, name: str, precision: str) -> None:
    body = {"worker_id": name, "tasks": [], "info": {"precision": [precision]}}
    answer = client.post("/internal/workers/heartbeat", json=body, headers=INTERNAL)
    assert answer.status_code == 200, answer.text


def counted(client: FlaskClient) -> dict[str, float]:
    text = client.get("/metrics", headers=OPS).text
    found = re.findall(r'^gifty_fleet_workers{precision="(.*)"} (\S+)$', text, re.M)
    return {precision: float(count) for precision, count in found}


def test_workers_are_counted_by_what_they_compute_in(client: FlaskClient) -> None:
    for name, precision in (("a", "int8"), ("b", "int8"), ("c", "fp32: int8 failed its self-test")):
        beat(client, name, precision)

    assert counted(client) == {"int8": 2.0, "fp32: int8 failed its self-test": 1.0}


def test_words_of_the_workers_own_do_not_swell_the_metrics(client: FlaskClient) -> None:
    for number in range(3 * _MOST_PRECISIONS):
        beat(client, f"w-{number}", f"mine-{number}")

    found = counted(client)

    assert len(found) == _MOST_PRECISIONS + 1
    assert found["other"] == 2 * _MOST_PRECISIONS
