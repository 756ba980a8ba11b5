"""What must begin anew in a child process: threads are not copied by a fork, and locks stay as they were."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from types import MethodType
from typing import cast

__all__ = ["in_each_child"]


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
