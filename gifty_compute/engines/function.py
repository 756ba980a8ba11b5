"""A function of somebody else's as an engine, for task types that logic.yaml declares."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from gifty_compute.engines.base import Job, Row
from gifty_compute.errors import EngineError
from gifty_compute.logic.recipe import Recipe

__all__ = ["Function", "open_model"]


class Function:
    """One task at a time: the function is given the payload, and what it returns is the result."""

    space = None
    precision = ""
    packed = False
    pass_tokens = 1
    row_tokens = 0.0

    def __init__(self, recipe: Recipe, function: Callable[[dict[str, Any]], Any]) -> None:
        self.model, self.revision, self.kinds = recipe.model, str(recipe.handler), recipe.kinds
        self._function = function

    def prepare(self, task_type: str, payload: dict[str, Any]) -> Job:
        if task_type not in self.kinds:
            raise EngineError(f"{self.revision} does no tasks of type {task_type!r}")
        return Job([Row(1, payload)], lambda outputs: outputs[0])

    def samples(self) -> Sequence[Sequence[Row]]:
        """None: nobody knows here what it may be called with."""
        return ()

    def forward(self, rows: Sequence[Row]) -> Sequence[dict[str, Any]]:
        """Raises what the function raises; EngineError for a result that is no dict."""
        return [self._called(row.content) for row in rows]

    def _called(self, payload: dict[str, Any]) -> dict[str, Any]:
        result = self._function(payload)
        if not isinstance(result, dict):
            raise EngineError(f"{self.revision} returned {type(result).__name__}, a result is a dict")
        return result


def open_model(recipe: Recipe) -> Function:
    """The engine for the recipe's `module:function`, found as Python finds modules, and in this directory.

    Raises EngineError for one that is not there.
    """
    module_name, _, name = str(recipe.handler or "").partition(":")
    if not module_name or not name:
        raise EngineError(f"{recipe.model}: a handler is named module:function, not {recipe.handler!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise EngineError(f"{recipe.handler} cannot be imported: {error}") from error
    if not callable(function):
        raise EngineError(f"{recipe.handler} is no function")
    return Function(recipe, function)
