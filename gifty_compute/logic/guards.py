"""The guards of logic.yaml: for every field, which of two values allows more to be done, paid or lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_origin

from pydantic import BaseModel

from gifty_compute.logic.file import LogicFile
from gifty_compute.logic.keys import section_of_others, sections_of

__all__ = ["RULES", "Rule", "leaves", "plain", "unclassified"]

Rule = Callable[[Any, Any], bool]
"""Whether the second value of a field allows more than the first."""


def plain(_before: object, _after: object) -> bool:
    """No guard: the value chooses between ways to work, it does not bound what may be done, paid or lost."""
    return False


def upper_limit(before: float | None, after: float | None) -> bool:
    """A larger number allows more; an absent one allows all.

    >>> upper_limit(5, None), upper_limit(5, 6), upper_limit(None, 5)
    (True, True, False)
    """
    return before is not None and (after is None or after > before)


def kept_for(before: float | None, after: float | None) -> bool:
    """A smaller number loses more; an absent one loses nothing.

    >>> kept_for(30, None), kept_for(30, 3), kept_for(None, 30)
    (False, True, True)
    """
    return after is not None and (before is None or after < before)


def price(before: float | None, after: float | None) -> bool:
    """A smaller number lets a budget last longer; an absent one counts nothing."""
    return (after or 0) < (before or 0)


def switch(before: bool, after: bool) -> bool:
    """True allows more."""
    return after and not before


def check(before: object, after: object) -> bool:
    """Its presence is the guard."""
    return before is not None and after is None


def allowed(before: tuple[Any, ...] | None, after: tuple[Any, ...] | None) -> bool:
    """A list allows what it names; an absent one allows all."""
    return before is not None and (after is None or bool(set(after) - set(before)))


def allowed_hosts(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    """As `allowed`, but an empty list allows all, too."""
    return allowed(before or None, after or None)


def granted(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    """A list grants what it names; an empty one grants nothing."""
    return bool(set(after) - set(before))


def bound(before: object, after: object) -> bool:
    """Another value, or none, hands what it guards to another client."""
    return before is not None and before != after


def unclassified(before: object, after: object) -> bool:
    """A field without a rule counts as a guard that every change loosens."""
    return before != after


RULES: Mapping[str, Rule] = {
    # Every field of logic.yaml, so that the author of a new one decides: a test compares. `*` is any name.
    "recommendation": plain,
    "experiments": plain,
    "version": plain,
    "end": plain,
    "llm.timeout_ms": plain,
    "llm.timeout_ms_per_1000_tokens": plain,
    "llm.timeout_ms_per_1000_answer_tokens": plain,
    "llm.silence_ms": plain,
    "llm.longest_stream_ms": upper_limit,
    "llm.max_timeout_ms": upper_limit,
    "llm.order": plain,
    "llm.default_provider": plain,
    "llm.fallbacks": plain,
    "llm.model_fast": plain,
    "llm.model_smart": plain,
    "llm.model_embedding": plain,
    "llm.embedding_provider": plain,
    "llm.max_tokens": plain,
    "features.use_runpod_for_high_priority": switch,
    "features.enable_external_workers": switch,
    "spaces.*.dim": plain,
    "spaces.*.revision": plain,
    "spaces.*.pooling": plain,
    "spaces.*.normalized": plain,
    "spaces.*.quantization": plain,
    "spaces.*.prefixes": plain,
    "spaces.*.default_input_type": plain,
    "spaces.*.reference": check,
    "spaces.*.min_cosine": kept_for,
    "models.*.kinds": plain,
    "models.*.engine": plain,
    "models.*.source": plain,
    "models.*.revision": plain,
    "models.*.directory": plain,
    "models.*.url": plain,
    "models.*.space": plain,
    "models.*.aliases": plain,
    "models.*.providers": plain,
    "providers.*.adapter": plain,
    "providers.*.kinds": plain,
    "providers.*.base_url": plain,
    "providers.*.proxy": plain,
    "providers.*.proxy_variable": plain,
    "providers.*.key_variable": plain,
    "providers.*.base_variable": plain,
    "providers.*.models.*.sampling": plain,
    "providers.*.models.*.effort": plain,
    "providers.*.models.*.structured": plain,
    "providers.*.models.*.applies_prefixes": plain,
    "providers.*.models.*.price.input_per_million": price,
    "providers.*.models.*.price.output_per_million": price,
    "providers.*.price.input_per_million": price,
    "providers.*.price.output_per_million": price,
    "providers.*.limits.requests_per_minute": upper_limit,
    "providers.*.limits.tokens_per_minute": upper_limit,
    "providers.*.budget_usd_per_day": upper_limit,
    "providers.*.reports_cost": switch,
    "providers.*.headers": plain,
    "providers.*.format": plain,
    "providers.*.endpoints": plain,
    "providers.*.usd_per_second": price,
    "providers.*.api_version": plain,
    "embedding.timeout_ms": plain,
    "embedding.timeout_ms_per_1000_tokens": plain,
    "embedding.max_timeout_ms": upper_limit,
    "embedding.order": plain,
    "embedding.model": plain,
    "embedding.providers": plain,
    "rerank.timeout_ms": plain,
    "rerank.timeout_ms_per_1000_tokens": plain,
    "rerank.max_timeout_ms": upper_limit,
    "rerank.order": plain,
    "rerank.model": plain,
    "rerank.providers": plain,
    "classify.timeout_ms": plain,
    "classify.timeout_ms_per_1000_tokens": plain,
    "classify.max_timeout_ms": upper_limit,
    "classify.order": plain,
    "classify.model": plain,
    "classify.providers": plain,
    "classify.internal_categories": plain,
    "classify.min_confidence": plain,
    "classify.llm_model": plain,
    "score.timeout_ms": plain,
    "score.timeout_ms_per_1000_tokens": plain,
    "score.max_timeout_ms": upper_limit,
    "score.order": plain,
    "score.model": plain,
    "score.providers": plain,
    "score.llm_model": plain,
    "score.notebook_scale": plain,
    "routing.max_attempts": upper_limit,
    "routing.breaker.failures": plain,
    "routing.breaker.open_seconds": plain,
    "routing.breaker.config_seconds": plain,
    "routing.cache.ttl_seconds": plain,
    "routing.singleflight": plain,
    "routing.microbatch.max_texts": plain,
    "routing.microbatch.in_flight": plain,
    "routing.hedge.percentile": plain,
    "routing.hedge.max_share": upper_limit,
    "routing.canary_seconds": upper_limit,
    "leases.seconds": plain,
    "leases.bare_seconds": plain,
    "leases.most_held": upper_limit,
    "limits.queue_depth": upper_limit,
    "limits.requests_per_minute": upper_limit,
    "clients.sql_rows": bound,
    "clients.*.sees": granted,
    "clients.*.kinds": allowed,
    "clients.*.models": allowed,
    "clients.*.providers": allowed,
    "clients.*.requests_per_minute": upper_limit,
    "clients.*.tokens_per_minute": upper_limit,
    "clients.*.usd_per_day": upper_limit,
    "low.*.paid": switch,
    "low.*.providers": allowed,
    "task_types.*.model": plain,
    "task_types.*.max_payload_bytes": upper_limit,
    "task_types.*.max_result_bytes": upper_limit,
    "task_types.*.payload_schema": check,
    "task_types.*.result_schema": check,
    "trust.held": kept_for,
    "trust.least_rate": kept_for,
    "trust.canary_share": kept_for,
    "trust.most_tokens_per_second": upper_limit,
    "trust.hold_seconds": plain,
    "callbacks.allow_hosts": allowed_hosts,
    "retention.completed_days": kept_for,
    "retention.failed_days": kept_for,
    "retention.cancelled_days": kept_for,
}


def leaves(model: type[BaseModel] = LogicFile, around: str = "") -> Iterator[str]:
    """The place of every plain value that a file may hold, with `*` for a name that the operator chooses."""
    for name, info in model.model_fields.items():
        sections = sections_of(info.annotation)
        if sections and get_origin(info.annotation) is dict:
            yield from leaves(sections[0], f"{around}{name}.*.")
        elif sections and get_origin(info.annotation) is not tuple:
            yield from leaves(sections[0], f"{around}{name}.")
        else:
            yield f"{around}{name}"
    others = section_of_others(model)
    if others is not None:
        yield from leaves(others, f"{around}*.")
