"""numpy as `np` and `npt`, imported when one of them is first used.

A process that handles no vectors (beat, Flower, a facade that only chats) is 12 MB smaller, and starts a
tenth of a second earlier. Types of arrays may stand in annotations, not in code that runs with the import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["np", "npt"]

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:

    class _Lazy:
        def __init__(self, module: str) -> None:
            self._module = module

        def __getattr__(self, name: str) -> Any:
            found = getattr(importlib.import_module(self._module), name)
            setattr(self, name, found)  # the next look finds it without coming here
            return found

    np, npt = _Lazy("numpy"), _Lazy("numpy.typing")
