"""JSON Schemas of logic.yaml: refused with the file if they cannot be followed, and then what values meet."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

__all__ = ["Schema"]

# The most telling of the first few: a value may break the schema in each of its elements.
_ENOUGH_ERRORS = 10
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


class Schema:
    """A schema that refers to nothing outside of itself: checking a value asks nobody."""

    def __init__(self, document: dict[str, Any]) -> None:
        """Raises ValueError, which names the place, for what is no JSON Schema."""
        try:
            # No part of a worker's install, which checks nothing by it.
            jsonschema = importlib.import_module("jsonschema")
            referencing = importlib.import_module("referencing")
        except ModuleNotFoundError as error:
            raise ValueError(f"needs {error.name}: pip install 'gifty-compute[server]'") from error
        kind = jsonschema.validators.validator_for(document, default=jsonschema.Draft202012Validator)
        try:
            kind.check_schema(document)
        except jsonschema.SchemaError as error:
            raise ValueError(f"{error.json_path}: {error.message[:200]}") from error
        self._best_match = jsonschema.exceptions.best_match
        self._validator = kind(document, registry=referencing.Registry())
        _refuse_lost_references(document, referencing)
        self.flaw({})

    def flaw(self, value: Any) -> str | None:
        """Where the value breaks the schema, and which rule, without a word of the value itself."""
        try:
            error = self._best_match(islice(self._validator.iter_errors(value), _ENOUGH_ERRORS))
        except RecursionError:
            return "$: nested deeper than the schema can be followed"
        return None if error is None else f"{error.json_path}: breaks the schema's {error.validator!r}"


def _refuse_lost_references(document: dict[str, Any], referencing: Any) -> None:
    specification = importlib.import_module("referencing.jsonschema").DRAFT202012
    resource = referencing.Resource.from_contents(document, default_specification=specification)
    resolver = referencing.Registry().with_resource("", resource).resolver("")
    for name, target in _words(document):
        if name == "$id":
            raise ValueError("$id: a schema here has no address; refer to its parts as #/$defs/name")
        if not target.startswith("#"):
            raise ValueError(f"{name}: {target[:100]!r} is elsewhere, and nothing is fetched")
        try:
            resolver.lookup(target)
        except referencing.exceptions.Unresolvable as error:
            raise ValueError(f"{name}: there is no {target[:100]!r}") from error


def _words(value: Any) -> Iterator[tuple[str, str]]:
    """What of the document leads elsewhere."""
    if isinstance(value, dict):
        yield from ((n, v) for n, v in value.items() if n in (*_REFERENCES, "$id") and isinstance(v, str))
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _words(one)
