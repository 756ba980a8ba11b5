"""The logic in force follows its file, and only its good versions."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.watch import LogicWatch

GOOD = "leases: {seconds: 30}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "logic.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def watch(file: Path) -> LogicWatch:
    return LogicWatch(file)


def test_a_good_change_is_taken_over_as_a_whole(watch: LogicWatch, file: Path) -> None:
    before = watch.current

    file.write_text("leases: {seconds: 60}")
    watch.look()

    assert watch.current.file.leases.seconds == 60
    assert before.file.leases.seconds == 30
    assert watch.current.version != before.version


def test_a_file_that_is_renamed_into_place_is_seen(watch: LogicWatch, file: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.yaml"
    new.write_text("leases: {seconds: 45}")

    new.rename(file)
    watch.look()

    assert watch.current.file.leases.seconds == 45


@pytest.mark.parametrize("bad", ["leases: {seconds: no}", "{", "nonsense: 1", "spaces: {bge-m3: {dim: 2}}"])
def test_a_bad_change_is_counted_logged_once_and_changes_nothing(
    watch: LogicWatch, file: Path, caplog: pytest.LogCaptureFixture, bad: str
) -> None:
    before = watch.current
    file.write_text(bad)

    with caplog.at_level(logging.ERROR):
        watch.look()
        watch.look()

    assert watch.current is before
    assert watch.rejected == 1
    assert len(caplog.records) == 1
    assert str(file) in str(watch.error)


@pytest.mark.parametrize(
    "bad", ["[" * 2000, "a: !!int ''", "a: !!bool x", "a: !!timestamp x", "llm: {model_fast: ''}"]
)
def test_whatever_a_bad_file_does_to_the_yaml_library_the_next_good_one_counts(
    watch: LogicWatch, file: Path, bad: str
) -> None:
    file.write_text(bad)
    watch.look()
    rejected = watch.error

    file.write_text("leases: {seconds: 60}")
    watch.look()

    assert str(file) in str(rejected)
    assert (watch.current.file.leases.seconds, watch.error) == (60, None)


def test_a_fault_of_ours_does_not_end_the_watch(
    watch: LogicWatch, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a line that nobody tried")

    file.write_text("leases: {seconds: 60}")
    with monkeypatch.context() as patched:
        patched.setattr("gifty_compute.logic.watch.parse_logic", fail)
        watch.look()
        watch.look()
    broken = watch.error

    file.write_text("leases: {seconds: 61}")
    watch.look()

    assert (watch.rejected, watch.error) == (1, None)
    assert "AssertionError" in str(broken)
    assert watch.current.file.leases.seconds == 61


def test_a_file_that_vanishes_changes_nothing_until_it_is_back(watch: LogicWatch, file: Path) -> None:
    before = watch.current
    file.unlink()
    watch.look()
    watch.look()
    vanished = (watch.current is before, watch.rejected, watch.error)

    file.write_text(GOOD)
    watch.look()

    assert vanished[:2] == (True, 1)
    assert "cannot be read" in str(vanished[2])
    assert watch.error is None
    assert watch.current.version == before.version


def test_going_back_to_the_version_in_force_mends_it(watch: LogicWatch, file: Path) -> None:
    file.write_text("{")
    watch.look()

    file.write_text(GOOD)
    watch.look()

    assert watch.error is None


@pytest.mark.parametrize("moment", ["", "leases: {sec", None], ids=["empty", "half", "gone"])
def test_a_file_that_is_being_written_is_left_alone_until_it_stays(
    watch: LogicWatch, file: Path, monkeypatch: pytest.MonkeyPatch, moment: str | None
) -> None:
    """An empty file is good in itself."""
    if moment is None:
        file.unlink()
    else:
        file.write_text(moment)

    def write_meanwhile(seconds: float) -> bool:
        file.write_text("leases: {seconds: 60}")
        return False

    before = watch.current
    monkeypatch.setattr(watch._stop, "wait", write_meanwhile)
    watch.look_if_settled()
    assert (watch.current, watch.rejected) == (before, 0)
    watch.look_if_settled()

    assert (watch.current.file.leases.seconds, watch.rejected) == (60, 0)


def test_a_change_that_stays_is_taken_over_with_the_first_look(watch: LogicWatch, file: Path) -> None:
    file.write_text("leases: {seconds: 60}")

    watch.look_if_settled()

    assert watch.current.file.leases.seconds == 60


def test_the_version_in_force_is_logged_at_the_start(
    watch: LogicWatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        watch.start()
        watch.stop()

    assert f"logic {watch.current.version} is in force" in caplog.text


def test_a_foreign_switch_is_warned_of_once_for_each_version(
    watch: LogicWatch, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """F1."""
    file.write_text("leases: {seconds: 30}\nfeatures: {enable_ab_testing: true}")

    with caplog.at_level(logging.WARNING):
        watch.look()
        watch.look()

    assert [record.getMessage() for record in caplog.records] == [
        f"{file}: features.enable_ab_testing: not read by gifty-compute, carried through as it is"
    ]


def test_a_space_keeps_its_name_only_as_it_is(watch: LogicWatch, file: Path) -> None:
    space = "{dim: 512, revision: x, pooling: cls, normalized: true, quantization: none}"
    file.write_text(f"spaces: {{bge-m3: {space}}}")

    watch.look()

    assert "new name" in str(watch.error)


def test_the_first_version_must_be_good(file: Path) -> None:
    file.write_text("{")

    with pytest.raises(InvalidConfig):
        LogicWatch(file)
