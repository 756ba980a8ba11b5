"""logic.yaml as Gifty writes it, and every way to write it wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import DEFAULT_LOGIC, parse_logic, read_logic

ROOT = Path(__file__).parents[3]
GIFTY = ROOT / "tests" / "fixtures" / "logic" / "gifty.yaml"
GIFTY_DEVELOP = ROOT / "tests" / "fixtures" / "logic" / "gifty_develop.yaml"
EXAMPLE = ROOT / "tests" / "fixtures" / "logic" / "example.yaml"


def asked(logic: Logic, kind: str) -> list[str]:
    return [offer.provider for offer in logic.offers(kind, logic.model(kind, None))]


def test_the_three_lines_of_giftys_documentation_are_a_complete_file() -> None:
    logic = read_logic(EXAMPLE)

    assert logic.file.llm.default_provider == "anthropic"
    assert asked(logic, "embedding") == ["runpod", "intelligence_api", "openrouter"]
    assert logic.model("embedding", None).name == "bge-m3"


def test_the_three_lines_say_what_is_the_default_anyway() -> None:
    assert read_logic(EXAMPLE).file == DEFAULT_LOGIC.file


def test_giftys_own_file_is_read_as_it_is() -> None:
    logic = read_logic(GIFTY)

    assert logic.file.llm.default_provider == "anthropic"
    assert logic.file.llm.model_fast == "claude-3-haiku-20240307"
    assert logic.file.llm.model_smart == "claude-3-5-sonnet-20240620"
    assert logic.file.llm.model_embedding == "bge-m3"
    assert logic.file.llm.embedding_provider == "intelligence_api"
    assert logic.file.features.use_runpod_for_high_priority is True
    assert logic.file.features.enable_external_workers is True
    assert asked(logic, "embedding") == ["intelligence_api", "runpod", "openrouter"]
    assert [offer.model_id for offer in logic.offers("llm", logic.model("llm", "fast"))] == [
        "claude-3-haiku-20240307"
    ]


def test_giftys_recommendation_section_is_carried_through() -> None:
    logic = read_logic(GIFTY)

    assert logic.file.recommendation == {
        "budget_margin_fraction": 0.1,
        "items_per_query": 4,
        "max_queries_for_preview": 3,
        "rerank_candidate_limit": 15,
    }


@pytest.mark.parametrize(
    "content",
    [
        {"weights": {"new": [0.1, {"deep": [None, True, "да"]}]}, "llm": {"unknown": 1}},
        ["a list", {"of": "things"}],
        "one word",
        17,
        None,
    ],
)
def test_recommendation_may_hold_anything_and_comes_out_untouched(content: Any) -> None:
    text = yaml.safe_dump({"recommendation": content}, allow_unicode=True)

    assert parse_logic(text).file.recommendation == content


def test_switches_that_only_gifty_reads_are_carried_through_with_a_warning() -> None:
    """F1: the present file of Gifty's backend has `features.enable_ab_testing`."""
    logic = read_logic(GIFTY_DEVELOP)

    assert logic.file.features.model_extra == {"enable_ab_testing": True}
    assert [warning for warning in logic.warnings if warning.startswith("features.")] == [
        "features.enable_ab_testing: not read by gifty-compute, carried through as it is"
    ]
    assert logic.file.experiments["active"][0]["variants"]["variant_b"]["model_fast"] == "gpt-4o-mini"


def test_a_misspelt_switch_is_carried_through_and_the_warning_names_the_known_one() -> None:
    logic = parse_logic("features: {use_runpod_for_high_prio: false}")

    assert "did you mean use_runpod_for_high_priority?" in logic.warnings[0]


def test_a_file_without_foreign_switches_warns_of_nothing() -> None:
    assert read_logic(GIFTY).warnings == ()


def test_the_files_of_the_checkout_are_valid() -> None:
    production = read_logic(ROOT / "configs" / "logic.yaml")
    local = read_logic(ROOT / "configs" / "logic.local.yaml")

    assert asked(production, "embedding")[0] == "runpod"
    assert all(asked(local, kind) == ["local"] for kind in ("embedding", "rerank", "classify"))


@pytest.mark.parametrize("provider", ["intelligence_api", "runpod", "together", "own_server"])
def test_there_is_a_working_example_for_each_provider_of_embeddings(provider: str) -> None:
    logic = read_logic(ROOT / "configs" / "examples" / f"{provider}.yaml")

    assert asked(logic, "embedding")[0] == provider


@pytest.mark.parametrize(
    "text", ["", "\n", "# moved\n", "---\n", "null\n", "~", "{}\n", "  \n\n", "\ufeff", "\ufeff# x", "--- {}"]
)
def test_an_empty_document_is_refused_with_what_to_write_instead(tmp_path: Path, text: str) -> None:
    """P17. Also at the start: what says nothing was most likely lost."""
    path = tmp_path / "logic.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(InvalidConfig, match=r"says nothing .*`llm: {}`.*LOGIC_CONFIG_PATH") as caught:
        read_logic(path)

    assert caught.value.message.startswith(f"{path}: ")


def test_a_file_of_one_empty_section_goes_by_every_default() -> None:
    assert parse_logic("llm: {}").file == DEFAULT_LOGIC.file


def test_the_version_tells_two_texts_apart_and_one_text_always_alike() -> None:
    one, again, other = parse_logic("llm: {}"), parse_logic("llm: {}"), parse_logic("llm: {}\n")

    assert one.version == again.version != other.version


EMBEDDER = "models: {m: {kinds: [embedding], engine: torch%s}}"

BAD: dict[str, tuple[str, str, str]] = {
    # what is wrong: text, the key that the message names, the reason
    "an unknown section": ("llms: {}", "llms", "not permitted"),
    "an unknown key": ("llm: {model_fst: x}", "llm.model_fst", "not permitted"),
    "a list for a section": ("llm: [anthropic]", "llm", "valid dictionary"),
    "a word for a section": ("features: all", "features", "valid dictionary"),
    "a number for a name": ("llm: {model_fast: 5}", "llm.model_fast", "valid string"),
    "null for a provider": ("llm: {embedding_provider: }", "llm.embedding_provider", "valid string"),
    "a word for a switch": (
        "features: {enable_external_workers: perhaps}",
        "features.enable_external_workers",
        "valid boolean",
    ),
    "a word for a number": ("leases: {seconds: long}", "leases.seconds", "valid number"),
    "a lease of no length": ("leases: {seconds: 0}", "leases.seconds", "greater than 0"),
    "NaN for a lease": ("leases: {seconds: .nan}", "leases.seconds", "less than or equal to 900"),
    "a confidence over one": ("classify: {min_confidence: 1.5}", "classify.min_confidence", "less than"),
    "an unknown provider": (
        "llm: {embedding_provider: openai}",
        "llm.embedding_provider",
        "known: intelligence_api, runpod",
    ),
    "an unknown default provider": ("llm: {default_provider: gpt}", "llm.default_provider", "anthropic"),
    "an unknown provider in a route": (
        "rerank: {providers: [cohere]}",
        "rerank.providers",
        "no provider 'cohere'",
    ),
    "an unknown embedding model": (
        "llm: {model_embedding: ada}",
        "llm.model_embedding",
        "'ada' is not a model",
    ),
    "an embedding model that embeds nothing": (
        "llm: {model_embedding: bge-reranker-v2-m3}",
        "llm.model_embedding",
        "'bge-reranker-v2-m3' is not a model for embedding; known: bge-m3, gemini-embedding-001, ",
    ),
    "the same in the embedding section": (
        "embedding: {model: ada}",
        "embedding.model",
        "'ada' is not a model",
    ),
    "a rerank model that cannot rerank": (
        "rerank: {model: bge-m3}",
        "rerank.model",
        "not a model for rerank",
    ),
    "an unknown classify model": ("classify: {model: x}", "classify.model", "not a model for classify"),
    "an embedding model without space": (EMBEDDER % "", "models.m.space", "needs a space"),
    "a space that is not known": (EMBEDDER % ", space: moon", "models.m.space", "'moon' is not among"),
    "a provider that does not serve the model": (
        "llm: {embedding_provider: together}",
        "llm.embedding_provider",
        "together does not serve bge-m3 (space bge-m3). To mend it, either name one that does: "
        "intelligence_api, runpod, openrouter; or llm.model_embedding: multilingual-e5-large-instruct, "
        "another space: embed everything again; or if it does serve it, say under which id: "
        "models.bge-m3.providers.together: ID",
    ),
    "a route over two spaces": (
        "embedding: {providers: [runpod, together]}",
        "embedding.providers",
        "together does not serve bge-m3",
    ),
    "a fallback without the model": (
        "llm: {fallbacks: [groq, runpod]}",
        "llm.fallbacks",
        "runpod does not serve fast",
    ),
    "a model of a provider that is not there": (
        "models: {bge-m3: {providers: {acme: bge}}}",
        "models.bge-m3.providers",
        "no provider 'acme'",
    ),
    "a language model that is none": ("score: {llm_model: bge-m3}", "score.llm_model", "not a model for llm"),
    "an address that is none": (
        "providers: {groq: {base_url: api.groq.com}}",
        "providers.groq.base_url",
        "match pattern",
    ),
    "a header of two lines": (
        'providers: {groq: {headers: {a: "b\\r\\nc: d"}}}',
        "providers.groq.headers.a",
        "match pattern",
    ),
    "a header's name with a space": (
        "providers: {groq: {headers: {a b: c}}}",
        "providers.groq.headers.a b",
        "match pattern",
    ),
    "a budget without a price": (
        "providers: {groq: {budget_usd_per_day: 5}}",
        "providers.groq.budget_usd_per_day",
        "needs providers.groq.models.openai/gpt-oss-20b.price",
    ),
    "a reference that is not there": (
        "spaces: {bge-m3: {reference: nowhere.json}}",
        "spaces.bge-m3.reference",
        "nowhere.json: cannot be read (there is no such file)",
    ),
    "an unknown engine": ("models: {m: {kinds: [rerank], engine: soup}}", "models.m.engine", "'torch'"),
    "a model that does nothing": ("models: {m: {kinds: [], engine: torch}}", "models.m.kinds", "at least 1"),
    "a space without dimension": (
        "spaces: {s: {revision: r, pooling: cls, normalized: true, quantization: none}}",
        "spaces.s.dim",
        "required",
    ),
    "a category without name": (
        "classify: {internal_categories: [{id: 1}]}",
        "classify.internal_categories.0.name",
        "required",
    ),
    "not YAML": ("llm: {model_fast: x", "not YAML", "line 1"),
    "a tab for spaces": ("llm:\n\tmodel_fast: x", "not YAML", "line 2"),
    "an object of Python": ("!!python/object/apply:os.system [ls]", "not YAML", "python/object"),
    "a date that is none": ("recommendation: 2026-13-45", "not YAML", "month"),
    "NUL": ("llm: \x00", "not YAML", "unacceptable character"),
    "a list": ("- llm", "must hold keys and values", "list"),
    "a word": ("anthropic", "must hold keys and values", "str"),
    "a number for a key": ("5: x", "5", "Keys should be strings"),
}


@pytest.mark.parametrize("wrong", BAD)
def test_a_bad_file_is_refused_with_its_name_the_key_and_the_reason(tmp_path: Path, wrong: str) -> None:
    text, key, reason = BAD[wrong]
    path = tmp_path / "my-logic.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(InvalidConfig) as caught:
        read_logic(path)

    assert caught.value.message.startswith(f"{path}: {key}")
    assert reason in caught.value.message


def test_every_wrong_key_of_a_file_is_named_at_once() -> None:
    with pytest.raises(InvalidConfig) as caught:
        parse_logic("llm: {a: 1}\nlimits: {b: 2}")

    assert "llm.a: " in caught.value.message
    assert "limits.b: " in caught.value.message


def test_a_missing_file_says_which_variable_names_another(tmp_path: Path) -> None:
    path = tmp_path / "absent.yaml"

    with pytest.raises(InvalidConfig, match="LOGIC_CONFIG_PATH") as caught:
        read_logic(path)

    assert str(path) in caught.value.message


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\xff\xfe", "llm: {}".encode("utf-16")])
def test_a_binary_file_is_refused_as_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "logic.yaml"
    path.write_bytes(content)

    with pytest.raises(InvalidConfig, match="cannot be read") as caught:
        read_logic(path)

    assert str(path) in caught.value.message


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read"):
        read_logic(tmp_path)
