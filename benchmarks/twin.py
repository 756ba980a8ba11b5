"""The packaged model in sentence-transformers' own form, so that others can run the very same weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from gifty_compute.engines.form.build import packaged_file
from gifty_compute.engines.form.packed import Packed
from gifty_compute.engines.form.tokenizer import tokenizer_file

__all__ = ["write_twin"]

_PARTS = {"q": "self.query", "k": "self.key", "v": "self.value", "ao": "output.dense"}


def write_twin(directory: Path) -> None:
    """Makes the directory: config, weights as 32-bit floats, tokenizer, and mean pooling over it."""
    directory.mkdir(parents=True)
    packed = Packed(packaged_file())
    _write_tensors(directory / "model.safetensors", _tensors(packed))
    vocabulary = packed.vocabulary
    files = {
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_size": packed.hidden,
            "num_hidden_layers": packed.layers,
            "num_attention_heads": packed.heads,
            "intermediate_size": packed.inner,
            "vocab_size": packed.rows,
            "max_position_embeddings": packed.positions,
            "type_vocab_size": 2,
            "layer_norm_eps": packed.epsilon,
            "pad_token_id": vocabulary.pad,
            "hidden_act": "gelu",
            "torch_dtype": "float32",
        },
        "tokenizer.json": tokenizer_file(vocabulary),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": packed.positions,
            "pad_token": vocabulary.pieces[vocabulary.pad],
            "bos_token": vocabulary.pieces[vocabulary.bos],
            "eos_token": vocabulary.pieces[vocabulary.eos],
            "unk_token": vocabulary.pieces[vocabulary.unk],
        },
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "sentence_bert_config.json": {"max_seq_length": packed.positions, "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": packed.hidden,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_cls_token": False,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    }
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    (directory / "2_Normalize").mkdir()


def _tensors(packed: Packed) -> dict[str, np.ndarray]:
    hidden = packed.hidden
    found = {
        "embeddings.word_embeddings.weight": packed.quantized("emb.word", hidden).floats(),
        "embeddings.position_embeddings.weight": packed.floats("emb.pos").reshape(-1, hidden),
        "embeddings.token_type_embeddings.weight": packed.floats("emb.type").reshape(-1, hidden),
        **_norm(packed, "embeddings.LayerNorm", "emb.ln"),
    }
    for number in range(packed.layers):
        at, to = f"l{number}", f"encoder.layer.{number}"
        for part, name in _PARTS.items():
            found |= _linear(packed, f"{to}.attention.{name}", f"{at}.{part}", hidden)
        found |= _norm(packed, f"{to}.attention.output.LayerNorm", f"{at}.aln")
        found |= _linear(packed, f"{to}.intermediate.dense", f"{at}.fi", hidden)
        found |= _linear(packed, f"{to}.output.dense", f"{at}.fo", packed.inner)
        found |= _norm(packed, f"{to}.output.LayerNorm", f"{at}.oln")
    return found


def _linear(packed: Packed, name: str, source: str, columns: int) -> dict[str, np.ndarray]:
    weight = packed.quantized(f"{source}.w", columns).floats()
    return {f"{name}.weight": weight, f"{name}.bias": packed.floats(f"{source}.b")}


def _norm(packed: Packed, name: str, source: str) -> dict[str, np.ndarray]:
    return {f"{name}.weight": packed.floats(f"{source}.w"), f"{name}.bias": packed.floats(f"{source}.b")}


def _write_tensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Safetensors: the length of a JSON header, the header, the bytes (huggingface/safetensors, README)."""
    header, offset = {}, 0
    for name, tensor in tensors.items():
        ends = offset + tensor.size * 4
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, ends]}
        offset = ends
    said = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    with path.open("wb") as file:
        file.write(len(said).to_bytes(8, "little"))
        file.write(said)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor, "<f4").tobytes())
