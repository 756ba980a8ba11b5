"""What logic.yaml says: slips that YAML itself lets pass are refused, with key and line."""

from __future__ import annotations

import pytest

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.document import read_document
from gifty_compute.logic.source import parse_logic


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        (
            "llm:\n  embedding_provider: own\n  max_tokens: 5\n  embedding_provider: local\n",
            "llm.embedding_provider",
            "line 2 and in line 4",
        ),
        ("llm: {}\nlimits: {}\nllm: {max_tokens: 5}", "llm", "line 1 and in line 3"),
        ("llm: {}\n'llm': {}", "llm", "line 1 and in line 2"),
        ("classify: {internal_categories: [{id: 1, name: a, id: 2}]}", "internal_categories.0.id", "line 1"),
        ("experiments: {a: 1, a: 2}", "experiments.a", "line 1"),
        ("x: &a {b: 1}\nllm: {<<: *a, <<: *a}", "llm.<<", "line 2"),
    ],
)
def test_a_key_that_is_there_twice_is_refused_with_key_and_lines(text: str, key: str, lines: str) -> None:
    """P18."""
    with pytest.raises(InvalidConfig) as caught:
        read_document(text, "logic.yaml")

    assert f"{key}: is there twice" in caught.value.message
    assert lines in caught.value.message


def test_a_merged_mapping_may_be_overridden_key_by_key() -> None:
    text = (
        "providers:\n"
        "  groq: &own {limits: {requests_per_minute: 5}, base_url: 'http://one.example'}\n"
        "  together: {<<: *own, base_url: 'http://two.example'}\n"
        "  openrouter: {<<: *own}\n"
    )

    providers = read_document(text, "logic.yaml").said["providers"]

    assert providers["together"] == {"limits": {"requests_per_minute": 5}, "base_url": "http://two.example"}
    assert providers["openrouter"] == providers["groq"]


@pytest.mark.parametrize("number", ["02000", "0755", "-010", "09", "0_1", "1:30", "1:30:00"])
def test_a_number_that_yaml_reads_otherwise_than_people_do_is_refused(number: str) -> None:
    """`timeout_ms: 02000` was 1024 ms."""
    with pytest.raises(InvalidConfig) as caught:
        parse_logic(f"rerank:\n  timeout_ms: {number}")

    assert f"rerank.timeout_ms: YAML does not read {number} as people do (line 2)" in caught.value.message


@pytest.mark.parametrize("number", ["2000", "0", "2_000", "0x7d0", "+5"])
def test_other_numbers_are_as_before(number: str) -> None:
    assert read_document(f"a: {number}", "logic.yaml").said == {"a": int(number.replace("_", ""), 0)}


@pytest.mark.parametrize("text", ["a: '02000'", "a: x02000", "a: 0.5", "recommendation: {a: 02000}"])
def test_texts_fractions_and_giftys_own_sections_may_begin_with_a_zero(text: str) -> None:
    assert read_document(text, "logic.yaml").said


def test_aliases_that_multiply_are_refused_before_they_are_written_out() -> None:
    levels = ["a0: &a0 [1,1,1,1,1,1,1,1,1]"]
    levels += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]

    with pytest.raises(InvalidConfig, match="aliases repeat more than 10000 values"):
        read_document("\n".join(levels), "logic.yaml")


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "a: &a {<<: *a}"])
def test_an_alias_that_contains_itself_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match=r"^logic\.yaml: a.*: an alias that contains itself"):
        read_document(text, "logic.yaml")


def test_lines_are_those_of_the_keys_and_entries() -> None:
    document = read_document("# first\nllm:\n  fallbacks:\n    - groq\n    - gemini\n", "logic.yaml")

    assert document.line(("llm",)) == 2
    assert document.line(("llm", "fallbacks", 1)) == 5
    assert document.line(("llm", "max_tokens", "missing")) == 2
    assert document.line(("limits",)) is None


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("llm: {}\nend: true", "end"),
        ("llm: {}\nversion: 2026-11b", "version"),
        ("version: 1\nllm: {}", None),
        ("llm: {}", None),
    ],
)
def test_the_last_key_may_show_that_nothing_is_cut_off(text: str, mark: str | None) -> None:
    assert read_document(text, "logic.yaml").end_mark == mark


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("end: true\nllm: {}", "end: must be the last line"),
        ("llm: {}\nend: ", "end: has no value; the file seems to be cut off"),
        ("llm: {}\nversion: ", "version: has no value"),
    ],
)
def test_an_end_mark_that_does_not_end_the_file_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidConfig, match=f"^logic.yaml: {reason}"):
        read_document(text, "logic.yaml")


@pytest.mark.parametrize("value", ["t", "tru", "false", "yes please", "[]"])
def test_an_end_mark_says_true_and_nothing_else(value: str) -> None:
    with pytest.raises(InvalidConfig, match="end: Input should be True"):
        parse_logic(f"llm: {{}}\nend: {value}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("llm:\n  max_tokns: 5", "llm.max_tokns: .* not permitted (line 2); did you mean max_tokens?"),
        ("limit: {}", "limit: .* not permitted (line 1); did you mean limits?"),
        ("providers:\n  groq:\n    limits: {request_per_minute: 5}", "did you mean requests_per_minute?"),
        ("routing: {cache: {tll_seconds: 5}}", "routing.cache.tll_seconds: .*did you mean ttl_seconds?"),
        ("routing: {brk: {}}", "routing.brk: Extra inputs are not permitted (line 1); did you mean breaker?"),
        ("llm: {colour: 5}", "llm.colour: Extra inputs are not permitted (line 1)"),
    ],
)
def test_an_unknown_key_is_refused_with_its_line_and_the_key_it_resembles(text: str, sentence: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        parse_logic(text)

    place, _, end = sentence.rpartition(".*")
    assert place in caught.value.message
    assert caught.value.message.endswith(end)


@pytest.mark.parametrize("part", ["providers", "models", "spaces", "llm", "callbacks", "low", "limits"])
def test_a_section_without_a_value_is_refused(part: str) -> None:
    """A file that was cut off behind the colon."""
    with pytest.raises(InvalidConfig, match=f"{part}: Input should be a valid dictionary"):
        parse_logic(f"features: {{}}\n{part}:\n")
