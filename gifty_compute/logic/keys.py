"""The keys of logic.yaml: which a place of the file may have, and which of them a wrong key resembles."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from gifty_compute.logic.file import LogicFile

__all__ = ["did_you_mean", "foreign_switches", "known_keys", "section_of_others", "sections_of"]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence that names the known word most like this one; empty where none is like it.

    >>> did_you_mean("time_out_ms", ["timeout_ms", "order"])
    '; did you mean timeout_ms?'
    >>> did_you_mean("colour", ["timeout_ms", "order"])
    ''
    """
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def known_keys(place: Sequence[int | str], annotation: Any = LogicFile) -> tuple[str, ...]:
    """The keys that the section at this place of the file may have; none where the place has no fixed keys.

    >>> known_keys(["providers", "groq", "limits"])
    ('requests_per_minute', 'tokens_per_minute')
    >>> known_keys(["providers"])
    ()
    >>> known_keys(["clients", "shop"])[:2]
    ('sees', 'kinds')
    """
    sections, by_name = sections_of(annotation), get_origin(annotation) in (dict, tuple)
    if not sections or (by_name and not place):
        return ()
    if by_name:
        return known_keys(place[1:], sections[0])
    fields = sections[0].model_fields
    if not place:
        return tuple(fields)
    field = fields.get(str(place[0]))
    return known_keys(place[1:], field.annotation if field else section_of_others(sections[0]))


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """The section that a field of this type holds, alone, by name or in a list; empty for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for inner in get_args(annotation) for section in sections_of(inner)]


def section_of_others(section: type[BaseModel]) -> type[BaseModel] | None:
    """What each key holds that is no field of this section, but a name that the operator chose.

    >>> from gifty_compute.logic.file import ClientsSection
    >>> section_of_others(ClientsSection).__name__, section_of_others(LogicFile)
    ('ClientSection', None)
    """
    found = sections_of(get_type_hints(section).get("__pydantic_extra__"))
    return found[0] if found else None


def foreign_switches(file: LogicFile) -> tuple[str, ...]:
    """One sentence for each key of `features` that only Gifty's backend reads."""
    known = type(file.features).model_fields
    return tuple(
        f"features.{name}: not read by gifty-compute, carried through as it is{did_you_mean(name, known)}"
        for name in file.features.model_extra or {}
    )
