"""Streamed results of batches: bytes as they are made, with a place of their kind held until the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from typing import Any

from flask import Response

from api.admission import Kind, admission
from api.operation import caller
from api.places import Leave
from gifty_compute.errors import GiftyComputeError
from gifty_compute.logging import InContext

__all__ = ["streamed"]

log = logging.getLogger(__name__)

LastWord = Callable[[GiftyComputeError], bytes]


def streamed(pieces: Generator[bytes, None, None], last_word: LastWord, **response: Any) -> Response:
    """An answer of these pieces. What fails before the first is answered with a status, as always.

    Later it is too late for that, and the server ends an answer that broke off as it ends any other: what
    `last_word` makes of the error is then the last piece.
    """
    leave = admission().enter(Kind.RESULTS, caller())
    try:
        first = next(pieces, b"")
    except BaseException:
        leave()
        raise
    return Response(_Body(first, pieces, last_word, leave), **response)


class _Body:
    """What the server iterates over; it closes it at the end, and when the client hangs up."""

    def __init__(
        self,
        first: bytes,
        pieces: Generator[bytes, None, None],
        last_word: LastWord,
        leave: Leave,
    ) -> None:
        self._pieces, self._last_word = pieces, last_word
        self._leave: Leave | None = leave
        self._body = InContext(self._make(first))

    def __iter__(self) -> Iterator[bytes]:
        return self._body

    def close(self) -> None:
        """Gives the place back; twice does no harm."""
        self._body.close()
        self._pieces.close()
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def _make(self, first: bytes) -> Generator[bytes, None, None]:
        yield first
        try:
            yield from self._pieces
        except GiftyComputeError as error:
            log.warning("a streamed answer breaks off: %s", error.code)
            word = self._last_word(error)
        except Exception:
            # Only this generator can still say that the answer is not whole.
            log.exception("a streamed answer breaks off")
            word = self._last_word(GiftyComputeError("a fault of ours; the log has it"))
        else:
            return
        if word:
            yield word
