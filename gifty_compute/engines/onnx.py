"""Models in directories of their own, run by onnxruntime: model.onnx, tokenizer.json and a card."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import tokenizers
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from gifty_compute.arrays import np, npt
from gifty_compute.engines.base import Row
from gifty_compute.engines.card import ModelCard, read_card, refuse_other_space
from gifty_compute.engines.encoders import PairEncoder, TextEncoder
from gifty_compute.engines.places import built_at
from gifty_compute.engines.pooling import joined, normalised, pooled
from gifty_compute.engines.tokens import Encoded, Tokens, padded
from gifty_compute.errors import EngineError, OutOfMemory
from gifty_compute.logic.recipe import Recipe

__all__ = [
    "CANARIES",
    "INT8_MODEL",
    "MODEL",
    "TOKENIZER",
    "Onnx",
    "OnnxCrossEncoder",
    "open_model",
]

log = logging.getLogger(__name__)

MODEL, INT8_MODEL, TOKENIZER, CANARIES = "model.onnx", "model_int8.onnx", "tokenizer.json", "canaries.npy"

# Of int8 to float vectors, for every canary. What a processor without VNNI makes of int8 may be far from it.
_LEAST_COSINE = 0.98
# Larger passes are slower on a CPU: what they work on falls out of its caches.
_PASS_TOKENS = 2048
_ROW_TOKENS = 30.0
_NO_MEMORY = ("bad_alloc", "allocate memory", "out of memory")


def open_model(recipe: Recipe) -> Onnx | OnnxCrossEncoder:
    """The engine for the model in this recipe's directory.

    Raises EngineError for a directory that lacks something, or whose model is of another space.
    """
    directory = recipe.directory or built_at(recipe.model)
    if not directory.is_dir():
        raise EngineError(
            f"{recipe.model}: there is no {directory}; models.{recipe.model}.directory says where it is, "
            "and the packaged one's is made by: gifty-worker models build"
        )
    card = read_card(directory)
    if card.form == "cross-encoder":
        return OnnxCrossEncoder(recipe, card, directory)
    return Onnx(recipe, card, directory)


class _Model:
    """What both forms share: the session, the tokenizer, passes."""

    precision = "fp32"
    packed = False
    pass_tokens = _PASS_TOKENS
    row_tokens = _ROW_TOKENS

    def __init__(self, recipe: Recipe, card: ModelCard, directory: Path, file: str = MODEL) -> None:
        self._card = card
        self.model, self.revision = recipe.model, card.revision
        self.kinds = recipe.kinds
        self._session = session(directory / file)
        self._inputs = {one.name for one in self._session.get_inputs()}
        self._output = self._session.get_outputs()[0]
        self._tokens = Tokens(_tokenizer(directory / TOKENIZER), card)

    def _run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64], types: Any) -> npt.NDArray[Any]:
        fed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        try:
            [output] = self._session.run(
                [self._output.name], {name: fed[name] for name in self._inputs if name in fed}
            )
        except (RuntimeException, Fail, InvalidArgument, MemoryError) as error:
            if isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY):
                raise OutOfMemory(f"{self.model}: a pass of {ids.size} tokens was too large") from error
            raise EngineError(f"{self.model}: onnxruntime failed: {type(error).__name__}") from error
        found: npt.NDArray[Any] = output
        return found


class Onnx(TextEncoder, _Model):
    """A bi-encoder: one vector a text."""

    def __init__(self, recipe: Recipe, card: ModelCard, directory: Path) -> None:
        refuse_other_space(recipe, card.model_copy(update=_as_declared(recipe, card)))
        super().__init__(recipe, card, directory)
        self.space, self.dim = str(recipe.space_name), int(card.dim or 0)
        if recipe.space is not None and recipe.space.quantization == "int8":
            self._try_int8(directory)

    def forward(self, rows: Sequence[Row]) -> Sequence[Any]:
        """Vectors, float32 [rows, dim], of length one where the space says so."""
        encoded: list[Encoded] = [row.content for row in rows]
        pieces = [piece for one in encoded for piece in one.pieces]
        vectors = np.concatenate([self._pooled(part) for part in self._portions(pieces)])
        if len(pieces) > len(rows):
            ends = np.cumsum([len(one.pieces) for one in encoded])
            parts = zip(np.split(vectors, ends[:-1]), encoded, strict=True)
            vectors = np.stack([joined(part, one.pieces) for part, one in parts])
        return list(normalised(vectors) if self._card.normalized else vectors)

    def _pooled(self, pieces: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        ids, mask = padded(pieces, self._card.pad)
        return pooled(self._run(ids, mask, np.zeros_like(ids)), mask, self._card.pooling or "mean")

    def _portions(self, pieces: Sequence[Sequence[int]]) -> Iterator[Sequence[Sequence[int]]]:
        """Pieces as they came in one pass; the windows of a text longer than a pass in several."""
        most = max(self.pass_tokens // self._card.max_tokens, 1)
        if any(len(piece) == self._card.max_tokens for piece in pieces) and len(pieces) > most:
            yield from (pieces[at : at + most] for at in range(0, len(pieces), most))
        else:
            yield pieces

    def _try_int8(self, directory: Path) -> None:
        """Goes over to int8 if on this very machine it gives nearly the vectors that the floats gave."""
        stored = _canaries(directory / CANARIES, len(self._card.canaries), self.dim)
        floats, self._session = self._session, session(directory / INT8_MODEL)
        found = np.stack(list(self.forward(self.rows(self._card.canaries, "passage"))))
        least = float((normalised(found) * normalised(stored)).sum(axis=1).min())
        if least >= _LEAST_COSINE:
            self.precision = "int8"
            return
        self._session, self.precision = floats, "fp32: int8 failed its self-test"
        log.warning(
            "%s: int8 gives other vectors on this machine (cosine %.3f, needed %.2f): fp32 instead",
            self.model,
            least,
            _LEAST_COSINE,
        )


class OnnxCrossEncoder(PairEncoder, _Model):
    """A cross-encoder: one logit for two texts."""

    def __init__(self, recipe: Recipe, card: ModelCard, directory: Path) -> None:
        super().__init__(recipe, card, directory)
        if self._output.shape[-1] != 1:
            message = f"its output has {self._output.shape[-1]} columns, a reranker's has one"
            raise EngineError(f"{self.model}: {message}")

    def forward(self, rows: Sequence[Row]) -> Sequence[Any]:
        """One logit a row."""
        encoded: list[Encoded] = [row.content for row in rows]
        ids, mask = padded([one.pieces[0] for one in encoded], self._card.pad)
        types, _ = padded([one.types or () for one in encoded], 0)
        return [float(logit) for logit in self._run(ids, mask, types).reshape(-1)]


def _as_declared(recipe: Recipe, card: ModelCard) -> dict[str, str]:
    """A space of int8 vectors admits those of the floats that they stand for."""
    is_int8 = recipe.space is not None and recipe.space.quantization == "int8"
    return {"quantization": "int8"} if is_int8 and card.quantization != "int8" else {}


def _canaries(path: Path, rows: int, dim: int) -> npt.NDArray[np.float32]:
    """What the floats gave, when the directory was made."""
    try:
        stored = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read; int8 is not used without it") from error
    if stored.shape != (rows, dim) or not rows:
        raise EngineError(f"{path} holds {stored.shape}, the card has {rows} canaries of {dim} dimensions")
    return np.asarray(stored, np.float32)


def cores() -> int:
    """How many cores this process may use; all of them where the system does not say, as on Windows."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def session(model: Path | bytes) -> Any:
    """The model as this engine runs it. Raises EngineError for what is none."""
    options = onnxruntime.SessionOptions()
    # An arena keeps the largest pass there ever was.
    options.enable_cpu_mem_arena = False
    options.intra_op_num_threads = cores()
    # Threads that spin between the steps of a pass were many times slower beside a busy neighbour.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each reason
        name = model if isinstance(model, Path) else "the model"
        raise EngineError(f"{name} cannot be opened by onnxruntime: {type(error).__name__}") from error


def _tokenizer(path: Path) -> Any:
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
        raise EngineError(f"{path} cannot be read as a tokenizer") from error
