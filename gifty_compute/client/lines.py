"""The lines of a batch: as a caller makes them, and packed for the way, which may have to be gone twice."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, Unpack

from gifty_compute.client.calls import ApiCall, How
from gifty_compute.client.low import Low
from gifty_compute.wire.task import TaskView

__all__ = ["Lines", "Packed"]

_IN_MEMORY = 4 * 2**20
_PIECE = 256 * 2**10


class Lines(Low[dict[str, Any]]):
    """The work of `client.low` as lines of a batch: the same names, and nothing is sent.

    >>> Lines().embeddings(["чайник"], metadata={"sku": 7})["metadata"]
    {'sku': 7}
    """

    def __init__(self) -> None:
        super().__init__(_body)

    def submit(self, task_type: str, payload: Mapping[str, Any], **how: Unpack[How]) -> dict[str, Any]:
        """A line of any type; fields of None are left out."""
        if how.get("key") is not None:
            raise TypeError("key: a line has none; give one to the batch")
        return super().submit(task_type, payload, **how)


def _body(call: ApiCall[TaskView]) -> dict[str, Any]:
    return dict(call.body or {})


class Packed:
    """Lines of JSON in gzip, in memory or, past a few megabytes, in a file without a name.

    One gzip member: where the connection breaks, the service sees that it is not whole.
    """

    def __init__(self) -> None:
        self.count = 0
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed at our own exit
        self._packing = gzip.GzipFile(fileobj=self._file, mode="wb", compresslevel=1, mtime=0)

    def add(self, line: Mapping[str, Any]) -> None:
        """One more line. Raises TypeError for what is no mapping."""
        if not isinstance(line, Mapping):
            raise TypeError(
                f"lines: mappings with task_type and payload are wanted, not {type(line).__name__}"
            )
        try:
            text = json.dumps(dict(line), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:
            # Half a surrogate pair: the service says in which line it is.
            text = json.dumps(dict(line)).encode()
        self._packing.write(text + b"\n")
        self.count += 1

    def seal(self) -> Self:
        """The end of the last line is there."""
        self._packing.close()
        return self

    def __len__(self) -> int:
        self._file.seek(0, 2)
        return self._file.tell()

    def __iter__(self) -> Iterator[bytes]:
        """All of it from the beginning."""
        self._file.seek(0)
        while piece := self._file.read(_PIECE):
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._packing.close()
        self._file.close()
