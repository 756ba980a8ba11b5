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
from gifty_compute.providers.completion import Prompt, ending, finished, metered, streamed
from gifty_compute.providers.exchange import Exchange, as_object, event_object
from gifty_compute.providers.failures import bad_answer, by_status, not_served
from gifty_compute.providers.foreign import count, dig
from gifty_compute.providers.rejection import Rejection
from gifty_compute.providers.rows import float_rows, portions, total_usage
from gifty_compute.transport.base import HttpResponse, Transport
from gifty_compute.wire.finish import REFUSED

__all__ = ["GeminiProvider"]

_VERSION = "v1beta"
# Reported of the API: more in one batchEmbedContents is a 400.
_TEXTS_PER_CALL = 100
_TASKS = {"query": "RETRIEVAL_QUERY", "passage": "RETRIEVAL_DOCUMENT"}
_ROLES = {"user": "user", "assistant": "model"}
# The account, not the request, has broken the rules.
_ACCOUNT_LIMITED = "PUP_LIMITED_DISABLED"
_BLOCKED = "blockReason "
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
        return streamed(ask, events, partial(_piece, ask))

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
        answer = as_object(response)
        ask.meter.tell(_usage(answer))
        return answer


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
    text, said = _text(body), _said(ask, body)
    if said is None and dig(body, "candidates", 0) is None:
        raise bad_answer("answered without a candidate")
    return Reply(finished(ask, text, _reason(ask, said), said), _usage(body))


def _piece(ask: Ask, data: bytes) -> Delta:
    chunk = event_object(data)
    said, usage = _said(ask, chunk), _usage(chunk)
    ask.meter.tell(usage)
    parts = dig(chunk, "candidates", 0, "content", "parts")
    thought = any(dig(part, "thought") is True for part in parts) if isinstance(parts, list) else False
    reason = _reason(ask, said) if said else None
    return metered(ask, Delta(_text(chunk), reason, usage, said=said, is_thinking=thought))


def _text(body: dict[str, Any]) -> str:
    """The text of the first candidate without its thoughts; empty where it has no parts."""
    parts = dig(body, "candidates", 0, "content", "parts") or []
    if not isinstance(parts, list):
        raise bad_answer("answered parts that are no list")
    texts = [dig(part, "text") or "" for part in parts if dig(part, "thought") is not True]
    if not all(isinstance(text, str) for text in texts):
        raise bad_answer("answered a part whose text is none")
    return "".join(texts)


def _said(ask: Ask, body: dict[str, Any]) -> Any:
    """Gemini's word for the end of the answer; None while it has not ended.

    Raises ProviderError for an error in place of an answer.
    """
    if body.get("error"):
        raise _judge(Rejection.inside(body["error"], ask))
    said = dig(body, "candidates", 0, "finishReason")
    if said == _ACCOUNT_LIMITED:
        raise by_status(200, failure=Failure.CONFIG, code="account_limited", reason=_ACCOUNT_LIMITED)
    # A blocked prompt has no candidates, and status 200.
    blocked = dig(body, "promptFeedback", "blockReason") if said is None else None
    return f"{_BLOCKED}{blocked}" if blocked else said


def _reason(ask: Ask, said: Any) -> str:
    return REFUSED if isinstance(said, str) and said.startswith(_BLOCKED) else ending(ask, said)


def _usage(body: dict[str, Any]) -> Usage | None:
    """Thoughts are billed as output; what came from the cache is part of the prompt's count."""
    used = body.get("usageMetadata")
    read = count(dig(used, "promptTokenCount"))
    if read is None:
        return None
    written = ("candidatesTokenCount", "thoughtsTokenCount")
    return Usage(read, sum(count(dig(used, name)) or 0 for name in written))


def _error(ask: Ask, response: HttpResponse) -> ProviderError:
    return _judge(Rejection.of(response, ask))


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
