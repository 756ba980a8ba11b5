"""Words: what a server says of its own error, in the forms that servers use. They may quote the input."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["of_body", "of_page"]

_NAMES = ("type", "status", "code", "error_type")
_SENTENCES = ("message", "msg", "detail", "error_message", "title", "reason")
# OpenRouter and LiteLLM pass on what the server behind them said.
_BEHIND = (("metadata", "raw"), ("provider_specific_fields", "error"))
_MOST_OF_A_LIST = 3
# A name that programmers coin; any other word may be out of an input.
_COINED = re.compile(r"[A-Za-z]+(_[A-Za-z]+)+|[A-Za-z]+(Error|Exception)")
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.I | re.S)
_LOOKED_AT = 4000


def of_body(body: Any) -> str | None:
    """The names and sentences of an error in JSON; None where it has none.

    >>> of_body({"error": {"message": "Overloaded", "type": "overloaded_error"}})
    'overloaded_error: Overloaded'
    >>> of_body({"detail": [{"loc": ["body", "input"], "msg": "field required"}]})
    'body.input: field required'
    """
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    found = _sentence(error) if isinstance(error, str) else _of_object(error or body)
    return found or None


def of_page(raw: bytes) -> str | None:
    """The title of an HTML page, or the beginning of a text that is no page; None for anything else."""
    start = raw[:_LOOKED_AT]
    found = _TITLE.search(start)
    if found is None and b"<" in start:
        return None
    text = (found[1] if found else start).decode("utf-8", "replace").strip()
    return text or None


def _of_object(error: Any) -> str:
    if not isinstance(error, dict):
        return ""
    said = [error.get(name) for name in _NAMES]
    names = [one for one in said if isinstance(one, str) and _COINED.fullmatch(one)]
    sentences = [found for name in _SENTENCES if (found := _sentence(error.get(name)))]
    behind = [error[outer].get(name) for outer, name in _BEHIND if isinstance(error.get(outer), dict)]
    sentences += [found for one in behind if (found := _sentence(one))]
    return ": ".join(part for part in (" ".join(dict.fromkeys(names)), "; ".join(sentences)) if part)


def _sentence(said: Any) -> str:
    if isinstance(said, str):
        return said.strip()
    if isinstance(said, list):
        rows = [row for row in said[:_MOST_OF_A_LIST] if isinstance(row, dict)]
        return "; ".join(filter(None, (_of_row(row) for row in rows)))
    return ""


def _of_row(row: dict[str, Any]) -> str:
    """One of FastAPI's faults of a field."""
    loc, said = row.get("loc"), row.get("msg")
    where = ".".join(str(part) for part in loc) if isinstance(loc, list) else ""
    return ": ".join(part for part in (where, said if isinstance(said, str) else "") if part)
