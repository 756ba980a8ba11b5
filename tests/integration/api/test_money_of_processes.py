"""A facade process that is told to stop leaves no dollar unwritten."""

from __future__ import annotations

from pathlib import Path

import requests

from gifty_compute.clock import SystemClock
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.queue.database import Database
from gifty_compute.queue.spending import SpendingTable
from tests.facade import running_facade
from tests.fakes.server import FakeProviders
from tests.integration.conftest import API

LOGIC = """
llm: {default_provider: groq}
providers: {groq: {budget_usd_per_day: 1, price: {input_per_million: 10, output_per_million: 100}}}
"""


def test_what_a_facade_spent_right_before_it_was_told_to_stop_is_in_the_table(
    database: Database, database_url: str, valkey: Valkey, fake: FakeProviders, tmp_path: Path
) -> None:
    (tmp_path / "logic.yaml").write_text(LOGIC, encoding="utf-8")
    environ = {
        **fake.environ("groq"),
        "DATABASE_URL": database_url,
        "REDIS_URL": valkey.url,
        "LOGIC_CONFIG_PATH": str(tmp_path / "logic.yaml"),
    }
    body = {"model": "fast", "messages": [{"role": "user", "content": "привет"}]}

    with running_facade(tmp_path, environ) as facade:
        for _ in range(5):
            answer = requests.post(f"{facade.url}/v1/chat/completions", json=body, headers=API, timeout=30)
            assert answer.status_code == 200, answer.text

    [(line, amount)] = SpendingTable(database).since(SystemClock().now().date())
    assert (line.provider, line.client, amount.answers) == ("groq", "backend", 5)
