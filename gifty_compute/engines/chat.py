"""A chat model of the Hugging Face hub, run by transformers in this process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from gifty_compute.engines.llm import Answer
from gifty_compute.engines.torch import loading, passing, place, whereabouts
from gifty_compute.logic.recipe import Recipe

__all__ = ["TorchChat", "open_chat"]

# What is read and may be written, of all rows of a pass: their keys and values lie in memory.
_PASS_TOKENS = {"cuda": 65_536, "cpu": 8192}


def open_chat(recipe: Recipe) -> TorchChat:
    """Raises EngineError for a model that is not there or has no form for conversations."""
    return TorchChat(recipe)


class TorchChat:
    """Answers several conversations in one pass; those of a pass share a temperature."""

    def __init__(self, recipe: Recipe) -> None:
        name, revision = whereabouts(recipe)
        self._device, dtype = place()
        self._model = recipe.model
        self.pass_tokens = _PASS_TOKENS[self._device]
        with loading(recipe):
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name, revision=revision, padding_side="left")
            network = AutoModelForCausalLM.from_pretrained(name, revision=revision, dtype=dtype)
            if not self._tokenizer.chat_template:
                raise ValueError("it has no template for conversations")
        self._network: Any = network.to(self._device).eval()
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    def tokens(self, payload: dict[str, Any]) -> int:
        return len(self._tokenizer(self._written(payload))["input_ids"]) + int(payload["max_tokens"])

    def answers(self, payloads: Sequence[dict[str, Any]]) -> list[Answer]:
        alike: dict[float, list[int]] = defaultdict(list)
        for position, payload in enumerate(payloads):
            alike[float(payload.get("temperature") or 0.0)].append(position)
        found: dict[int, Answer] = {}
        for temperature, positions in alike.items():
            some = self._generated([payloads[position] for position in positions], temperature)
            found |= dict(zip(positions, some, strict=True))
        return [found[position] for position in range(len(payloads))]

    def _generated(self, payloads: Sequence[dict[str, Any]], temperature: float) -> list[Answer]:
        texts = [self._written(payload) for payload in payloads]
        given = self._tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
        given = given.to(self._device)
        how = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        longest = max(int(payload["max_tokens"]) for payload in payloads)
        with passing(self._model, self._device, len(payloads)):
            written = self._network.generate(
                **given, **how, max_new_tokens=longest, pad_token_id=self._tokenizer.pad_token_id
            )
        read = given["attention_mask"].sum(dim=1).tolist()
        new = written[:, given["input_ids"].shape[1] :].tolist()
        return [self._answer(*one) for one in zip(payloads, read, new, strict=True)]

    def _answer(self, payload: dict[str, Any], read: int, written: list[int]) -> Answer:
        ends = self._network.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        stop = next((at for at, token in enumerate(written) if token in ends), None)
        cap = int(payload["max_tokens"])
        own = written[: cap if stop is None else min(stop, cap)]
        reason = "stop" if stop is not None and stop < cap else "length"
        text: str = self._tokenizer.decode(own, skip_special_tokens=True)
        for word in payload.get("stops") or ():
            if word in text:
                text, reason = text[: text.index(word)], "stop"
        return Answer(text, reason, read, len(own))

    def _written(self, payload: dict[str, Any]) -> str:
        written: str = self._tokenizer.apply_chat_template(
            payload["messages"], tokenize=False, add_generation_prompt=True
        )
        return written
