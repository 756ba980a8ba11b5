"""What a new version of logic.yaml loses: sections, keys, entries and guards."""

from __future__ import annotations

import pytest

from gifty_compute.logic.guards import RULES, leaves, plain
from gifty_compute.logic.losses import losses
from gifty_compute.logic.source import parse_logic
from tests.unit.logic.files import WHOLE

PRICED = (
    "providers: {groq: {%s, models: {openai/gpt-oss-20b: {price: {input_per_million: %s, "
    "output_per_million: 5}}, openai/gpt-oss-120b: {price: {input_per_million: 5, output_per_million: 5}}}}}"
)
SCHEMA = "payload_schema: {type: object, required: [url]}"


def lost(before: str, after: str) -> tuple[str, ...]:
    return losses(parse_logic(before), parse_logic(after))


def test_every_field_of_the_file_is_classified_as_a_guard_or_as_plain() -> None:
    """A new field of logic.yaml needs a line in RULES: what of it allows more than before?"""
    assert RULES.keys() == set(leaves())


def test_a_field_that_is_not_classified_counts_as_a_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "gifty_compute.logic.losses.RULES", {k: v for k, v in RULES.items() if k != "leases.seconds"}
    )

    assert lost("leases: {seconds: 30}", "leases: {seconds: 60}") == ("leases.seconds (30 before, 60 now)",)


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        # sections, entries and keys that are gone
        ("llm: {}\nscore: {}", "llm: {}", "score"),
        ("llm: {max_tokens: 5, fallbacks: [gemini]}", "llm: {max_tokens: 5}", "llm.fallbacks"),
        ("models: {bge-m3: {aliases: [a]}, smart: {}}", "models: {smart: {}}", "models.bge-m3"),
        ("low: {llm: {paid: true}}", "low: {}", "low.llm"),
        ("recommendation: {a: {b: 1}}", "recommendation: {a: {}}", "recommendation.a.b"),
        ("recommendation: {a: 1}", "recommendation: ", "recommendation"),
        ("features: {enable_ab_testing: true}", "features: {}", "features.enable_ab_testing"),
        ("routing: {cache: {}}", "routing: {}", "routing.cache"),
        (
            "classify: {internal_categories: [{id: 1, name: a}, {id: 2, name: b}]}",
            "classify: {internal_categories: [{id: 1, name: c}]}",
            "classify.internal_categories (2 entries before, 1 now)",
        ),
        (
            f"task_types: {{ocr: {{{SCHEMA}}}}}",
            "task_types: {ocr: {payload_schema: {type: object}}}",
            "task_types.ocr.payload_schema.required",
        ),
        # guards that allow more
        (
            "limits: {requests_per_minute: 5}",
            "limits: {requests_per_minute: 6}",
            "limits.requests_per_minute (5 before, 6 now)",
        ),
        (
            "limits: {requests_per_minute: 5, queue_depth: 9}",
            "limits: {queue_depth: 9}",
            "limits.requests_per_minute (5 before, none now)",
        ),
        ("limits: {queue_depth: 5}", "limits: {}", "limits.queue_depth (5 before, 2e+06 now)"),
        (
            "callbacks: {allow_hosts: [a.example]}",
            "callbacks: {allow_hosts: []}",
            "callbacks.allow_hosts (allows more)",
        ),
        ("callbacks: {allow_hosts: [a.example]}", "callbacks: {}", "callbacks.allow_hosts (allows more)"),
        (
            "callbacks: {allow_hosts: [a.example]}",
            "callbacks: {allow_hosts: [b.example]}",
            "callbacks.allow_hosts (allows more)",
        ),
        (
            "callbacks: {allow_hosts: [a.example]}",
            "callbacks: {allow_hosts: [a.example, b.example]}",
            "callbacks.allow_hosts (allows more)",
        ),
        (
            PRICED % ("budget_usd_per_day: 1", 10),
            PRICED % ("budget_usd_per_day: 2", 10),
            "providers.groq.budget_usd_per_day (1 before, 2 now)",
        ),
        (
            PRICED % ("budget_usd_per_day: 1", 10),
            PRICED % ("kinds: [llm]", 10),
            "providers.groq.budget_usd_per_day (1 before, none now)",
        ),
        (
            PRICED % ("kinds: [llm]", 10),
            PRICED % ("kinds: [llm]", 1),
            "providers.groq.models.openai/gpt-oss-20b.price.input_per_million (10 before, 1 now)",
        ),
        (
            "providers: {groq: {limits: {tokens_per_minute: 5}}}",
            "providers: {groq: {limits: {tokens_per_minute: 50}}}",
            "providers.groq.limits.tokens_per_minute (5 before, 50 now)",
        ),
        (
            "features: {use_runpod_for_high_priority: false}",
            "features: {use_runpod_for_high_priority: true}",
            "features.use_runpod_for_high_priority (false before, true now)",
        ),
        (
            "features: {enable_external_workers: false}",
            "features: {}",
            "features.enable_external_workers (false before, true now)",
        ),
        ("trust: {held: 20}", "trust: {held: 1}", "trust.held (20 before, 1 now)"),
        ("trust: {canary_share: 0.5}", "trust: {}", "trust.canary_share (0.5 before, 0.05 now)"),
        (
            "trust: {most_tokens_per_second: 10}",
            "trust: {most_tokens_per_second: 11}",
            "trust.most_tokens_per_second (10 before, 11 now)",
        ),
        (
            "retention: {completed_days: 30}",
            "retention: {completed_days: 3}",
            "retention.completed_days (30 before, 3 now)",
        ),
        (
            "retention: {}",
            "retention: {failed_days: 30}",
            "retention.failed_days (none before, 30 now)",
        ),
        ("leases: {most_held: 5}", "leases: {most_held: 6}", "leases.most_held (5 before, 6 now)"),
        ("low: {}", "low: {llm: {paid: true}}", "low.llm.paid (false before, true now)"),
        (
            "low: {llm: {paid: true, providers: [groq]}}",
            "low: {llm: {paid: true}}",
            "low.llm.providers (allows more)",
        ),
        (
            f"task_types: {{ocr: {{{SCHEMA}}}}}",
            "task_types: {ocr: {model: x}}",
            "task_types.ocr.payload_schema (allows more)",
        ),
        (
            "spaces: {bge-m3: {min_cosine: 0.99}}",
            "spaces: {bge-m3: {min_cosine: 0.5}}",
            "spaces.bge-m3.min_cosine (0.99 before, 0.5 now)",
        ),
        (
            "clients: {shop: {requests_per_minute: 5}}",
            "clients: {shop: {usd_per_day: 1}}",
            "clients.shop.requests_per_minute (5 before, none now)",
        ),
        (
            "limits: {requests_per_minute: 5}",
            "limits: {requests_per_minute: 5}\nclients: {shop: {requests_per_minute: 6}}",
            "clients.shop.requests_per_minute (5 before, 6 now)",
        ),
        (
            "clients: {shop: {usd_per_day: 1}}",
            "clients: {shop: {usd_per_day: 2}}",
            "clients.shop.usd_per_day (1 before, 2 now)",
        ),
        ("llm: {}", "clients: {shop: {sees: [jobs]}}\nllm: {}", "clients.shop.sees (allows more)"),
        (
            "clients: {shop: {sees: [jobs]}}",
            "clients: {shop: {sees: [backend]}}",
            "clients.shop.sees (allows more)",
        ),
        ("clients: {sql_rows: a}", "clients: {sql_rows: b}", "clients.sql_rows (allows more)"),
        ("clients: {sql_rows: a}", "clients: {}", "clients.sql_rows (allows more)"),
        ("clients: {shop: {}}", "clients: {}", "clients.shop"),
        ("llm:\n  max_tokens: 50", "llm:\n  max_tokens: 5", "the end of the file"),
    ],
)
def test_what_is_lost_or_loosened_is_named(before: str, after: str, named: str) -> None:
    assert lost(before, after) == (named,)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (WHOLE, WHOLE),
        (WHOLE, f"# a comment\n{WHOLE}\nscore: {{timeout_ms: 5000}}\n"),
        (f"{WHOLE}# a comment\n", WHOLE),
        (WHOLE, WHOLE.replace("groq\n", "groq\n  max_tokens: 50\n", 1)),
        ("llm: {max_tokens: 5}", "llm: {max_tokens: 50}"),
        ("leases: {seconds: 30}", "leases: {seconds: 60}"),
        ("limits: {requests_per_minute: 5}", "limits: {requests_per_minute: 4}"),
        ("limits: {}", "limits: {requests_per_minute: 4}"),
        ("callbacks: {}", "callbacks: {allow_hosts: [a.example]}"),
        ("callbacks: {allow_hosts: [a.example, b.example]}", "callbacks: {allow_hosts: [b.example]}"),
        ("retention: {completed_days: 3}", "retention: {completed_days: 30}"),
        ("retention: {completed_days: 3}", "retention: {}"),
        ("low: {llm: {paid: true}}", "low: {llm: {}}"),
        ("low: {llm: {paid: true}}", "low: {llm: {paid: true, providers: [groq]}}"),
        ("trust: {held: 1}", "trust: {held: 20}"),
        ("llm: {}", "llm: {}\nclients: {shop: {requests_per_minute: 5, usd_per_day: 1}, sql_rows: a}"),
        ("clients: {shop: {sees: [jobs]}}", "clients: {shop: {}}"),
        (
            "limits: {requests_per_minute: 5}\nclients: {shop: {requests_per_minute: 9}}",
            "limits: {requests_per_minute: 5}\nclients: {shop: {tokens_per_minute: 9}}",
        ),
        ("trust: {held: 1}", "trust: {}"),
        ("llm: {fallbacks: [gemini]}", "llm: {fallbacks: [groq]}"),
        ("llm: {}", "llm: {}\nrouting: {cache: {}, hedge: {}}"),
        ("llm: {}\nend: true", "llm: {}\nversion: 5"),
    ],
)
def test_an_edit_that_adds_changes_or_tightens_loses_nothing(before: str, after: str) -> None:
    assert lost(before, after) == ()


def test_a_lost_section_is_named_once_and_not_again_by_its_guards() -> None:
    assert lost(WHOLE, WHOLE.partition("features:")[0]) == ("features", "callbacks", "limits")


def test_the_guards_are_not_all_plain() -> None:
    guards = {place.split(".")[0] for place, rule in RULES.items() if rule is not plain}

    assert guards >= {"callbacks", "limits", "providers", "trust", "retention", "leases", "features", "low"}
