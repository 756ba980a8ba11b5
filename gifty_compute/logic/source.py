"""Where Logic comes from: a YAML file, read and validated as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic import defaults
from gifty_compute.logic.file import LogicFile
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.reference import read_reference

__all__ = ["DEFAULT_LOGIC", "Overrides", "parse_logic", "read_logic", "read_text"]

Overrides = Mapping[str, str]
"""Keys of the section `llm` that the environment decides, as in Gifty's backend."""


def parse_logic(
    text: str, overrides: Overrides | None = None, *, name: str = "logic.yaml", folder: Path | None = None
) -> Logic:
    """The file's text as Logic. Raises InvalidConfig with the file, the key and the reason.

    The files that it names are looked for in the folder; they are read again only when the text changes.
    """
    overrides = overrides or {}
    raw = _loaded(text, name)
    if not isinstance(raw, dict | None):
        raise InvalidConfig(f"{name}: must hold keys and values, not a {type(raw).__name__}")
    raw = raw or {}
    if overrides and isinstance(raw.get("llm", {}), dict):
        raw["llm"] = {**raw.get("llm", {}), **overrides}
    for part, known in _KNOWN.items():
        raw[part] = _merged(known, raw.get(part) or {})
    try:
        file = _with_chosen_models(LogicFile.model_validate(raw))
    except ValidationError as error:
        reasons = "; ".join(
            f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}"
            for found in error.errors(include_url=False)
        )
        raise InvalidConfig(f"{name}: {reasons}") from error
    said = text + "".join(f"\n{key}={value}" for key, value in sorted(overrides.items()))
    try:
        references = {
            space: read_reference((folder or Path()) / section.reference, space, section.dim)
            for space, section in file.spaces.items()
            if section.reference is not None
        }
        return Logic(file, hashlib.sha256(said.encode()).hexdigest()[:12], references)
    except InvalidConfig as error:
        raise InvalidConfig(f"{name}: {error}") from error


def _loaded(text: str, name: str) -> Any:
    """The text as YAML. Raises InvalidConfig for everything that the library makes of bad text."""
    try:
        return yaml.safe_load(text)
    except RecursionError as error:
        raise InvalidConfig(f"{name}: not YAML: nested too deep") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-45
        raise InvalidConfig(f"{name}: not YAML: {error}") from error
    except (AttributeError, LookupError, TypeError) as error:  # `!!int ""`, `!!bool x`, `!!timestamp x`
        raise InvalidConfig(f"{name}: not YAML: a tag that does not fit its value") from error


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


def read_text(path: Path) -> str:
    """The file's text. Raises InvalidConfig, also when there is no such file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: cannot be read ({error}); LOGIC_CONFIG_PATH names another"
        raise InvalidConfig(message) from error


def read_logic(path: Path, overrides: Overrides | None = None) -> Logic:
    """Logic from this file. Raises InvalidConfig."""
    return parse_logic(read_text(path), overrides, name=str(path), folder=path.parent)


# What a worker without a logic.yaml of its own goes by.
DEFAULT_LOGIC = parse_logic("", name="the built-in defaults")
