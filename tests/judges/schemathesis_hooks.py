"""What Schemathesis is told of this API beyond its document; it loads this file by SCHEMATHESIS_HOOKS."""

from __future__ import annotations

import json
import re
from typing import Any

import schemathesis
from hypothesis import strategies as st

_SECONDS = re.compile(r"[0-9.]+(e[+-]?[0-9]+)?")
_ORDINARY_TASKS = st.fixed_dictionaries(
    {
        "task_type": st.just("embedding"),
        "payload": st.fixed_dictionaries(
            {"texts": st.lists(st.sampled_from(["чай", "мёд"]), min_size=1, max_size=3)}
        ),
        "max_attempts": st.sampled_from([1, 5]),
    }
)


@schemathesis.serializer("application/x-ndjson")
def json_lines(context: Any, value: Any) -> bytes:
    """A text is the lines themselves; what is no text becomes one line that is no task."""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "surrogateescape")


@schemathesis.hook
def flatmap_case(context: Any, case: Any) -> Any:
    """Submits in a sequence, and half of the other valid ones, are of real work.

    By its schema alone a payload may be any object, and then nothing would be there to get or to cancel.
    """
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return st.just(case)
    as_it_is = st.nothing() if "stateful" in str(case.meta.phase.name).lower() else st.just(case)
    match case.operation.label:
        case "POST /v1/tasks":
            return as_it_is | _ORDINARY_TASKS.map(lambda task: _with_body(case, task))
        case "POST /v1/batches":
            lines = st.lists(_ORDINARY_TASKS.map(json.dumps), min_size=1, max_size=5).map("\n".join)
            return as_it_is | lines.map(lambda body: _with_body(case, body))
    return st.just(case)


def _with_body(case: Any, body: Any) -> Any:
    case.body = body
    for name in ("Idempotency-Key", "Content-Encoding"):
        case.headers.pop(name, None)
    case.query.clear()
    return case


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Nobody waits for a minute here: a valid `wait` becomes a short one."""
    wait = case.query.get("wait") if case.query else None
    wait = wait[0] if isinstance(wait, list) and len(wait) == 1 else wait
    if isinstance(wait, str | int | float) and _SECONDS.fullmatch(str(wait)) and 0 < float(wait) <= 60:
        case.query["wait"] = 0.01


@schemathesis.check
def errors_are_the_contracts(ctx: Any, response: Any, case: Any) -> None:
    """One shape for every error, and no 5xx but those that say that somebody else failed."""
    if response.status_code < 400:
        return
    body = json.loads(response.content)
    error = body["error"]
    assert set(error) == {"type", "code", "message", "param", "request_id"}, body
    assert [error["request_id"]] == response.headers["x-request-id"], response.headers
    workers = ("/internal/", "/api/v1/internal/", "/scale/")
    assert ("detail" in body) == case.path.startswith(workers), body
    if response.status_code == 503:
        assert int(response.headers["retry-after"][0]) >= 1
    elif response.status_code == 504:
        assert _names_its_time(case), body
    elif response.status_code >= 500:
        assert response.status_code == 502, body
        assert _asks_a_fake_for_json(case), body


def _names_its_time(case: Any) -> bool:
    """A caller that asks for an answer within a millisecond gets none, as the contract says it."""
    return isinstance(case.body, dict) and case.body.get("timeout_ms") is not None


def _asks_a_fake_for_json(case: Any) -> bool:
    """The fake model answers in prose, which is no JSON: every provider failed, as the contract says it."""
    body = case.body if isinstance(case.body, dict) else {}
    return case.path == "/v1/chat/completions" and isinstance(body.get("response_format"), dict)
