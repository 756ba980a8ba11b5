"""All SQL of the queue: named statements in the .sql files beside this module."""

from __future__ import annotations

import re
from importlib.resources import files

from sqlalchemy import TextClause, text

__all__ = ["QUERIES"]

# A :name in a comment would be taken for a parameter.
_COMMENT = re.compile(r"^\s*--.*$\n?", re.MULTILINE)
_HEADER = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def _load() -> dict[str, TextClause]:
    queries: dict[str, TextClause] = {}
    for file in sorted(files(__name__).iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".sql"):
            continue
        _, *parts = _HEADER.split(file.read_text(encoding="utf-8"))
        for name, body in zip(parts[::2], parts[1::2], strict=True):
            if name in queries:
                raise ValueError(f"two queries are named {name}, one of them in {file.name}")
            queries[name] = text(_COMMENT.sub("", body).strip())
    return queries


QUERIES = _load()
"""Statement by name; parameters are :named."""
