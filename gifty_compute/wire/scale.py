"""Scales: from zero to what the scores of Gifty's older notebooks go."""

from __future__ import annotations

from typing import Literal

__all__ = ["Scale"]

Scale = Literal["1", "10", "0-1", "0-10"]
"""Two ways to say each of two scales; scores are stored from 0 to 10."""
