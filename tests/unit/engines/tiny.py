"""A tiny cross-encoder as a directory of its own: random weights, words as tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from gifty_compute.engines.card import CARD, ModelCard
from gifty_compute.engines.onnx import MODEL, TOKENIZER

MAX_TOKENS = 32
_WORDS = ["<s>", "<pad>", "</s>", "<unk>", "чай", "мёд", "плед", "кофе"]


def cross_encoder(directory: Path) -> None:
    """The logit is the sum of a number for each word."""
    card = ModelCard(form="cross-encoder", revision="1", max_tokens=MAX_TOKENS, pad=1)
    (directory / CARD).write_text(card.model_dump_json())
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(_WORDS)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    words.save(str(directory / TOKENIZER))
    weights = np.random.default_rng(1).normal(size=(len(_WORDS), 1)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["weights", "input_ids"], ["each"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["each", "wide"], ["read"]),
        helper.make_node("ReduceSum", ["read", "middle"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "length"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 1])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([-1]), "last"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, directory / MODEL)
