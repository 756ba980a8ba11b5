"""Tiny models of the real architectures, with random weights, as directories that the libraries load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
)

DIM, MAX_TOKENS = 32, 32
_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
WORDS = ["чай", "мёд", "плед", "кофе", "подарок", "бабушке"]


def encoder(directory: Path, *, pooling: str = "cls", normalized: bool = True) -> Path:
    """XLM-RoBERTa with pooling, as BAAI/bge-m3 is."""
    torch.manual_seed(1)
    inner = directory / "inner"
    XLMRobertaModel(_config()).save_pretrained(inner)
    _tokenizer().save_pretrained(inner)
    modules: list[Any] = [Transformer(str(inner)), Pooling(DIM, pooling_mode=pooling)]
    network = SentenceTransformer(modules=modules + [Normalize()] * normalized, device="cpu")
    network.save(str(directory / "model"))
    return directory / "model"


def classifier(directory: Path, labels: tuple[str, ...] = ("LABEL_0",)) -> Path:
    """XLM-RoBERTa with a head, as BAAI/bge-reranker-v2-m3 is, and models of entailment are."""
    torch.manual_seed(2)
    network = XLMRobertaForSequenceClassification(_config(id2label=dict(enumerate(labels))))
    # As random as the others are, and not as small as a fresh head is: logits should differ.
    network.classifier.out_proj.weight.data *= 100
    network.save_pretrained(directory)
    _tokenizer().save_pretrained(directory)
    return directory


def _config(**more: Any) -> XLMRobertaConfig:
    return XLMRobertaConfig(
        vocab_size=len(_SPECIAL) + len(WORDS),
        hidden_size=DIM,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=MAX_TOKENS + 2,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        **more,
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(_SPECIAL + WORDS)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), _SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=MAX_TOKENS, **names)
