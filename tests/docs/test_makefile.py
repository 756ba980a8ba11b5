"""What `make` says where Python is missing, too old or without venv, and what it lists."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = [
    *(
        "help",
        "install",
        "run",
        "test",
        "check",
        "chaos",
        "soak",
        "day",
        "torch",
        "judges",
        "wheel",
        "lock",
        "clean",
    ),
]

OLD = "echo 3.9"
WITHOUT_ENSUREPIP = f"""
case "$*" in
*ensurepip*) exit 1 ;;
*) exec "{sys.executable}" "$@" ;;
esac
"""
VENV_FAILS = f"""
case "$*" in
*"-m venv"*) mkdir -p .venv/bin; echo "no space left" >&2; exit 1 ;;
*) exec "{sys.executable}" "$@" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a space and Cyrillic in its name that holds what `make install` reads."""
    folder = tmp_path / "Мои подарки"
    folder.mkdir()
    for name in ("Makefile", "setup.cfg"):
        shutil.copy(ROOT / name, folder)
    return folder


def make(checkout: Path, *arguments: str, python3: str | None = None) -> tuple[int, list[str]]:
    """Runs make with nothing on PATH but the shell's tools and `python3`: exit code, lines said."""
    tools = checkout / "bin"
    tools.mkdir()
    for name in ("sh", "test", "mkdir", "rm", "tail", "awk", "flock"):
        (tools / name).symlink_to(_found(name))
    if python3 is not None:
        (tools / "python3").write_text(f"#!/bin/sh\n{python3}\n")
        (tools / "python3").chmod(0o755)
    ended = subprocess.run(
        [_found("make"), *arguments],
        cwd=checkout,
        env={"PATH": str(tools), "HOME": str(checkout)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    said = [line for line in ended.stderr.splitlines() if not line.startswith("make: ***")]
    return ended.returncode, said or ended.stdout.splitlines()


def _found(name: str) -> str:
    path = shutil.which(name)
    assert path is not None, f"this test needs {name} on PATH"
    return path


def test_make_alone_lists_every_target(checkout: Path) -> None:
    code, lines = make(checkout)

    assert code == 0
    assert [line.split()[1] for line in lines[:-1]] == TARGETS


def test_a_missing_python_is_one_sentence_with_the_command_that_brings_it(checkout: Path) -> None:
    code, lines = make(checkout, "install")

    assert code == 2
    assert lines == [
        "gifty-compute needs Python 3.11 or newer, and no python3 runs here: "
        "sudo apt-get install python3-venv"
    ]


def test_an_old_python_is_one_sentence_with_its_version(checkout: Path) -> None:
    code, lines = make(checkout, "install", python3=OLD)

    assert code == 2
    assert lines == [
        "gifty-compute needs Python 3.11 or newer, and python3 is 3.9: "
        "sudo apt-get install python3.11-venv, then make PYTHON=python3.11"
    ]


def test_a_missing_ensurepip_is_one_sentence_with_debians_package(checkout: Path) -> None:
    code, lines = make(checkout, "install", python3=WITHOUT_ENSUREPIP)

    assert code == 2
    assert lines == ["gifty-compute needs Python's venv: sudo apt-get install python3-venv"]


def test_a_venv_that_fails_says_why_and_leaves_nothing_behind(checkout: Path) -> None:
    code, lines = make(checkout, "install", python3=VENV_FAILS)

    assert code == 2
    assert lines == [
        "gifty-compute needs Python's venv, and python3 -m venv failed (no space left): "
        "sudo apt-get install python3-venv"
    ]
    assert not (checkout / ".venv").exists()


def test_a_chosen_python_is_the_one_that_is_asked_for(checkout: Path) -> None:
    code, lines = make(checkout, "install", "PYTHON=python3.12")

    assert code == 2
    assert lines == [
        "gifty-compute needs Python 3.11 or newer, and no python3.12 runs here: "
        "sudo apt-get install python3.12-venv"
    ]
