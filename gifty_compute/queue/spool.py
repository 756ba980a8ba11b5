"""A spool: the rows of a batch as CSV for COPY, in memory or, past 4 MB, in a file without a name.

None is an empty field, which COPY takes for NULL; none of these columns holds an empty text.
"""

from __future__ import annotations

import csv
import tempfile
from collections import Counter
from dataclasses import dataclass
from operator import itemgetter
from types import TracebackType
from typing import IO, Any

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
        self._common = common
        self.file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # closed at our own exit
        self._csv = csv.writer(_Encoded(self.file))
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
        """One more row. Raises OSError where there is no room for it."""
        self._csv.writerow((*self._common, self._rows, *_columns(columns)))
        self.queues[columns["task_type"], columns["model"]] += 1
        self._rows += 1


@dataclass(frozen=True)
class _Encoded:
    """Takes text for a file of bytes."""

    file: IO[bytes]

    def write(self, text: str) -> None:
        self.file.write(text.encode())
