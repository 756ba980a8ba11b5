"""Outcomes on disk: whole, private, and forgotten when they are answered."""

from __future__ import annotations

import logging
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from gifty_compute.errors import InvalidConfig, InvalidResult
from gifty_compute.perform.spool import Spool
from gifty_compute.wire import vectors
from gifty_compute.wire.task import Outcome


def outcome(**fields: object) -> Outcome:
    said = {"id": uuid4(), "attempt": 2, "status": "completed", "result": {"scores": [0.5]}, **fields}
    return Outcome.model_validate(said)


def test_what_is_kept_is_found_by_the_next_process(tmp_path: Path) -> None:
    kept = [outcome(), outcome(status="failed", result=None, error="ValueError: нет")]
    for one in kept:
        Spool(tmp_path).keep(one)

    assert sorted(Spool(tmp_path).found(), key=str) == sorted(kept, key=str)


def test_vectors_are_kept_as_they_are(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(2, 384)).astype(np.float32)

    Spool(tmp_path).keep(outcome(result={"embeddings": rows}))

    [found] = Spool(tmp_path).found()
    assert found.result is not None
    np.testing.assert_array_equal(vectors.decode(found.result["embeddings"]), rows)
    assert next(tmp_path.glob("*.json")).stat().st_size < 2 * rows.nbytes


def test_what_was_answered_is_forgotten(tmp_path: Path) -> None:
    spool, one = Spool(tmp_path), outcome()
    spool.keep(one)

    spool.forget(one.id)
    spool.forget(one.id)

    assert list(tmp_path.iterdir()) == []


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "new" / "spool")
    spool.keep(outcome())

    [file] = (tmp_path / "new" / "spool").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new" / "spool").stat().st_mode & 0o777 == 0o700


def test_a_file_that_holds_no_outcome_is_warned_of_and_keeps_nobody_from_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    spool, one = Spool(tmp_path), outcome()
    spool.keep(one)
    (tmp_path / "0.json").write_bytes(b'{"id": "half')

    assert list(spool.found()) == [one]
    assert "0.json holds no outcome" in caplog.text


def test_a_result_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidResult):
        Spool(tmp_path).keep(outcome(result={"scores": object()}))


def test_a_directory_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidConfig, match="--spool"):
        Spool(tmp_path / "file" / "spool")
