"""Encoders run by PyTorch: sentence-transformers for vectors, a sequence classifier for pairs of texts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

from gifty_compute.engines.base import Row
from gifty_compute.engines.card import ModelCard, refuse_other_space
from gifty_compute.engines.encoders import PairEncoder, TextEncoder
from gifty_compute.engines.tokens import Encoded, Tokens, padded
from gifty_compute.errors import EngineError, OutOfMemory
from gifty_compute.logic.recipe import Recipe

__all__ = ["Torch", "TorchCrossEncoder", "loading", "open_model", "passing", "place", "whereabouts"]

# Of one pass. A GPU wants much at once; on a CPU larger passes are slower.
_PASS_TOKENS = {"cuda": 32_768, "cpu": 2048}
_ROW_TOKENS = {"cuda": 256.0, "cpu": 30.0}
_POOLINGS = {"cls": "cls", "mean": "mean", "lasttoken": "last"}


def open_model(recipe: Recipe) -> Torch | TorchCrossEncoder:
    """The engine for the recipe's model, from its directory or from the hub at the pinned commit.

    Raises EngineError for a model that is not there, is of another space, or is of a form unknown here.
    """
    return Torch(recipe) if "embedding" in recipe.kinds else TorchCrossEncoder(recipe)


def whereabouts(recipe: Recipe) -> tuple[str, str | None]:
    """What the libraries load: a directory, or an id and its commit. Raises EngineError."""
    if recipe.directory is not None:
        if not recipe.directory.is_dir():
            raise EngineError(f"{recipe.model}: there is no {recipe.directory}")
        return str(recipe.directory), None
    if not recipe.source or not recipe.revision:
        raise EngineError(
            f"{recipe.model}: models.{recipe.model} needs `source` and `revision`, or a `directory`"
        )
    return recipe.source, recipe.revision


def place() -> tuple[str, torch.dtype]:
    """Where and in which numbers: bf16 on a GPU that has it, else fp16; fp32 on a CPU."""
    # libgomp reads it when it first runs; its threads would spin between passes.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if torch.cuda.is_available():
        has_bf16 = torch.cuda.get_device_capability() >= (8, 0)
        return "cuda", torch.bfloat16 if has_bf16 else torch.float16
    return "cpu", torch.float32


class _Model:
    """What both forms share: where it runs, how text becomes tensors, what running out of memory is."""

    packed = False

    def __init__(self, recipe: Recipe, device: str, dtype: torch.dtype) -> None:
        self.model, self.revision, self.kinds = recipe.model, recipe.identity, recipe.kinds
        self.precision = str(dtype).removeprefix("torch.")
        self.pass_tokens, self.row_tokens = _PASS_TOKENS[device], _ROW_TOKENS[device]
        self._device = device

    def _tensors(self, pieces: Sequence[Sequence[int]], pad: int) -> dict[str, torch.Tensor]:
        ids, mask = padded(pieces, pad)
        named = {"input_ids": ids, "attention_mask": mask}
        return {name: torch.from_numpy(value).to(self._device) for name, value in named.items()}


class Torch(TextEncoder, _Model):
    """A bi-encoder, with the pooling and normalisation that its own files say."""

    def __init__(self, recipe: Recipe) -> None:
        name, revision = whereabouts(recipe)
        device, dtype = place()
        super().__init__(recipe, device, dtype)
        with loading(recipe):
            self._network = SentenceTransformer(
                name, revision=revision, device=device, model_kwargs={"dtype": dtype}
            ).eval()
        card = _card(recipe, self._network)
        refuse_other_space(recipe, card)
        self.space, self.dim, self._pad = str(recipe.space_name), int(card.dim or 0), card.pad
        self._tokens = Tokens(self._network.tokenizer.backend_tokenizer, card)

    def forward(self, rows: Sequence[Row]) -> Sequence[Any]:
        """Vectors, float32 [rows, dim]."""
        encoded: list[Encoded] = [row.content for row in rows]
        with passing(self.model, self._device, len(rows)):
            given = self._tensors([one.pieces[0] for one in encoded], self._pad)
            vectors = self._network(given)["sentence_embedding"]
            return list(vectors.float().cpu().numpy())


class TorchCrossEncoder(PairEncoder, _Model):
    """A reranker with one logit a pair, or a model of entailment, which is read as one."""

    def __init__(self, recipe: Recipe) -> None:
        name, revision = whereabouts(recipe)
        device, dtype = place()
        super().__init__(recipe, device, dtype)
        with loading(recipe):
            loaded = CrossEncoder(name, revision=revision, device=device, model_kwargs={"dtype": dtype})
        self._network = loaded.model.eval()
        self._columns = _columns(recipe.model, loaded.model.config.id2label)
        tokenizer = loaded.tokenizer
        self._pad = int(tokenizer.pad_token_id)
        self._has_types = int(getattr(loaded.model.config, "type_vocab_size", 1)) > 1
        longest = min(int(loaded.max_seq_length or 512), int(tokenizer.model_max_length))
        card = ModelCard(form="cross-encoder", revision=recipe.identity, max_tokens=longest, pad=self._pad)
        self._tokens = Tokens(tokenizer.backend_tokenizer, card)

    def forward(self, rows: Sequence[Row]) -> Sequence[Any]:
        """One logit a row; how it becomes a probability is not this engine's business."""
        encoded: list[Encoded] = [row.content for row in rows]
        with passing(self.model, self._device, len(rows)):
            given = self._tensors([one.pieces[0] for one in encoded], self._pad)
            if self._has_types:
                types, _ = padded([one.types or () for one in encoded], 0)
                given["token_type_ids"] = torch.from_numpy(types).to(self._device)
            logits = self._network(**given).logits.double()
            yes, no = self._columns
            chosen = logits[:, yes] if no is None else logits[:, yes] - logits[:, no]
            return [float(logit) for logit in chosen.cpu()]


def _card(recipe: Recipe, network: SentenceTransformer) -> ModelCard:
    """What the loaded model is, as its own modules say it. Raises EngineError for a form unknown here."""
    by_name = {type(module).__name__: module for module in network}
    pooling = by_name.get("Pooling")
    mode = pooling.get_config_dict()["pooling_mode"] if pooling is not None else None
    if mode not in _POOLINGS or set(by_name) - {"Transformer", "Pooling", "Normalize"}:
        parts = ", ".join(by_name)
        raise EngineError(f"{recipe.model} is made of {parts} with pooling {mode!r}: not known here")
    prompts = {name: text for name, text in network.prompts.items() if text}
    if "document" in prompts:
        prompts.setdefault("passage", prompts.pop("document"))
    # Many models expect prefixes that only their description names; then the space's word is taken.
    declared = recipe.space.prefixes if recipe.space is not None else {}
    return ModelCard.model_validate(
        {
            "form": "bi-encoder",
            "revision": recipe.identity,
            "max_tokens": int(network.max_seq_length or 512),
            "pad": int(network.tokenizer.pad_token_id),
            "dim": network.get_embedding_dimension(),
            "pooling": _POOLINGS[mode],
            "normalized": "Normalize" in by_name,
            "prefixes": prompts or declared,
        }
    )


def _columns(model: str, labels: dict[int, str]) -> tuple[int, int | None]:
    """The column of yes, and that of no where there is one: a reranker has a single one."""
    if len(labels) == 1:
        return 0, None
    found = {label.lower(): int(number) for number, label in labels.items()}
    no = found.get("contradiction", found.get("not_entailment"))
    if "entailment" not in found or no is None:
        known = ", ".join(found)
        raise EngineError(f"{model} tells {known} apart: neither a reranker nor a model of entailment")
    return found["entailment"], no


@contextmanager
def loading(recipe: Recipe) -> Iterator[None]:
    """What the libraries raise while they load, as EngineError that names the model."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise EngineError(
            f"{recipe.model}: {recipe.directory or recipe.identity} could not be loaded "
            f"({type(error).__name__}): it is fetched from the hub, or lies whole where `directory` says"
        ) from error


@contextmanager
def passing(model: str, device: str, rows: int) -> Iterator[None]:
    """A pass: no gradients, and what torch raises told apart. Raises OutOfMemory, EngineError."""
    try:
        with torch.inference_mode():
            yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not _is_out_of_memory(error):
            raise EngineError(f"{model}: torch failed: {type(error).__name__}") from error
        if device == "cuda":
            torch.cuda.empty_cache()
        raise OutOfMemory(f"{model}: a pass of {rows} rows was too large") from error


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
