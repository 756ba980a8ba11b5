"""Ids of models that only an experiment names, or that only Gifty's clients know (F2)."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gifty_compute.errors import InvalidRequest
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import parse_logic, read_logic

GIFTY_DEVELOP = Path(__file__).parents[2] / "fixtures" / "logic" / "gifty_develop.yaml"
GROQ = "llm: {default_provider: groq}\n"


def asked(logic: Logic, model: str) -> list[tuple[str, str]]:
    """The providers that would be asked, each with the id."""
    return [(offer.provider, offer.model_id) for offer in logic.offers("llm", logic.model("llm", model))]


def test_both_variants_of_giftys_present_experiment_are_answered() -> None:
    logic = read_logic(GIFTY_DEVELOP)

    for model, expected in {
        "openai/gpt-oss-20b": "openai/gpt-oss-20b",
        "openai/gpt-oss-120b": "openai/gpt-oss-120b",
        "gpt-4o-mini": "openai/gpt-oss-20b",
        "gpt-4o": "openai/gpt-oss-120b",
    }.items():
        assert asked(logic, model) == [("groq", expected)]


def test_an_id_that_falls_is_warned_of_with_its_place_and_what_it_falls_to() -> None:
    logic = read_logic(GIFTY_DEVELOP)

    fast, smart = (warning for warning in logic.warnings if warning.startswith("experiments."))
    assert fast == (
        "experiments.active.0.variants.variant_b.model_fast: 'gpt-4o-mini' is no id of a provider of the "
        "route (groq): it is answered by fast"
    )
    assert smart.endswith("'gpt-4o' is no id of a provider of the route (groq): it is answered by smart")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # By the beginning of its provider's ids, by what the file says that a provider has, by name.
        ("claude-new-9", [("anthropic", "claude-new-9")]),
        ("gemini-3.8-flash", [("groq", "openai/gpt-oss-20b"), ("anthropic", "claude-haiku-5-5")]),
        ("qwen/qwen3.6-27b", [("groq", "qwen/qwen3.6-27b")]),
        ("groq/any-id", [("groq", "any-id")]),
        ("fast", [("groq", "openai/gpt-oss-20b"), ("anthropic", "claude-haiku-5-5")]),
    ],
)
def test_an_id_of_a_provider_of_the_route_is_asked_of_that_provider(
    model: str, expected: list[tuple[str, str]]
) -> None:
    logic = parse_logic(
        "llm: {default_provider: groq, fallbacks: [anthropic]}\n"
        "providers: {groq: {models: {qwen/qwen3.6-27b: {}}}}\n"
        f"experiments: [{{name: x, b: {{model: {model}}}}}]"
    )

    assert asked(logic, model) == expected


@pytest.mark.parametrize(
    ("experiment", "model", "role"),
    [
        ("{a: {b: {c: [{model_smart: x-1}]}}}", "x-1", "smart"),
        ("{a: {models: [x-1, x-2]}}", "x-2", "fast"),
        ("{a: {smart_model_name: x-1}}", "x-1", "smart"),
        ("{model_fast: x-1, model_smart: x-1}", "x-1", "fast"),
    ],
)
def test_ids_are_found_in_whatever_form_an_experiment_has(experiment: str, model: str, role: str) -> None:
    logic = parse_logic(f"{GROQ}experiments: {experiment}")

    assert logic.model("llm", model).name == role


@pytest.mark.parametrize(
    "experiments",
    [
        "5",
        "[]",
        "null",
        "{a: {model: 5, model_embedding: x-1, title: x-1}}",
        "{a: {model: 'x-1 is\\nno name'}}",
    ],
)
def test_what_is_no_id_of_a_language_model_is_none(experiments: str) -> None:
    logic = parse_logic(f"{GROQ}experiments: {experiments}")

    assert logic.warnings == ()
    with pytest.raises(InvalidRequest) as caught:
        logic.model("llm", "x-1")
    assert caught.value.code == "unknown_model"


def test_an_unknown_id_that_no_experiment_names_stays_an_error() -> None:
    """A misspelt model must be seen."""
    logic = read_logic(GIFTY_DEVELOP)

    for name in ("gpt-4o-mimi", "claude-haiku-4-6", "groq-fast"):
        with pytest.raises(InvalidRequest) as caught:
            logic.model("llm", name)
        assert caught.value.code == "unknown_model"


def test_an_id_of_an_experiment_is_no_model_of_another_kind() -> None:
    with pytest.raises(InvalidRequest):
        read_logic(GIFTY_DEVELOP).model("embedding", "gpt-4o-mini")


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (
            "{default_provider: groq}",
            {"claude-haiku-4-5": "openai/gpt-oss-20b", "claude-opus-4-6": "openai/gpt-oss-120b"},
        ),
        (
            "{default_provider: anthropic}",
            {"claude-haiku-4-5": "claude-haiku-4-5", "claude-opus-4-6": "claude-opus-4-6"},
        ),
    ],
)
def test_the_ids_of_giftys_own_clients_are_known(
    route: str, expected: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    logic = parse_logic(f"llm: {route}")

    found = {name: asked(logic, name)[0][1] for name in expected for _ in range(2)}

    assert found == expected
    assert logic.warnings == ()
    falls = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(falls) == (2 if "groq" in route else 0)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("groq/claude-x", "openai/gpt-oss-20b"),  # llm.model_fast's own words
        ("groq/claude-haiku-4-5", "openai/gpt-oss-20b"),
        ("groq/claude-opus-4-6", "openai/gpt-oss-120b"),
        ("groq/gpt-4o", "openai/gpt-oss-120b"),  # of the experiment
        ("gemini/claude-opus-4-6", "gemini-3.8-flash"),
        ("groq/qwen/qwen3.6-27b", "qwen/qwen3.6-27b"),
        ("groq/openai/gpt-oss-20b", "openai/gpt-oss-20b"),
        ("anthropic/claude-haiku-4-5", "claude-haiku-4-5"),
        ("proxy/claude-haiku-4-5", "claude-haiku-4-5"),  # a server that only the file knows may have it
    ],
)
def test_a_provider_is_not_asked_for_an_id_that_is_another_providers(model: str, expected: str) -> None:
    """`LLMFactory.get_client("groq")` with the ids of the settings, which are Claude's."""
    logic = parse_logic(
        "llm: {default_provider: groq, model_fast: claude-x}\n"
        "providers: {proxy: {adapter: openai_like, kinds: [llm], base_url: 'http://127.0.0.1:4000'}}\n"
        "experiments: {b: {model_smart: gpt-4o}}"
    )

    assert asked(logic, model) == [(model.partition("/")[0], expected)]


def test_an_unknown_id_of_another_provider_is_an_error_that_says_so() -> None:
    with pytest.raises(
        InvalidRequest, match="'claude-unheard-of' is an id of anthropic, not of groq"
    ) as caught:
        parse_logic(GROQ).model("llm", "groq/claude-unheard-of")

    assert caught.value.code == "unknown_model"


def test_what_is_stored_of_a_task_outlives_the_experiment() -> None:
    logic = parse_logic(
        "llm: {default_provider: groq, fallbacks: [anthropic]}\n"
        "experiments: {b: {model_smart: claude-new-9, model: x-1}}"
    )
    payload = {"messages": [{"role": "user", "content": "?"}]}

    stored = [logic.place("llm", {**payload, "model": name})["model"] for name in ("claude-new-9", "x-1")]

    assert stored == ["anthropic/claude-new-9", "fast"]
    assert all(parse_logic(GROQ).model("llm", name) for name in stored)
