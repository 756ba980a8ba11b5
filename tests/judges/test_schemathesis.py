"""Schemathesis makes calls of /openapi.json, valid and not, alone and in sequences, and judges each answer.

SOAK, from 0 to 1, is how much of the long run is done: at 1 it is more than 10,000 calls.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gifty_compute.embedded.valkey import Valkey
from tests.conftest import ROOT
from tests.facade import RunningFacade, running_facade
from tests.fakes.server import FakeProviders

LOGIC = """
llm: {default_provider: anthropic, embedding_provider: local, model_embedding: multilingual-e5-small}
rerank: {model: multilingual-e5-small, providers: [local]}
classify: {model: multilingual-e5-small, providers: [local]}
score: {providers: [intelligence_api]}
callbacks: {allow_hosts: [127.0.0.1]}
"""
# Which tokens are valid where; and what the document cannot say of rules, as a status that is expected, too:
# 422 for a value that only logic.yaml or another field forbids, 400 for JSON Lines that are none, 504 for a
# timeout_ms of a millisecond.
CONFIG = """
continue-on-failure = true
request-timeout = 70
[phases.stateful]
inference.algorithms = []  # our links are to be enough
generation.max-examples = {sequences}
[checks]
not_a_server_error.enabled = false  # errors_are_the_contracts is stricter
positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "406", "409", "415", "422", "502", "504"]
# One bad outcome among many is a verdict in a 200: it must not spoil the others.
[[operations]]
include-path = "/internal/workers/results"
checks.negative_data_rejection.enabled = false
[auth.openapi]
api.bearer = "api-token"
internal.bearer = "internal-token"
internalHeader.api_key = "internal-token"
ops.bearer = "ops-token"
operator.bearer = "ops-token"
"""
EXAMPLES, EXAMPLES_OF_A_SOAK = 20, 300
SOAK = float(os.environ.get("SOAK", "0"))


@pytest.fixture
def facade(database_url: str, valkey: Valkey, tmp_path: Path) -> Iterator[RunningFacade]:
    (tmp_path / "logic.yaml").write_text(LOGIC, encoding="utf-8")
    with FakeProviders() as fake:
        environ = {
            "DATABASE_URL": database_url,
            "REDIS_URL": valkey.url,
            "LOGIC_CONFIG_PATH": str(tmp_path / "logic.yaml"),
            "CALLBACK_SECRET": "whsec_" + "A" * 43 + "=",
            **fake.environ("anthropic", "intelligence_api"),
        }
        with running_facade(tmp_path, environ) as running:
            yield running


@pytest.mark.timeout(600 + 7200 * SOAK)
def test_every_operation_keeps_to_its_document_and_to_the_contracts_errors(
    facade: RunningFacade, tmp_path: Path
) -> None:
    config = tmp_path / "schemathesis.toml"
    examples = round(EXAMPLES + (EXAMPLES_OF_A_SOAK - EXAMPLES) * SOAK)
    config.write_text(CONFIG.replace("{sequences}", str(examples * 2)), encoding="utf-8")
    options = [
        "--workers",
        "1",
        "--seed",
        "1",
        "--suppress-health-check",
        "all",
        "--max-examples",
        str(examples),
    ]

    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "--config-file",
            config,
            "run",
            *options,
            f"{facade.url}/openapi.json",
        ],
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.judges.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"Operations: +(\d+) selected / \1 total", ended.stdout)
    [followed] = re.findall(r"API Links: +(\d+) covered", ended.stdout)
    assert int(followed) >= 3
    [made] = re.findall(r"(\d+) generated", ended.stdout)
    print(f"{made} calls")
    assert int(made) >= (10_000 if SOAK == 1 else 1_500)
    assert '"level": "error"' not in facade.log.read_text(encoding="utf-8")
