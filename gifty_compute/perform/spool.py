"""Spool: outcomes on disk until they are answered for good, so that they outlive their process."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import orjson
from pydantic import ValidationError

from gifty_compute.errors import InvalidConfig, InvalidResult
from gifty_compute.wire.task import Outcome
from gifty_compute.wire.vectors import packed

__all__ = ["Spool"]

log = logging.getLogger(__name__)


class Spool:
    """A directory with one file an outcome: what `report` would send, and nothing of the task's payload.

    Files are 0600 and appear whole. Two workers may share a directory: who starts later reports what the
    other has not yet, and the same outcome twice is taken once.
    """

    def __init__(self, directory: Path) -> None:
        """Raises InvalidConfig for a directory that cannot be made or written."""
        self._directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidConfig(f"--spool {directory}: {error.strerror}") from error
        if not os.access(directory, os.W_OK | os.X_OK):
            raise InvalidConfig(f"--spool {directory}: this user may not write there")

    def keep(self, outcome: Outcome) -> None:
        """From now on the outcome outlives the process. Raises InvalidResult if it is not JSON."""
        try:
            body = orjson.dumps({**outcome.model_dump(exclude={"result"}), "result": packed(outcome.result)})
        except orjson.JSONEncodeError as error:
            raise InvalidResult(f"the result cannot be written as JSON: {error}") from error
        path = self._path(outcome.id)
        half = path.with_suffix(f".{os.getpid()}.half")
        with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(body)
        half.replace(path)

    def forget(self, task_id: UUID) -> None:
        """The outcome was answered for good."""
        self._path(task_id).unlink(missing_ok=True)

    def found(self) -> Iterator[Outcome]:
        """What an earlier process left. A file that cannot be read stays where it is, and is warned of."""
        for path in sorted(self._directory.glob("*.json")):
            try:
                yield Outcome.model_validate(orjson.loads(path.read_bytes()))
            except (OSError, ValueError, ValidationError) as error:
                log.warning("%s holds no outcome (%s); remove it", path, type(error).__name__)

    def _path(self, task_id: UUID) -> Path:
        return self._directory / f"{task_id}.json"
