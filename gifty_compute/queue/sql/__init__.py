"""All SQL of the queue: named statements in the .sql files beside this module, of shared parts."""

from __future__ import annotations

import re
from importlib.resources import files

from sqlalchemy import TextClause, text

__all__ = ["QUERIES"]

# A :name in a comment would be taken for a parameter.
_COMMENT = re.compile(r"^\s*--.*$\n?", re.MULTILINE)
_HEADER = re.compile(r"^-- (name|part): (\w+)$", re.MULTILINE)
_PART = re.compile(r"\{(\w+)\}")


def _load() -> dict[str, TextClause]:
    written: dict[str, dict[str, str]] = {"name": {}, "part": {}}
    for file in sorted(files(__name__).iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".sql"):
            continue
        _, *pieces = _HEADER.split(file.read_text(encoding="utf-8"))
        for kind, name, body in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
            if name in written[kind]:
                raise ValueError(f"the {kind} {name} is given twice, once in {file.name}")
            written[kind][name] = _COMMENT.sub("", body).strip()

    def whole(body: str) -> str:
        return _PART.sub(lambda found: whole(written["part"][found[1]]), body)

    return {name: text(whole(body)) for name, body in written["name"].items()}


QUERIES = _load()
"""Statement by name; parameters are :named."""
