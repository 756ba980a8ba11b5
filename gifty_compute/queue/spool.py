"""A spool: the rows of a batch as COPY takes them, in memory or, past 4 MB, in a file without a name."""

from __future__ import annotations

import tempfile
from collections import Counter
from operator import itemgetter
from types import TracebackType
from typing import Any

__all__ = ["Spool"]

_IN_MEMORY = 4 * 2**20
# In the order of `copy_tasks`, after what all rows have in common and the position.
_columns = itemgetter(
    "task_type",
    "priority",
    "payload",
    "model",
    "space",
    "tokens",
    "max_attempts",
    "metadata",
    "callback_url",
)


class Spool:
    """Rows with these first columns; `queues` counts them by task type and model."""

    def __init__(self, *common: str | None) -> None:
        self._common = [_written(value) for value in common]
        self.file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # closed at our own exit
        self.queues: Counter[tuple[str, str]] = Counter()
        self._rows = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def __len__(self) -> int:
        return self._rows

    def add(self, columns: dict[str, Any]) -> None:
        """One more row."""
        own = map(_written, (self._rows, *_columns(columns)))
        self.file.write(("\t".join([*self._common, *own]) + "\n").encode())
        self.queues[columns["task_type"], columns["model"]] += 1
        self._rows += 1


def _written(value: Any) -> str:
    """A value in COPY's text form."""
    if value is None:
        return "\\N"
    text = str(value).replace("\\", "\\\\")
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
