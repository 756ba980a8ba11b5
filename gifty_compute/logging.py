"""Logs of our processes: one JSON object a line on stderr, ids and never payloads."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import ParamSpec, TypeVar

__all__ = ["InContext", "JsonLines", "carried", "configure_logging", "log_context", "set_log_context"]

P = ParamSpec("P")
T = TypeVar("T")

# What every record has; whatever else is in one was given as `extra`.
_COMMON = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NOTHING: Mapping[str, str] = {}
_context: ContextVar[Mapping[str, str]] = ContextVar("log_context", default=_NOTHING)


def set_log_context(**fields: str) -> None:
    """From now on each line that this thread writes has these fields, and no earlier ones."""
    _context.set(fields)


@contextmanager
def log_context(**fields: str) -> Iterator[None]:
    """Each line that is written in the block has these fields, beside those that it had before."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def carried(run: Callable[P, T]) -> Callable[P, T]:
    """The function, for another thread: its log lines there have the fields of this moment."""
    fields = _context.get()

    def elsewhere(*args: P.args, **kwargs: P.kwargs) -> T:
        with log_context(**fields):
            return run(*args, **kwargs)

    return elsewhere


class InContext(Iterator[T]):
    """A generator whose log lines have the fields of this moment, whichever thread reads it."""

    def __init__(self, pieces: Generator[T, None, None]) -> None:
        self._pieces, self._fields = pieces, _context.get()

    def __next__(self) -> T:
        with log_context(**self._fields):
            return next(self._pieces)

    def close(self) -> None:
        with log_context(**self._fields):
            self._pieces.close()


class JsonLines(logging.Formatter):
    """A record as one line: what happened, how grave, which logger, when, its context and `extra` fields."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat()
        line = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": at.replace("+00:00", "Z"),
            **_context.get(),
            **{name: value for name, value in vars(record).items() if name not in _COMMON},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logging(level: int = logging.INFO) -> None:
    """Sends every logger of this process, ours and the libraries', through one JSON formatter."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
