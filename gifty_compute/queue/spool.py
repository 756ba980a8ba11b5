"""A spool: the rows of a batch as COPY takes them, in memory or, past 4 MB, in a file without a name."""

from __future__ import annotations

import tempfile
from collections import Counter
from types import TracebackType
from typing import Any

__all__ = ["Spool"]

_IN_MEMORY = 4 * 2**20
# In the order of `copy_tasks`, after what all rows have in common and the position.
_COLUMNS = (
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
        self._common = b"".join(_written(value) + b"\t" for value in common)
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
        position = _written(len(self))
        fields = [position, *[_written(columns[name]) for name in _COLUMNS]]
        self.file.write(self._common + b"\t".join(fields) + b"\n")
        self.queues[columns["task_type"], columns["model"]] += 1
        self._rows += 1


def _written(value: Any) -> bytes:
    """A value in COPY's text form."""
    if value is None:
        return b"\\N"
    data = str(value).encode()
    for byte, written in _ESCAPES:
        data = data.replace(byte, written)
    return data


_ESCAPES = ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\r", b"\\r"))
