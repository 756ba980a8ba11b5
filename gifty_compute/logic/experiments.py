"""Ids of language models that only `experiments` or Gifty's own clients name, and what answers them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gifty_compute.errors import InvalidRequest
from gifty_compute.logic import defaults
from gifty_compute.logic.file import LogicFile, is_name

__all__ = ["BorrowedId", "borrowed_ids", "role_of_anothers"]

Role = Literal["fast", "smart"]

# Ids of a vendor that is no provider here, known by their beginning; open weights are of no vendor.
_OPENAI, _OPEN_WEIGHTS = ("gpt-", "chatgpt-"), "gpt-oss"


@dataclass(frozen=True)
class BorrowedId:
    """An id that a caller may send, though neither `models` nor `llm` of the file names it."""

    model_id: str
    place: str
    """Where it is named, as the keys and positions that lead there."""
    role: Role
    """What answers it where no provider of the route has it."""
    owner: str | None
    """The provider of the route that is asked for the id itself."""
    route: tuple[str, ...]

    def __str__(self) -> str:
        if self.owner is not None:
            return f"{self.place}: {self.model_id!r} is asked of {self.owner}"
        route = ", ".join(self.route)
        return (
            f"{self.place}: {self.model_id!r} is no id of a provider of the route ({route}): "
            f"it is answered by {self.role}"
        )


def borrowed_ids(file: LogicFile, named: Mapping[str, str]) -> dict[str, BorrowedId]:
    """By id, without what is `named` already: what the experiments name, then what Gifty's clients have."""
    route = tuple(dict.fromkeys((file.llm.default_provider, *file.llm.fallbacks)))
    found: dict[str, BorrowedId] = {}
    for place, model_id, role in (*_in_experiments(file.experiments), *_in_giftys_clients()):
        provider, _, rest = model_id.partition("/")
        is_told = rest and "llm" in getattr(file.providers.get(provider), "kinds", ())
        if model_id not in named and not is_told:
            owner = _owner(file, route, model_id)
            found.setdefault(model_id, BorrowedId(model_id, place, role, owner, route))
    return found


def _vendor_of(model_id: str) -> str | None:
    """The vendor that such ids are of, by their beginning; None where that says nothing.

    >>> _vendor_of("claude-haiku-4-5"), _vendor_of("gpt-4o"), _vendor_of("gpt-oss-20b")
    ('anthropic', 'openai', None)
    """
    if model_id.startswith(_OPENAI) and not model_id.startswith(_OPEN_WEIGHTS):
        return "openai"
    return next((owner for start, owner in defaults.OWNERS.items() if model_id.startswith(start)), None)


def role_of_anothers(
    file: LogicFile,
    provider: str,
    model_id: str,
    named: Mapping[str, str],
    borrowed: Mapping[str, BorrowedId],
) -> str | None:
    """The model that an id of another vendor than this provider stands for; None for an id of its own.

    Raises InvalidRequest for an id of another vendor that stands for nothing here. A server that only the
    file knows may have any id.
    """
    vendor = _vendor_of(model_id)
    is_known = provider in defaults.PROVIDERS and model_id not in file.providers[provider].models
    if not is_known or vendor in (None, provider):
        return None
    role = borrowed[model_id].role if model_id in borrowed else named.get(model_id)
    if role is None or provider not in file.models[role].providers:
        message = f"{model_id[:60]!r} is an id of {vendor}, not of {provider}"
        raise InvalidRequest(message, param="model", code="unknown_model")
    return role


def _owner(file: LogicFile, route: tuple[str, ...], model_id: str) -> str | None:
    """The provider of the route that has the id, by its beginning, or as the file or the defaults say."""
    family = _vendor_of(model_id)
    if family is not None:
        return family if family in route else None
    for provider in route:
        ids = {section.providers.get(provider) for section in file.models.values() if "llm" in section.kinds}
        if model_id in ids or model_id in file.providers[provider].models:
            return provider
    return None


def _in_giftys_clients() -> Iterator[tuple[str, str, Role]]:
    for model_id, role in defaults.GIFTY_IDS.items():
        yield "Gifty's clients", model_id, role


def _in_experiments(experiments: Any) -> Iterator[tuple[str, str, Role]]:
    """Every text under a key that speaks of a model, with the place of it and the role that its keys name.

    The section is Gifty's own, and may have any form. What YAML anchors repeat is looked at once.
    """
    seen: set[int] = set()
    left: list[tuple[tuple[str, ...], Any]] = [(("experiments",), experiments)]
    while left:
        path, value = left.pop()
        if isinstance(value, dict | list):
            if id(value) not in seen:
                seen.add(id(value))
                items = value.items() if isinstance(value, dict) else enumerate(value)
                left += reversed([((*path, str(key)), below) for key, below in items])
        elif isinstance(value, str) and is_name(value) and _speaks_of_a_model(path):
            yield ".".join(path), value, "smart" if any("smart" in key for key in path) else "fast"


def _speaks_of_a_model(path: tuple[str, ...]) -> bool:
    keys = [key.lower() for key in path]
    return any("model" in key for key in keys) and not any("embedding" in key for key in keys)
