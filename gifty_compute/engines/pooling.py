"""From what a model says of each token to one vector a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from gifty_compute.arrays import np, npt

__all__ = ["joined", "normalised", "pooled"]


def pooled(
    states: npt.NDArray[Any], mask: npt.NDArray[Any], how: Literal["cls", "mean", "last"]
) -> npt.NDArray[np.float32]:
    """[rows, length, dim] to [rows, dim]; rows are filled up on the right, as the mask says."""
    states = states.astype(np.float32, copy=False)
    if how == "cls":
        first: npt.NDArray[np.float32] = states[:, 0]
        return first
    if how == "last":
        last: npt.NDArray[np.float32] = states[np.arange(len(states)), mask.sum(axis=1) - 1]
        return last
    weights = mask.astype(np.float32)
    # A product of matrices: no copy of all states that are only summed.
    sums: npt.NDArray[np.float32] = np.matmul(weights[:, None, :], states)[:, 0]
    sums /= weights.sum(axis=1, keepdims=True)
    return sums


def joined(vectors: npt.NDArray[np.float32], windows: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
    """One vector of those of a text's windows, weighted by the tokens between a window's first and last."""
    weights = np.array([max(len(window) - 2, 1) for window in windows], np.float32)
    mean: npt.NDArray[np.float32] = weights @ vectors / weights.sum()
    return mean


def normalised(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Each of length one.

    >>> normalised(np.array([[3, 4]], np.float32)).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: npt.NDArray[np.float32] = vectors / np.maximum(lengths, 1e-12)
    return units
