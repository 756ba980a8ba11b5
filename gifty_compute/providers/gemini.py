"""Google's Gemini API: generateContent and batchEmbedContents."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from gifty_compute.arrays import np, npt
from gifty_compute.errors import Failure, ProviderError
from gifty_compute.providers.base import Ask, Delta, Reply, Usage
from gifty_compute.providers.completion import CUT, REFUSED, STOPPED, Prompt, finished, streamed
from gifty_compute.providers.exchange import Exchange, as_object, event_object
from gifty_compute.providers.failures import bad_answer, by_status, not_served
from gifty_compute.providers.foreign import count, dig
from gifty_compute.providers.rejection import Rejection
from gifty_compute.providers.rows import float_rows, portions, total_usage
from gifty_compute.transport.base import HttpResponse, Transport

__all__ = ["GeminiProvider"]

_VERSION = "v1beta"
# Reported of the API: more in one batchEmbedContents is a 400.
_TEXTS_PER_CALL = 100
_TASKS = {"query": "RETRIEVAL_QUERY", "passage": "RETRIEVAL_DOCUMENT"}
_ROLES = {"user": "user", "assistant": "model"}
_REASONS = {
    "STOP": STOPPED,
    "MAX_TOKENS": CUT,
    "BLOCKLIST": REFUSED,
    "LANGUAGE": REFUSED,
    "MODEL_ARMOR": REFUSED,
    "PROHIBITED_CONTENT": REFUSED,
    "RECITATION": REFUSED,
    "SAFETY": REFUSED,
    "SPII": REFUSED,
}
# The account, not the request, has broken the rules.
_ACCOUNT_LIMITED = "PUP_LIMITED_DISABLED"
_SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


class GeminiProvider:
    """Language models and embeddings."""

    def __init__(self, transport: Transport) -> None:
        self._exchange = Exchange(transport)

    def run(self, ask: Ask) -> Reply:
        match ask.offer.ask_as:
            case "embedding":
                return self._embed(ask)
            case "llm":
                return _reply(ask, self._post(ask, "generateContent", _request(ask)))
        raise not_served(ask)

    def stream(self, ask: Ask) -> Iterator[Delta]:
        path = _path(ask, "streamGenerateContent") + "?alt=sse"
        # Without the server's timeout: a stream may last as long as it flows.
        headers = {"x-goog-api-key": ask.site.key}
        events = self._exchange.events(ask, path, _request(ask), headers=headers, judge=partial(_error, ask))
        return streamed(events, _piece)

    def _embed(self, ask: Ask) -> Reply:
        """All texts, in as many calls one after the other as the API's limit asks for."""
        rows: list[Any] = []
        usages: list[Usage | None] = []
        for texts in portions(ask.texts, _TEXTS_PER_CALL):
            request = {"requests": [_embedding_request(ask, text) for text in texts]}
            body = self._post(ask, "batchEmbedContents", request)
            found = body.get("embeddings")
            # They have no index: they come in the order of the texts, and only their number can be checked.
            if not isinstance(found, list) or len(found) != len(texts):
                raise bad_answer(f"did not answer one embedding for each of {len(texts)} texts")
            rows += [dig(row, "values") for row in found]
            usages.append(_usage(body))
        vectors = float_rows(rows)
        if ask.space is not None and ask.space.normalized:
            vectors = _normalized(vectors)
        return Reply({"embeddings": vectors}, total_usage(usages))

    def _post(self, ask: Ask, method: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self._exchange.send(ask, _path(ask, method), body, headers=_headers(ask))
        if response.status != 200:
            raise _error(ask, response)
        return as_object(response)


def _path(ask: Ask, method: str) -> str:
    version = ask.offer.section.api_version or _VERSION
    # A caller may name any model of a provider: nothing of its name may be read as a path.
    return f"/{version}/models/{quote(ask.offer.model_id, safe='')}:{method}"


def _headers(ask: Ask) -> Mapping[str, str]:
    seconds = max(1, math.ceil(ask.deadline.remaining))
    return {"x-goog-api-key": ask.site.key, "x-server-timeout": str(seconds)}


def _embedding_request(ask: Ask, text: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "model": f"models/{ask.offer.model_id}",
        "content": {"parts": [{"text": text}]},
    }
    if ask.space is not None:
        fields["outputDimensionality"] = ask.space.dim
    # A space with prefixes tells queries from passages in the text itself, as the newer embedders want it.
    if ask.space is None or not ask.space.prefixes or ask.input_type:
        fields["taskType"] = _TASKS[ask.payload["input_type"]]
    return fields


def _normalized(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Of length 1; Gemini's own are only at their full dimension. A vector of zeros stays what it is."""
    normalized = vectors.copy()
    # What is infinite or too long becomes NaN here, which the check of the result refuses.
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, norms, out=normalized, where=norms > 0)
    return normalized


def _request(ask: Ask) -> dict[str, Any]:
    prompt = Prompt.of(ask)
    config = _generation_config(ask, prompt)
    body: dict[str, Any] = {
        "contents": [
            {"role": _ROLES[turn["role"]], "parts": [{"text": turn["content"]}]} for turn in prompt.turns
        ],
        "generationConfig": config,
    }
    if prompt.system:
        body["systemInstruction"] = {"parts": [{"text": prompt.system}]}
    return body


def _generation_config(ask: Ask, prompt: Prompt) -> dict[str, Any]:
    payload, flags = ask.payload, ask.offer.flags
    fields = {
        "maxOutputTokens": payload.get("max_tokens"),
        "temperature": payload.get("temperature") if flags.sampling else None,
        "stopSequences": payload.get("stops"),
        "responseMimeType": "application/json" if prompt.form in ("schema", "json") else None,
        # responseSchema would take OpenAPI's schemas, not JSON's.
        "responseJsonSchema": prompt.schema,
        "thinkingConfig": _thinking(flags.effort),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _thinking(effort: str | None) -> dict[str, Any] | None:
    if effort is None:
        return None
    return {"thinkingBudget": 0} if effort == "none" else {"thinkingLevel": effort.upper()}


def _reply(ask: Ask, body: dict[str, Any]) -> Reply:
    text, reason = _text(body), _reason(body)
    if reason is None:
        raise bad_answer("answered without a finished candidate")
    return Reply(finished(ask, text, reason), _usage(body))


def _piece(data: bytes) -> Delta:
    chunk = event_object(data)
    parts = dig(chunk, "candidates", 0, "content", "parts")
    thought = any(dig(part, "thought") is True for part in parts) if isinstance(parts, list) else False
    return Delta(_text(chunk), _reason(chunk), _usage(chunk), is_thinking=thought)


def _text(body: dict[str, Any]) -> str:
    """The text of the first candidate without its thoughts; empty where it has no parts."""
    parts = dig(body, "candidates", 0, "content", "parts") or []
    if not isinstance(parts, list):
        raise bad_answer("answered parts that are no list")
    texts = [dig(part, "text") or "" for part in parts if dig(part, "thought") is not True]
    if not all(isinstance(text, str) for text in texts):
        raise bad_answer("answered a part whose text is none")
    return "".join(texts)


def _reason(body: dict[str, Any]) -> str | None:
    """Why the answer ended; None while it has not. Raises ProviderError for an end that leaves no answer."""
    if body.get("error"):
        raise _judge(Rejection.inside(body["error"]))
    said = dig(body, "candidates", 0, "finishReason")
    if said is None:
        # A blocked prompt has no candidates, and status 200.
        return REFUSED if dig(body, "promptFeedback", "blockReason") else None
    if said == _ACCOUNT_LIMITED:
        raise by_status(200, failure=Failure.CONFIG, code="account_limited")
    reason = _REASONS.get(str(said))
    if reason is None:
        raise bad_answer("the answer ended for a reason that makes it none")
    return reason


def _usage(body: dict[str, Any]) -> Usage | None:
    """Thoughts are billed as output; what came from the cache is part of the prompt's count."""
    used = body.get("usageMetadata")
    read = count(dig(used, "promptTokenCount"))
    if read is None:
        return None
    written = ("candidatesTokenCount", "thoughtsTokenCount")
    return Usage(read, sum(count(dig(used, name)) or 0 for name in written))


def _error(ask: Ask, response: HttpResponse) -> ProviderError:
    return _judge(Rejection.of(response, ask.deadline.clock.now()))


def _judge(rejection: Rejection) -> ProviderError:
    details = rejection.error.get("details")
    details = details if isinstance(details, list) else []
    rejection = rejection.waiting(_retry_delay(details))
    reasons = {dig(detail, "reason") for detail in details if isinstance(dig(detail, "reason"), str)}
    if rejection.status == 400 and any(reason.startswith("API_KEY_") for reason in reasons):
        # Here a bad key is a 400, not a 401.
        return rejection.become(Failure.CONFIG, "bad_key")
    if rejection.status == 400 and rejection.says("status") == "FAILED_PRECONDITION":
        # The country is not served, or billing is not set up.
        return rejection.become(Failure.CONFIG, "failed_precondition")
    if rejection.status == 429 and _is_daily(details):
        # Its RetryInfo speaks of seconds all the same.
        return rejection.become(Failure.CONFIG, "daily_quota")
    return rejection.become()


def _retry_delay(details: list[Any]) -> float | None:
    for detail in details:
        said = dig(detail, "retryDelay")
        found = _SECONDS.fullmatch(said) if isinstance(said, str) else None
        if found:
            return float(found[1])
    return None


def _is_daily(details: list[Any]) -> bool:
    violations = (dig(detail, "violations") for detail in details)
    return any(
        "PerDay" in str(dig(violation, "quotaId"))
        for found in violations
        if isinstance(found, list)
        for violation in found
    )
