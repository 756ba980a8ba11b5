"""Budget: how large a pass may be on this machine, learnt from what was too large for its memory."""

from __future__ import annotations

__all__ = ["Budget"]

# After so many passes in a row that fitted, a little more is tried again.
_PASSES = 100
_GROWTH = 1.1


class Budget:
    """Tokens of a pass: half of what failed, then slowly back to what the engine asks for."""

    def __init__(self, most: int) -> None:
        self.tokens = most
        self.shrunk = 0
        """How often a pass was too large."""
        self._most, self._fitted = most, 0

    def shrink(self, failed: int) -> None:
        """A pass of so many tokens was too large."""
        self.tokens = max(1, min(self.tokens, failed) // 2)
        self.shrunk += 1
        self._fitted = 0

    def grow(self) -> None:
        """A pass fitted."""
        self._fitted += 1
        if self.tokens < self._most and self._fitted >= _PASSES:
            self.tokens = min(self._most, int(self.tokens * _GROWTH) + 1)
            self._fitted = 0
