"""Short private directories for Unix sockets, whose paths may not exceed 107 bytes."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

__all__ = ["make_socket_directory", "remove_socket_directory"]

_PREFIX = "gifty-"
# ".s.PGSQL.5432.lock", the longest name in it, fits with room to spare.
_LONGEST_PARENT = 64


def make_socket_directory(record: Path) -> Path:
    """Make a new directory (0700), remembered in the file `record`.

    The one remembered there before is removed: it was left by a run that could not clean up.
    """
    remove_socket_directory(record)
    parent = tempfile.gettempdir()
    if len(parent.encode()) > _LONGEST_PARENT:
        parent = "/tmp"  # noqa: S108 - mkdtemp makes it private
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    record.write_text(str(directory))
    return directory


def remove_socket_directory(record: Path) -> None:
    """Remove the directory that `record` names, and the record; fine if there is none."""
    try:
        directory = Path(record.read_text())
    except FileNotFoundError:
        return
    if directory.name.startswith(_PREFIX) and _is_private_directory(directory):
        shutil.rmtree(directory)
    record.unlink()


def _is_private_directory(path: Path) -> bool:
    """Only what mkdtemp made for us: after a reboot the name may be another's."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    private = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == stat.S_IRWXU
    return private and status.st_uid == os.geteuid()
