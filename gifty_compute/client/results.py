"""The results of a batch: from bytes as they arrive to the client's own values, across broken connections."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gifty_compute.client.errors import ApiError, ServiceFault, Unreachable, error_of
from gifty_compute.client.reading import value_of

__all__ = ["LineResult", "ResultLines"]


@dataclass(frozen=True)
class LineResult:
    """What became of a line of a batch; `value` is as the high-priority call would give it, or None."""

    position: int
    """Of the line among those that were submitted, from 0."""
    task_id: str
    task_type: str
    status: str
    value: Any = field(repr=False)
    error: str | None
    metadata: dict[str, Any] | None


class ResultLines:
    """Reads the stream of results; the bytes may be cut anywhere, and begin again behind the last line."""

    def __init__(self, first: int = 0) -> None:
        self.next = first
        """The position to begin with."""
        self._pieces: list[bytes] = []
        self._began = first

    def begin(self) -> None:
        """A new stream: what the last one left of a line is gone."""
        self._pieces.clear()
        self._began = self.next

    def feed(self, data: bytes) -> Iterator[LineResult]:
        """The lines that these bytes complete. Raises ApiError for an error in the middle of the stream."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            result = _read(b"".join([*self._pieces, end]))
            self._pieces.clear()
            self.next = result.position + 1
            yield result
        self._pieces.append(rest)

    def end(self) -> None:
        """The stream is over. Raises Unreachable where that was within a line."""
        if any(self._pieces):
            raise Unreachable(f"the results end within the line of position {self.next}")

    def may_go_on(self, error: ApiError | Unreachable) -> bool:
        """Whether another stream from `next` on may do better: it may pass, and this one got us further."""
        return error.retryable and self.next > self._began


def _read(line: bytes) -> LineResult:
    try:
        said = json.loads(line)
        if set(said) != {"error"}:
            return _result(said)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ServiceFault("a line of the results is not as the contract has it", status=200) from error
    raise error_of(503, {}, said)


def _result(said: Any) -> LineResult:
    result = said["result"]
    return LineResult(
        position=int(said["position"]),
        task_id=said["id"],
        task_type=said["task_type"],
        status=said["status"],
        value=None if result is None else value_of(said["task_type"], result),
        error=said["error"],
        metadata=said["metadata"],
    )
