"""Where Logic comes from: a YAML file, and the files that it names, read and validated as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic import defaults
from gifty_compute.logic.contents import Contents, LogicFiles, contents_of
from gifty_compute.logic.document import Document
from gifty_compute.logic.file import LogicFile
from gifty_compute.logic.keys import did_you_mean, known_keys
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.reading import BoundedReads
from gifty_compute.logic.reference import Reference, parse_reference

__all__ = ["DEFAULT_LOGIC", "Overrides", "logic_of", "parse_logic", "read_logic"]

Overrides = Mapping[str, str]
"""Keys of the section `llm` that the environment decides, as in Gifty's backend."""


def logic_of(contents: Contents, overrides: Overrides | None = None, *, name: str = "logic.yaml") -> Logic:
    """What was read, as Logic. Raises InvalidConfig with the file, the key, its line and the reason."""
    if isinstance(contents.document, InvalidConfig):
        raise InvalidConfig(str(contents.document)) from contents.document
    overrides = overrides or {}
    file = _validated(contents.document, overrides, name)
    try:
        references = _references(file, contents)
        return Logic(file, _version(contents, overrides), references, contents.document)
    except InvalidConfig as error:
        raise InvalidConfig(f"{name}: {error}") from error


def parse_logic(
    text: str, overrides: Overrides | None = None, *, name: str = "logic.yaml", folder: Path = Path()
) -> Logic:
    """The text as Logic; the files that it names are read from the folder. Raises InvalidConfig."""
    return logic_of(contents_of(text, name, folder, BoundedReads()), overrides, name=name)


def read_logic(path: Path, overrides: Overrides | None = None) -> Logic:
    """Logic from this file and those that it names. Raises InvalidConfig."""
    return logic_of(LogicFiles(path).read(), overrides, name=str(path))


def _validated(document: Document, overrides: Overrides, name: str) -> LogicFile:
    raw = dict(document.said)
    if overrides and isinstance(raw.get("llm", {}), dict):
        raw["llm"] = {**raw.get("llm", {}), **overrides}
    for part, known in _KNOWN.items():
        raw[part] = _merged(known, raw.get(part, {}))
    try:
        return _with_chosen_models(LogicFile.model_validate(raw))
    except ValidationError as error:
        reasons = "; ".join(
            _reason(found["loc"], found["msg"], found["type"], document)
            for found in error.errors(include_url=False)
        )
        raise InvalidConfig(f"{name}: {reasons}") from error


def _reason(place: tuple[int | str, ...], message: str, kind: str, document: Document) -> str:
    line = document.line(place)
    written = ".".join(str(part) for part in place)
    like = ""
    if kind == "extra_forbidden":
        like = did_you_mean(str(place[-1]), known_keys(place[:-1]))
    return f"{written}: {message}" + (f" (line {line})" if line else "") + like


def _version(contents: Contents, overrides: Overrides) -> str:
    """Of a file that names no other: the beginning of its SHA-256."""
    decided = "".join(f"\n{key}={value}" for key, value in sorted(overrides.items()))
    if not contents.named:
        return hashlib.sha256((contents.text + decided).encode()).hexdigest()[:12]
    return hashlib.sha256((contents.digest + decided).encode()).hexdigest()[:12]


def _references(file: LogicFile, contents: Contents) -> dict[str, Reference]:
    """Of the spaces that have one. Raises InvalidConfig."""
    found = {}
    for space, section in file.spaces.items():
        if section.reference is not None:
            try:
                found[space] = parse_reference(
                    contents.bytes_of(section.reference), section.reference, space, section.dim
                )
            except InvalidConfig as error:
                raise InvalidConfig(f"spaces.{space}.reference: {error}") from error
    return found


_KNOWN: dict[str, Any] = {
    "spaces": {name: section.model_dump() for name, section in defaults.SPACES.items()},
    "models": {name: section.model_dump() for name, section in defaults.MODELS.items()},
    "providers": {name: section.model_dump() for name, section in defaults.PROVIDERS.items()},
}


def _merged(known: Any, said: Any) -> Any:
    """What the file says over what everybody knows; lists are replaced, mappings are merged."""
    if not (isinstance(known, dict) and isinstance(said, dict)):
        return said
    return {**known, **{key: _merged(known.get(key), value) for key, value in said.items()}}


def _with_chosen_models(file: LogicFile) -> LogicFile:
    """llm.model_fast and llm.model_smart, entered where their provider's id of `fast` and `smart` stands."""
    models = dict(file.models)
    for name, chosen in (("fast", file.llm.model_fast), ("smart", file.llm.model_smart)):
        if chosen is not None:
            owner = next(
                (owner for start, owner in defaults.OWNERS.items() if chosen.startswith(start)),
                file.llm.default_provider,
            )
            ids = {**models[name].providers, owner: chosen}
            models[name] = models[name].model_copy(update={"providers": ids})
    return file.model_copy(update={"models": models})


# What a worker without a logic.yaml of its own goes by.
DEFAULT_LOGIC = logic_of(Contents("", Document({})), name="the built-in defaults")
