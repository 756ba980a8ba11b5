"""docker-compose.yml against the schema that the compose project publishes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def judge(compose: Path) -> subprocess.CompletedProcess[str]:
    judging = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    return subprocess.run([*judging, str(compose)], capture_output=True, text=True, timeout=60)


def test_compose_fits_the_published_schema() -> None:
    verdict = judge(ROOT / "docker-compose.yml")

    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_the_schema_catches_a_misspelt_key(tmp_path: Path) -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(text.replace("stop_grace_period", "stop_grace"), encoding="utf-8")

    verdict = judge(broken)

    assert verdict.returncode == 1
    assert "stop_grace" in verdict.stdout
