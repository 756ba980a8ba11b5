"""Dialects: what servers that speak OpenAI's form do otherwise, each in its own way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gifty_compute.errors import Failure, ProviderError
from gifty_compute.providers.foreign import amount, dig
from gifty_compute.providers.rejection import Rejection

__all__ = ["PLAIN", "Dialect", "dialect_of"]

# Codes that say more than their status does: nobody but the operator can mend these.
_CONFIG_CODES = frozenset({"insufficient_quota", "model_decommissioned", "model_not_found"})
# error.metadata of OpenRouter's 403 and 400 where the text was at fault, not the key.
_FLAGGED = ("flagged_input", "patterns", "reasons")
_REFUSALS = frozenset({"content_policy_violation", "refusal"})


def _plain_error(rejection: Rejection) -> ProviderError:
    code = rejection.says("code")
    if code in _CONFIG_CODES:
        return rejection.become(Failure.CONFIG, code)
    if rejection.status == 400 and rejection.names_model():
        return rejection.become(Failure.CONFIG, "model_not_found")
    return rejection.become(code=rejection.code("code") if rejection.status in (200, 400) else None)


def _groq_error(rejection: Rejection) -> ProviderError:
    if rejection.status == 413:
        # Also said of a request over the tokens of a minute; one over our own cap never gets here.
        return rejection.become(Failure.FAILOVER)
    if rejection.says("code") == "json_validate_failed":
        # The model broke its JSON mode, and may do better the next time.
        return rejection.become(Failure.RETRY, "json_validate_failed")
    return _plain_error(rejection)


def _openrouter_error(rejection: Rejection) -> ProviderError:
    if isinstance(rejection.error.get("availability"), dict):
        return _unavailable(rejection)
    kind = rejection.says("metadata", "error_type") or rejection.says("error_type")
    flagged = any(dig(rejection.error, "metadata", name) for name in _FLAGGED)
    if kind in _REFUSALS or (rejection.status == 403 and (flagged or rejection.begins("Request blocked"))):
        return rejection.become(Failure.FATAL, "refused")
    told = rejection.code("metadata", "error_type") or rejection.code("error_type")
    return rejection.become(code=told if rejection.status in (200, 400) else None)


def _unavailable(rejection: Rejection) -> ProviderError:
    """Nobody behind OpenRouter serves the model now: `availability` says whether that will pass."""
    rejection = rejection.waiting(amount(dig(rejection.error, "availability", "retry_after")))
    code = rejection.code("availability", "code")
    if dig(rejection.error, "availability", "retryable") is True:
        # OpenRouter has tried its other hosts already; without a time there is nothing to wait for.
        return rejection.become(Failure.FAILOVER if rejection.wait is None else Failure.RETRY, code)
    if dig(rejection.error, "availability", "excluded_by") == ["context_length"]:
        return rejection.become(Failure.FATAL, "too_large")
    return rejection.become(Failure.CONFIG, code)


def _plain_effort(effort: str) -> dict[str, Any]:
    return {"reasoning_effort": effort}


def _groq_effort(effort: str) -> dict[str, Any]:
    return _plain_effort("low" if effort == "minimal" else effort)


def _together_effort(effort: str) -> dict[str, Any]:
    return {"reasoning": {"enabled": False}} if effort == "none" else _groq_effort(effort)


def _openrouter_effort(effort: str) -> dict[str, Any]:
    return {"reasoning": {"effort": effort}}


@dataclass(frozen=True)
class Dialect:
    """How a server is spoken to; the values here are the plain form."""

    cap: str = "max_tokens"
    """The field that bounds the answer's tokens."""
    effort: Callable[[str], dict[str, Any]] = _plain_effort
    """The fields that ask for so much thinking; not every server has a word for every effort."""
    asks_for_usage: bool = True
    """Whether a stream tells its usage only on demand (`stream_options`)."""
    query_type: str = "query"
    passage_type: str = "passage"
    texts_per_call: int = 2048
    """At most so many texts in one call of /embeddings; OpenAI's own limit, and ours."""
    reranker: str = "unknown"
    """How its rerankers compare query and documents, where an answer does not say `kind`."""
    error: Callable[[Rejection], ProviderError] = _plain_error
    """What a rejection means here."""

    def input_type(self, kind: str) -> str:
        """What this server calls a query or a passage."""
        return self.query_type if kind == "query" else self.passage_type


PLAIN = Dialect()
_DIALECTS = {
    # x_groq.usage comes with every stream.
    "groq": Dialect(
        cap="max_completion_tokens", effort=_groq_effort, asks_for_usage=False, error=_groq_error
    ),
    # OpenRouter's reference: stream_options has no effect, usage is always there.
    "openrouter": Dialect(
        effort=_openrouter_effort,
        asks_for_usage=False,
        query_type="search_query",
        passage_type="search_document",
        reranker="cross-encoder",
        error=_openrouter_error,
    ),
    # No stream_options in Together's reference; about 100 texts a call is the advice of its own guides.
    "together": Dialect(
        effort=_together_effort, asks_for_usage=False, texts_per_call=100, reranker="cross-encoder"
    ),
}


def dialect_of(provider: str) -> Dialect:
    """The dialect of the provider of this name; any other server is taken to speak the plain form."""
    return _DIALECTS.get(provider, PLAIN)
