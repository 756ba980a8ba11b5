"""What must begin anew in a child process: threads are not copied by a fork, and locks stay as they were."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import MethodType
from typing import TypeVar, cast

__all__ = ["apart", "in_each_child"]

T = TypeVar("T")


def apart(call: Callable[[], T]) -> T:
    """What the call gives, made in a thread of its own, which is waited for.

    OpenMP keeps its threads with the thread that called it first. A forked child's only thread takes those of
    its parent for its own, and waits for them for ever; a new one has new ones (measured for torch).
    """
    with ThreadPoolExecutor(1, thread_name_prefix="apart") as thread:
        return thread.submit(call).result()


def in_each_child(reset: Callable[[], None]) -> None:
    """Has this method called first of all in every child that is forked, as long as its object lives."""
    if not hasattr(os, "register_at_fork"):  # Windows, which does not fork
        return
    method = weakref.WeakMethod(cast(MethodType, reset))

    def call() -> None:
        found = method()
        if found is not None:
            found()

    os.register_at_fork(after_in_child=call)
