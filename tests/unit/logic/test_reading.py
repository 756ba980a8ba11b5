"""Files are read within bounds: of kind, size and time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.contents import MOST_TEXT_BYTES
from gifty_compute.logic.reading import BoundedReads, read_plain_file
from gifty_compute.logic.source import read_logic


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What a hanging read waits for; set in the end, so that its thread ends."""
    event = threading.Event()
    yield event
    event.set()


def test_a_plain_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 200_000)

    assert read_plain_file(path, 200_000) == b"x" * 200_000


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "logic.yaml"
    path.write_bytes(b"#" * (MOST_TEXT_BYTES + 1))

    with pytest.raises(InvalidConfig, match=f"larger than {MOST_TEXT_BYTES} bytes"):
        read_logic(path)


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    """P19. It has no writer, so opening it would wait for ever."""
    path = tmp_path / "logic.yaml"
    os.mkfifo(path)

    with pytest.raises(InvalidConfig, match="it is not a regular file"):
        read_plain_file(path, 10)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/tmp"])
def test_a_device_or_directory_is_refused(path: str) -> None:
    with pytest.raises(InvalidConfig, match="it is not a regular file"):
        read_plain_file(Path(path), 10)


def test_a_fifo_that_replaces_the_file_while_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, stat = tmp_path / "logic.yaml", os.stat
    path.touch()

    def stat_and_replace(name: Path) -> os.stat_result:
        found = stat(name)
        path.unlink()
        os.mkfifo(path)
        return found

    with monkeypatch.context() as patched:
        patched.setattr("gifty_compute.logic.reading.os.stat", stat_and_replace)
        with pytest.raises(InvalidConfig, match="it is not a regular file"):
            read_plain_file(path, 10)


def test_a_read_that_does_not_return_is_given_up(release: threading.Event) -> None:
    """A mount that does not answer."""
    reads = BoundedReads(0.01)

    with pytest.raises(InvalidConfig, match=r"^logic\.yaml: cannot be read within 0\.01 s"):
        reads.run(release.wait, Path("logic.yaml"))


def test_while_one_read_hangs_no_other_is_begun(release: threading.Event) -> None:
    reads, begun = BoundedReads(0.01), []

    for _ in range(3):
        with pytest.raises(InvalidConfig, match="cannot be read within"):
            reads.run(lambda: begun.append(1) or release.wait(), Path("logic.yaml"))

    assert begun == [1]


def test_after_a_hanging_read_has_returned_the_next_one_is_made(release: threading.Event) -> None:
    reads = BoundedReads(5)
    reads._seconds = 0.01
    with pytest.raises(InvalidConfig):
        reads.run(release.wait, Path("logic.yaml"))
    hanging = reads._hanging
    assert hanging is not None

    release.set()
    hanging.join(10)
    reads._seconds = 5

    assert reads.run(lambda: "read", Path("logic.yaml")) == "read"


def test_what_a_read_raises_is_raised_to_its_caller(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="there is no such file"):
        BoundedReads().run(lambda: read_plain_file(tmp_path / "none", 10), tmp_path)


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="cannot be read"):
        read_plain_file(Path("a\0b"), 10)
