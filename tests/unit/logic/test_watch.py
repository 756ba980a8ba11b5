"""The logic in force follows its file, and only its good versions."""

from __future__ import annotations

import logging
import os
import struct
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.reading import BoundedReads
from gifty_compute.logic.reference import Reference, write_reference
from gifty_compute.logic.watch import QUIET_SECONDS, LogicWatch
from tests.unit.conftest import HandClock
from tests.unit.logic.files import WHOLE

GOOD = "leases: {seconds: 30}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "logic.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def watch(file: Path, clock: HandClock) -> LogicWatch:
    return LogicWatch(file, clock=clock)


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
        patched.setattr("gifty_compute.logic.watch.logic_of", fail)
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


# -- a version that loses something --------------------------------------------------------------------------


@pytest.fixture
def whole(file: Path, clock: HandClock) -> LogicWatch:
    """A watch over a file with a guard of each kind."""
    file.write_text(WHOLE)
    return LogicWatch(file, clock=clock)


def test_what_loses_something_is_taken_after_ten_quiet_seconds_and_logged_as_such(
    whole: LogicWatch, file: Path, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    """P17: the file cut before `callbacks:`."""
    before = whole.current
    file.write_text(WHOLE.partition("callbacks:")[0])

    with caplog.at_level(logging.WARNING):
        whole.look()
        clock.advance(QUIET_SECONDS - 0.1)
        whole.look()
        waiting = (whole.current, whole.waiting, whole.trouble, whole.error, whole.rejected)
        clock.advance(0.1)
        whole.look()

    sentence = "the file loses something; it is taken once it has not changed for 10 s"
    assert waiting == (before, "callbacks, limits", sentence, None, 0)
    assert whole.current.file.callbacks.allow_hosts == ()
    assert (whole.waiting, whole.trouble) == (None, None)
    assert [record.getMessage() for record in caplog.records] == [
        f"{file}: it is taken once it has not changed for 10 s, since it loses: callbacks, limits",
        f"{file}: taken after 10 s although it loses: callbacks, limits",
    ]


def test_a_change_within_the_ten_seconds_begins_them_anew(
    whole: LogicWatch, file: Path, clock: HandClock
) -> None:
    before, cut = whole.current, WHOLE.partition("callbacks:")[0]
    file.write_text(cut)
    whole.look()
    clock.advance(9)

    file.write_text(f"{cut}# still writing\n")
    whole.look()
    clock.advance(9)
    whole.look()

    assert whole.current is before
    assert whole.waiting == "callbacks, limits"


def test_a_file_that_vanishes_meanwhile_begins_them_anew(
    whole: LogicWatch, file: Path, clock: HandClock
) -> None:
    before, cut = whole.current, WHOLE.partition("callbacks:")[0]
    file.write_text(cut)
    whole.look()
    file.unlink()
    whole.look()
    clock.advance(20)

    file.write_text(cut)
    whole.look()

    assert whole.current is before
    assert whole.waiting == "callbacks, limits"


def test_a_bad_version_meanwhile_replaces_the_one_that_waits(
    whole: LogicWatch, file: Path, clock: HandClock
) -> None:
    file.write_text(WHOLE.partition("callbacks:")[0])
    whole.look()

    file.write_text("{")
    whole.look()
    clock.advance(20)
    whole.look()

    assert whole.waiting is None
    assert "not YAML" in str(whole.error)
    assert whole.trouble == "the file is refused; an older version stays in force"


def test_the_rest_of_a_file_that_was_written_in_two_halves_is_taken_at_once(
    whole: LogicWatch, file: Path, clock: HandClock
) -> None:
    """A writer that pauses."""
    new = WHOLE.replace("requests_per_minute: 60", "requests_per_minute: 30")
    file.write_text(new[:400])
    whole.look()
    clock.advance(5)
    half = whole.current.file.callbacks

    file.write_text(new)
    whole.look()

    assert half.allow_hosts == whole.current.file.callbacks.allow_hosts
    assert whole.current.file.limits.requests_per_minute == 30
    assert whole.trouble is None


@pytest.mark.parametrize("text", ["", "# moved\n", "---\n", "null\n", "{}\n", "\ufeff"])
def test_an_empty_document_changes_nothing_however_long_it_stays(
    whole: LogicWatch, file: Path, clock: HandClock, text: str
) -> None:
    """P17."""
    before = whole.current
    file.write_text(text, encoding="utf-8")

    whole.look()
    clock.advance(3600)
    whole.look()

    assert whole.current is before
    assert "says nothing" in str(whole.error)


def test_a_second_section_of_a_name_changes_nothing(whole: LogicWatch, file: Path) -> None:
    """P18: it moved the vectors to another space."""
    file.write_text(f"{WHOLE}llm: {{model_embedding: bge-m3, embedding_provider: runpod}}\n")

    whole.look()

    assert whole.current.model("embedding", None).space == "multilingual-e5-small-q4"
    assert f"{file}: llm: is there twice, in line 1 and in line 19" in str(whole.error)


def test_a_fifo_in_the_files_place_degrades_and_the_next_file_counts(whole: LogicWatch, file: Path) -> None:
    """P19."""
    file.unlink()
    os.mkfifo(file)
    whole.look()
    stuck = (whole.error, whole.trouble)
    file.unlink()

    file.write_text(WHOLE.replace("requests_per_minute: 60", "requests_per_minute: 30"))
    whole.look()

    assert "it is not a regular file" in str(stuck[0])
    assert stuck[1] == "the file cannot be read; an older version stays in force"
    assert whole.current.file.limits.requests_per_minute == 30
    assert whole.trouble is None


def test_a_mount_that_hangs_degrades_and_does_not_end_the_watch(
    file: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P19."""
    reads, release = BoundedReads(0.05), threading.Event()
    watch = LogicWatch(file, clock=clock, reads=reads)

    with monkeypatch.context() as patched:
        patched.setattr("gifty_compute.logic.contents.read_plain_file", lambda *_: release.wait(60))
        watch.look()
        watch.look()
    stuck = (watch.error, watch.trouble, watch.rejected)
    hanging = reads._hanging
    release.set()
    assert hanging is not None
    hanging.join(60)
    file.write_text("leases: {seconds: 60}")
    watch.look()

    assert "cannot be read within 0.05 s" in str(stuck[0])
    assert stuck[1:] == ("the file cannot be read; an older version stays in force", 1)
    assert (watch.current.file.leases.seconds, watch.trouble) == (60, None)


# -- the whole file, and the end mark ------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["end: true\n", "version: 7\n", "version: 2026-11b\n"])
def test_once_a_file_had_an_end_mark_one_without_it_is_never_taken(
    whole: LogicWatch, file: Path, clock: HandClock, mark: str
) -> None:
    file.write_text(WHOLE + mark)
    whole.look()
    marked = whole.current

    file.write_text(WHOLE)
    whole.look()
    clock.advance(3600)
    whole.look()

    assert marked.document.end_mark == mark.partition(":")[0]
    assert whole.current is marked
    assert "`end: true` (or `version: …`) is missing" in str(whole.error)


def test_one_end_mark_may_replace_the_other(whole: LogicWatch, file: Path) -> None:
    file.write_text(f"{WHOLE}end: true\n")
    whole.look()

    file.write_text(f"{WHOLE}version: 8\n")
    whole.look()

    assert (whole.current.file.version, whole.trouble) == (8, None)


@pytest.mark.parametrize("last", ["end: true\n", "version: v12\n"])
def test_no_beginning_of_a_file_with_an_end_mark_changes_what_is_in_force(
    whole: LogicWatch, file: Path, clock: HandClock, last: str
) -> None:
    """Not even after ten seconds; only the label itself may be cut."""
    file.write_text(WHOLE + last)
    whole.look()

    for end in range(0, len(WHOLE) + 1, 7):
        file.write_text(WHOLE[:end])
        whole.look()
        clock.advance(60)
        whole.look()

        assert whole.current.document.text == WHOLE + last


# -- files that the file names -------------------------------------------------------------------------------


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "spaces" / "bge-m3.json"
    vectors = b"".join(struct.pack("<f", 1.0) for _ in range(1024))
    write_reference(
        path, Reference("bge-m3", ("чай",), 1024, vectors), provider="test", recorded_at="2026-11-01"
    )
    return path


@pytest.fixture
def named(file: Path, clock: HandClock, reference: Path) -> LogicWatch:
    """A watch over a file that names another."""
    file.write_text("spaces: {bge-m3: {reference: spaces/bge-m3.json}}\n")
    return LogicWatch(file, clock=clock)


def test_a_bad_change_of_a_named_file_is_noticed_at_once(named: LogicWatch, reference: Path) -> None:
    """P20: it was noticed at the next edit of logic.yaml."""
    before, good = named.current, reference.read_bytes()
    reference.write_text("{}")
    named.look()
    noticed = (named.current, named.error)

    reference.write_bytes(good)
    named.look()

    assert noticed[0] is before
    assert "spaces.bge-m3.reference: spaces/bge-m3.json: space: Field required" in str(noticed[1])
    assert named.error is None
    assert named.current.version == before.version


def test_a_good_change_of_a_named_file_is_a_new_version(named: LogicWatch, reference: Path) -> None:
    before = named.current
    reference.write_text(reference.read_text().replace("чай", "кофе"))

    named.look()

    assert named.current.references["bge-m3"].texts == ("кофе",)
    assert named.current.version != before.version


def test_a_named_file_that_is_gone_or_a_fifo_is_noticed(named: LogicWatch, reference: Path) -> None:
    reference.unlink()
    named.look()
    gone = named.error
    os.mkfifo(reference)
    named.look()

    assert "there is no such file" in str(gone)
    assert "it is not a regular file" in str(named.error)
    assert named.rejected == 2


# -- properties: whatever is done to the file ----------------------------------------------------------------


def guards(watch: LogicWatch) -> tuple[object, ...]:
    """What WHOLE guards, read off without the code under test."""
    file, logic = watch.current.file, watch.current
    return (
        file.callbacks.allow_hosts,
        file.limits.requests_per_minute,
        file.providers["groq"].budget_usd_per_day,
        file.features.use_runpod_for_high_priority,
        logic.model("embedding", None).space,
        [offer.provider for offer in logic.offers("rerank", logic.model("rerank", None))],
    )


@pytest.mark.parametrize("first", range(0, len(WHOLE), 64))
def test_no_cut_of_the_file_by_a_writer_that_pauses_puts_a_loosened_guard_in_force(
    whole: LogicWatch, file: Path, clock: HandClock, first: int
) -> None:
    """P17: every prefix, by line and so by byte; each stays for just under ten seconds."""
    kept = guards(whole)

    for cut in range(first, min(first + 64, len(WHOLE))):
        file.write_text(WHOLE[:cut])
        whole.look()
        clock.advance(QUIET_SECONDS - 0.1)
        whole.look()
        assert guards(whole) == kept, WHOLE[:cut][-30:]
    file.write_text(WHOLE)
    whole.look()

    assert guards(whole) == kept
    assert whole.trouble is None


LINES = WHOLE.splitlines(keepends=True)
edits = st.lists(
    st.one_of(
        st.tuples(st.just("cut"), st.integers(0, len(WHOLE))),
        st.tuples(st.just("without"), st.integers(0, 17)),
        st.tuples(st.just("twice"), st.integers(0, 17)),
        st.tuples(st.just("end"), st.integers(0, 17)),
        st.tuples(st.just("whole"), st.just(0)),
        st.tuples(st.just("pass"), st.integers(0, 9)),
    ),
    max_size=8,
)


def edited(what: str, at: int) -> str:
    if what == "cut":
        return WHOLE[:at]
    lines = {
        "without": LINES[:at] + LINES[at + 1 :],
        "twice": [*LINES[:at], LINES[at], *LINES[at:]],
        "end": LINES[at:],
        "whole": LINES,
    }
    return "".join(lines[what])


@given(edits)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_within_ten_seconds_of_a_change_no_guard_is_looser_than_before(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """P17, P18: random cuts, doubled and missing lines, with less than ten quiet seconds between them."""
    file = tmp_path_factory.mktemp("logic") / "logic.yaml"
    file.write_text(WHOLE)
    clock = HandClock()
    watch = LogicWatch(file, clock=clock)
    kept, quiet, text = guards(watch), 0.0, WHOLE

    for what, at in steps:
        if what == "pass":
            at = min(at, int(QUIET_SECONDS - 0.1 - quiet))
            clock.advance(at)
            quiet += at
        elif edited(what, at) != text:
            text, quiet = edited(what, at), 0.0
            file.write_text(text)
        watch.look()
        assert guards(watch) == kept
