"""What a new version of logic.yaml loses: keys that the version in force says, and guards that it loosens.

A file that was cut off, merged badly or emptied loses something; so does an edit that means to. The two look
alike, so such a version waits before it is taken (`gifty_compute/logic/watch.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

from pydantic import BaseModel

from gifty_compute.logic.document import END_MARKS
from gifty_compute.logic.file import ClientSection, KindName, LogicFile, LowSection
from gifty_compute.logic.guards import RULES, leaves, plain, unclassified
from gifty_compute.logic.logic import KINDS, Logic

__all__ = ["losses"]


def losses(before: Logic, after: Logic) -> tuple[str, ...]:
    """What `after` loses of what `before` says or guards: one phrase each, with numbers but no other values.

    A key counts that the file of `before` says and that of `after` does not, or a list that became shorter.
    Of guards only the effect counts: to remove one that is stricter by default is no loss.
    """
    lost = dict(_lost_keys(before.document.said, after.document.said, ()))
    found = [phrase for place, phrase in lost.items() if _is_loss(place)]
    for place, was, now in _loosened(before.file, after.file):
        if not any(place[: len(gone)] == gone for gone in lost if _is_loss(gone)):
            found.append(f"{'.'.join(place)}{_from_to(was, now)}")
    text, whole = after.document.text.rstrip(), before.document.text.rstrip()
    if not found and after.document.said != before.document.said and text != whole and whole.startswith(text):
        found.append("the end of the file")
    return tuple(found)


_LEAVES = tuple(tuple(leaf.split(".")) for leaf in leaves())
_Place = tuple[str, ...]


def _lost_keys(before: Any, after: Any, place: _Place) -> Iterator[tuple[_Place, str]]:
    written = ".".join(place)
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            inner = (*place, str(key))
            if key in after:
                yield from _lost_keys(value, after[key], inner)
            elif inner not in [(mark,) for mark in END_MARKS]:
                yield inner, ".".join(inner)
    elif isinstance(before, dict | list) and type(before) is not type(after):
        yield place, written
    elif isinstance(before, list) and len(after) < len(before):
        yield place, f"{written} ({len(before)} entries before, {len(after)} now)"


def _is_loss(place: _Place) -> bool:
    """Whether a key's absence counts by itself; of a guard its effect counts instead."""
    rule = next((RULES.get(".".join(leaf)) for leaf in _LEAVES if _matches(leaf, place)), plain)
    return rule is plain


def _matches(leaf: _Place, place: _Place) -> bool:
    return len(leaf) == len(place) and all(part in ("*", key) for part, key in zip(leaf, place, strict=True))


def _loosened(before: LogicFile, after: LogicFile) -> Iterator[tuple[_Place, Any, Any]]:
    clients = _names(before.clients).keys() | _names(after.clients).keys()
    before, after = _spelled_out(before, clients), _spelled_out(after, clients)
    for leaf in _LEAVES:
        rule = RULES.get(".".join(leaf), unclassified)
        if rule is not plain:
            for place, was, now in _pairs(before, after, leaf, ()):
                if rule(was, now):
                    yield place, was, now


def _spelled_out(file: LogicFile, clients: Set[str]) -> LogicFile:
    """The file with what an absent name means: work that is not paid for, a client without a section."""
    low: dict[KindName, LowSection] = {kind: file.low.get(kind, LowSection()) for kind in KINDS}
    named = {name: _with_general_limit(file.clients.of(name), file) for name in clients}
    return file.model_copy(update={"low": low, "clients": file.clients.model_copy(update=named)})


def _with_general_limit(client: ClientSection, file: LogicFile) -> ClientSection:
    if client.requests_per_minute is not None:
        return client
    return client.model_copy(update={"requests_per_minute": file.limits.requests_per_minute})


def _pairs(before: Any, after: Any, leaf: _Place, place: _Place) -> Iterator[tuple[_Place, Any, Any]]:
    """The two values of a leaf, for each name that both versions have."""
    if not leaf:
        yield place, before, after
    elif leaf[0] == "*":
        old, new = _names(before), _names(after)
        for name in sorted(old.keys() & new.keys()):
            yield from _pairs(old[name], new[name], leaf[1:], (*place, name))
    else:
        was, now = (getattr(section, leaf[0], None) for section in (before, after))
        yield from _pairs(was, now, leaf[1:], (*place, leaf[0]))


def _names(sections: Any) -> dict[str, Any]:
    """The sections that stand under names which the operator chose."""
    return dict((sections.model_extra if isinstance(sections, BaseModel) else sections) or {})


def _from_to(was: Any, now: Any) -> str:
    """The change in words, where it is one of numbers."""
    if not all(one is None or isinstance(one, int | float) for one in (was, now)):
        return " (allows more)"
    return f" ({_number(was)} before, {_number(now)} now)"


def _number(value: float | None) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else f"{value:g}"
