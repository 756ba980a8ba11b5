"""Progress: one line on a terminal or in a notebook that says how the worker is getting on."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import ExitStack
from types import TracebackType
from urllib.parse import urlsplit

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from gifty_compute.poll.loop import PollLoop

__all__ = ["Progress", "is_watched"]

_PERIOD_SECONDS = 1.0


def is_watched() -> bool:
    """Whether somebody looks at stderr: a terminal, or the output of a notebook's cell."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class Progress:
    """The line, for as long as the block lasts; log lines go above it."""

    def __init__(self, loop: PollLoop, api: str) -> None:
        self._loop, self._server = loop, urlsplit(api).netloc
        self._over = threading.Event()
        self._undo = ExitStack()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        self._line = self._undo.enter_context(tqdm(bar_format="{desc}", file=sys.stderr, leave=True))
        self._undo.enter_context(logging_redirect_tqdm([logging.getLogger()]))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._line.set_description_str(self.said())
        self._undo.close()

    def said(self) -> str:
        """The line as it is now."""
        line, rate = self._loop.line, self._loop.pace.rate
        lease = line.hand.lease_left()
        words = [
            f"{rate:.1f} texts/s" if rate else "no text yet",
            f"{line.verdict.done} tasks done",
            f"{line.in_hand} in hand",
            "no lease" if lease is None else f"lease {max(0.0, lease):.0f} s left",
            self._server,
        ]
        return " | ".join(words)

    def _run(self) -> None:
        while not self._over.wait(_PERIOD_SECONDS):
            self._line.set_description_str(self.said())
