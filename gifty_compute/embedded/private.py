"""Files and directories that only their owner may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from gifty_compute.embedded.errors import EmbeddedError

__all__ = ["make_private_directory", "read_or_make_secret", "sync_directory", "write_private"]


def make_private_directory(path: Path) -> None:
    """Make the directory (0700) and those above it.

    One that others may look into is refused unless it is empty: changing its mode might be a
    surprise to whoever else lives there.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077 == 0:
        return
    if any(path.iterdir()):
        raise EmbeddedError(
            f"{path} is not empty and not private: choose another directory, or `chmod 700` it"
        )
    path.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Put `text` in the file (0600), whole or not at all, even across a crash."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames in the directory survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_or_make_secret(path: Path) -> str:
    """The secret in the file; a new one, safe in URLs and config files, if there is no file.

    Raises EmbeddedError for a file that is empty: a server would take that for "no password".
    """
    try:
        secret = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        secret = secrets.token_hex(24)
        write_private(path, secret)
        return secret
    if not secret.strip():
        raise EmbeddedError(f"{path} is empty: put the password back, or see docs/operations.md (Backups)")
    return secret
