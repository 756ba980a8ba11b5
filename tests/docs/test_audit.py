"""What CI makes of pip-audit's report: a known vulnerability fails it, being offline does not."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "audit"

SOUND = {"name": "flask", "version": "3.1.2", "vulns": []}
UNKNOWN = {"name": "amqp", "skip_reason": "Dependency not found on PyPI and could not be audited"}
BAD = {
    "name": "urllib3",
    "version": "2.2.0",
    "vulns": [{"id": "GHSA-34jh-p97f-mpxf", "fix_versions": ["2.2.2"], "aliases": [], "description": "…"}],
}


def verdict(*dependencies: dict[str, Any], why: str = "") -> tuple[str, int]:
    loader = SourceFileLoader("audit", str(SCRIPT))
    spec = spec_from_loader("audit", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    found: tuple[str, int] = module.verdict(list(dependencies), why)
    return found


def test_a_known_vulnerability_fails_and_names_the_version_that_mends_it() -> None:
    said, status = verdict(SOUND, BAD, UNKNOWN)

    assert status == 1
    assert "urllib3 2.2.0: GHSA-34jh-p97f-mpxf, mended in 2.2.2" in said


def test_packages_that_could_not_be_looked_up_are_counted() -> None:
    assert verdict(SOUND, UNKNOWN) == (
        "audit: no known vulnerability in 1 packages; 1 could not be looked up",
        0,
    )


def test_where_nobody_could_be_asked_that_is_said_in_a_line_and_is_no_failure() -> None:
    asked_in_vain, offline = verdict(UNKNOWN), verdict(why="no route to host")

    assert asked_in_vain[1] == offline[1] == 0
    assert asked_in_vain[0].startswith("audit: skipped, ")
    assert offline[0] == "audit: skipped, the advisory service cannot be asked (no route to host)"


def test_offline_it_is_skipped() -> None:
    """With a proxy that refuses, and nothing kept from earlier runs: not even pip-audit can be had."""
    nobody = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "UV_NO_CACHE": "1"}

    told = subprocess.run(
        [sys.executable, SCRIPT],
        env={**os.environ, **nobody, "UV_HTTP_RETRIES": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("audit: skipped, the advisory service cannot be asked (")
    assert told.stdout.count("\n") == 1
