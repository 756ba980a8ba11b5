"""One provider on the other side of the wire, and what several of them share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.fakes.vectors import DIMENSIONS, vector

__all__ = [
    "CHAT_TEXT",
    "PIECES",
    "Body",
    "Refused",
    "Vendor",
    "bearer",
    "chat",
    "embedding",
    "need",
    "openai_rows",
    "ranked",
    "relevance",
    "said",
]

Body = dict[str, Any]
CHAT_TEXT = "Подарите удочку."
PIECES = ("Подарите ", "удочку", ".")


class Refused(Exception):
    """The vendor would answer this status."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


@dataclass(frozen=True)
class Vendor:
    """One provider: `answer(path, body)` gives JSON, or the events of a stream as a list of bytes."""

    authorize: Callable[[Mapping[str, str]], bool]
    answer: Callable[[str, Body], Any]
    error: Callable[[int, str], Any]
    inside: Any
    """An error within a 200, in this vendor's form."""
    rows: Callable[[Any], list[Any] | None]
    """The list of rows in an answer, and None for one without."""
    vector_of: Callable[[Any], tuple[Any, str | int]] = lambda row: (row, "embedding")
    """Where the vector of a row is."""
    method: Callable[[str], str] = lambda path: "POST"
    """How this path is asked."""


def bearer(headers: Mapping[str, str]) -> bool:
    return headers.get("authorization") == "Bearer good-key"


def need(body: Body, required: set[str], allowed: set[str] | None = None) -> None:
    missing = required - set(body)
    if missing:
        raise Refused(422, f"missing {sorted(missing)}")
    strange = set(body) - required - (allowed or set())
    if allowed is not None and strange:
        raise Refused(422, f"unknown {sorted(strange)}")


def embedding(model: str, text: str) -> list[float]:
    if model not in DIMENSIONS:
        raise Refused(404, f"no model {model}")
    return [float(x) for x in vector(model, text)]


def openai_rows(body: Body) -> list[Body]:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    return [
        {"object": "embedding", "embedding": embedding(body["model"], text), "index": index}
        for index, text in enumerate(texts)
    ]


def relevance(query: str, document: str) -> float:
    words = set(query.lower().split())
    return (1 + len(words & set(document.lower().split()))) / (2 + len(words))


def said(asked_for_json: bool, *words: Any) -> str:
    """A model's answer: JSON where it is asked for, be it in words."""
    return json.dumps({"ok": True}) if asked_for_json or "JSON" in json.dumps(words) else CHAT_TEXT


def chat(body: Body, *, roles_in_all_pieces: bool = False, **more: Any) -> Any:
    need(body, {"model", "messages"})
    if any(turn.get("role") not in ("system", "user", "assistant") for turn in body["messages"]):
        raise Refused(400, "a role")
    about = {"id": "chatcmpl-9", "created": 1, "model": body["model"], **more}
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    if not body.get("stream"):
        text = said("response_format" in body, body["messages"])
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {**about, "object": "chat.completion", "choices": [choice], "usage": usage}
    events: list[Body] = []
    for number, piece in enumerate(PIECES):
        delta = {"content": piece} | ({"role": "assistant"} if number == 0 or roles_in_all_pieces else {})
        events.append({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    last = {"role": "assistant", "content": ""} if roles_in_all_pieces else {}
    events.append({"choices": [{"index": 0, "delta": last, "finish_reason": "stop"}]})
    events.append({"choices": [], "usage": usage})
    chunks = [{**about, "object": "chat.completion.chunk", **event} for event in events]
    return [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks] + [b"data: [DONE]\n\n"]


def ranked(body: Body, field: str, *, best_first: bool = True) -> list[Body]:
    rows = [
        {"index": index, "relevance_score": relevance(body["query"], document)}
        for index, document in enumerate(body[field])
    ]
    return sorted(rows, key=lambda row: -row["relevance_score"]) if best_first else rows
