"""A chat model in this process: a tiny Qwen2 with random weights, through the very same code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import EngineError, OutOfMemory
from gifty_compute.logic.recipe import Recipe

# Qwen2's own form: a token is a byte, or a piece of several; here there are only bytes.
TOKENS = ["<|end|>", "<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
TEMPLATE = (
    "{% for message in messages %}{{ message.role }} {{ message.content }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


def save(directory: Path, template: str | None = TEMPLATE) -> Path:
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=len(TOKENS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        eos_token_id=0,
        bos_token_id=None,
        pad_token_id=1,
    )
    Qwen2ForCausalLM(config).save_pretrained(directory)
    tokenizer = Qwen2Tokenizer(
        vocab={token: n for n, token in enumerate(TOKENS)},
        merges=[],
        eos_token="<|end|>",
        pad_token="<pad>",
        unk_token=None,
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("chat"))


def opened(directory: Path) -> Any:
    recipe = Recipe("chat", "llm", frozenset({"llm", "score"}), directory=directory)
    return EngineShelf(lambda _: recipe).get("chat")


def asked(engine: Any, content: str, **payload: Any) -> Any:
    return engine.prepare("llm", {"messages": [{"role": "user", "content": content}], **payload})


def test_an_answer_is_what_the_model_itself_generates(directory: Path) -> None:
    engine = opened(directory)
    job = asked(engine, "чай мёд", max_tokens=8)

    result = job.finish(engine.forward(job.rows))

    network, tokenizer = (one.from_pretrained(directory) for one in (AutoModelForCausalLM, AutoTokenizer))
    given = tokenizer("user чай мёд <|end|> assistant ", return_tensors="pt")
    written = network.generate(**given, do_sample=False, max_new_tokens=8, pad_token_id=1)
    own = written[0, given["input_ids"].shape[1] :]
    assert result["content"] == tokenizer.decode(own, skip_special_tokens=True)
    assert result["usage"]["input_tokens"] == given["input_ids"].shape[1]


def test_conversations_of_one_pass_are_answered_as_each_alone_and_by_its_own_cap(directory: Path) -> None:
    engine = opened(directory)
    jobs = [asked(engine, "чай", max_tokens=2), asked(engine, "плед " * 9 + "подарок", max_tokens=6)]

    together = engine.forward([job.rows[0] for job in jobs])

    alone = [engine.forward(job.rows)[0] for job in jobs]
    assert [one.result for one in together] == [one.result for one in alone]
    assert together[0].output_tokens <= 2
    assert jobs[1].rows[0].tokens == together[1].input_tokens + 6


def test_a_stop_word_ends_the_answer(directory: Path) -> None:
    engine = opened(directory)
    job = asked(engine, "чай мёд", max_tokens=8)
    whole = job.finish(engine.forward(job.rows))["content"]
    stopped = asked(engine, "чай мёд", max_tokens=8, stops=[whole[-1]])

    result = stopped.finish(engine.forward(stopped.rows))

    assert result["content"] == whole[: whole.index(whole[-1])]
    assert result["finish_reason"] == "stop"


def test_random_weights_score_no_product_and_say_so(directory: Path) -> None:
    engine = opened(directory)
    job = engine.prepare("score", {"products": [{"title": "плед"}]})
    for row in job.rows:
        row.content.payload["max_tokens"] = 8

    with pytest.raises(EngineError, match=r"wrong twice|cut off by max_tokens|has no text"):
        job.finish(engine.forward(job.rows))


def test_a_pass_for_which_there_is_no_memory_is_told_apart(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(directory)

    def full(**_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine._chat._network, "generate", full)

    with pytest.raises(OutOfMemory):
        engine.forward(asked(engine, "чай").rows)


def test_a_model_without_a_form_for_conversations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="could not be loaded"):
        opened(save(tmp_path, None))
