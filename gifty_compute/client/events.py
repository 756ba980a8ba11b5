"""The events of a streamed chat: from bytes as they arrive to pieces of the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator

from gifty_compute.client.answers import ChatPiece
from gifty_compute.client.errors import ServiceFault, error_of
from gifty_compute.client.reading import piece_of

__all__ = ["ChatEvents"]


class ChatEvents:
    """Reads a stream of server-sent events; the bytes may be cut anywhere.

    Lines end with LF or CR LF alone: JSON may hold U+2028 and its like, at which `str.splitlines` would cut.
    """

    def __init__(self) -> None:
        self.ended = False
        """Whether the answer is whole."""
        self.lines = 0
        """How many lines came, comments among them: signs that the service is at work."""
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[ChatPiece]:
        """The pieces that these bytes complete. Raises ApiError for an error in the middle of the stream."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.lines += len(lines)
        for line in lines:
            yield from self._line(line.strip())

    def _line(self, line: bytes) -> Iterator[ChatPiece]:
        if not line.startswith(b"data:"):
            return
        said = line[5:].strip()
        if said == b"[DONE]":
            self.ended = True
            return
        try:
            chunk = json.loads(said)
            if "error" not in chunk:
                piece = piece_of(chunk)
        except (ValueError, TypeError, AttributeError) as error:
            raise ServiceFault("an event of the stream is not as the contract has it", status=200) from error
        if "error" in chunk:
            raise error_of(502, {}, chunk)
        if piece is not None:
            yield piece
