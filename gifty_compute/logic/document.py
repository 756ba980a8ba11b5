"""The text of logic.yaml as keys and values: YAML without the parts in which a slip stays unseen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from gifty_compute.errors import InvalidConfig

__all__ = ["END_MARKS", "Document", "Place", "read_document"]

Place = tuple[str | int, ...]
"""Where something stands in the file: keys and positions in lists, from the outermost in."""

END_MARKS = ("end", "version")
"""Keys that show, where one of them is the last of the file, that nothing of it is cut off."""

_EMPTY = (
    "says nothing (empty, comments only, or null). A file that goes by the built-in defaults alone says so: "
    "`llm: {}`. To serve by the packaged model alone, let LOGIC_CONFIG_PATH name configs/logic.local.yaml"
)
_MOST_REPEATED = 10_000
# YAML 1.1 reads 02000 as 1024, in octal, and 1:30 as 90, to the base of 60.
_ODD_NUMBER = re.compile(r"[-+]?(0[0-9_]+|[1-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")
# Only Gifty's backend reads these sections, so their numbers are its own matter.
_FOREIGN = ("recommendation", "experiments")


@dataclass(frozen=True)
class Document:
    """What a file says, before any default is filled in."""

    said: dict[str, Any]
    lines: Mapping[Place, int] = field(default_factory=dict)
    """The line of each key and each entry of a list, counted from 1."""
    end_mark: str | None = None
    """The last key of the file, where it is one of END_MARKS."""
    text: str = ""

    def line(self, place: Place) -> int | None:
        """The line of this place, or else of the nearest one around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place)


def read_document(text: str, name: str) -> Document:
    """The text as keys and values. Raises InvalidConfig, which begins with the name of the file.

    Also refused: an empty document, a key that is there twice, a number that YAML does not read as decimal,
    an alias that contains itself, and aliases that repeat more than 10,000 values.
    """
    try:
        return _read(text)
    except InvalidConfig as error:
        raise InvalidConfig(f"{name}: {error}") from error
    except RecursionError as error:
        raise InvalidConfig(f"{name}: not YAML: nested too deep") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-45
        raise InvalidConfig(f"{name}: not YAML: {error}") from error
    except (AttributeError, LookupError, TypeError) as error:  # `!!int ""`, `!!bool x`, `!!timestamp x`
        raise InvalidConfig(f"{name}: not YAML: a tag that does not fit its value") from error


def _read(text: str) -> Document:
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            raise InvalidConfig(_EMPTY)
        walk = _Walk()
        walk.visit(root, ())
        end_mark = _end_mark(root)  # before the construction, which reorders merged keys
        said = loader.construct_document(root)
    finally:
        loader.dispose()
    if said is None or said == {}:
        raise InvalidConfig(_EMPTY)
    if not isinstance(said, dict):
        raise InvalidConfig(f"must hold keys and values, not a {type(said).__name__}")
    if end_mark is not None and said[end_mark] is None:
        raise InvalidConfig(f"{end_mark}: has no value; the file seems to be cut off")
    return Document(said, walk.lines, end_mark, text)


class _Walk:
    """One visit of every node of a file: notes lines, and raises InvalidConfig for what is refused."""

    def __init__(self) -> None:
        self.lines: dict[Place, int] = {}
        self._sizes: dict[yaml.Node, int] = {}
        self._around: set[yaml.Node] = set()
        self._repeated = 0

    def visit(self, node: yaml.Node, place: Place) -> int:
        """How many values the node holds, itself included and aliases written out."""
        if node in self._around:
            raise InvalidConfig(f"{_written(place)}: an alias that contains itself")
        if node in self._sizes:
            self._repeated += self._sizes[node]
            if self._repeated > _MOST_REPEATED:
                raise InvalidConfig(f"{_written(place)}: aliases repeat more than {_MOST_REPEATED} values")
            return self._sizes[node]
        self._around.add(node)
        size = 1 + self._visit_inner(node, place)
        self._around.remove(node)
        self._sizes[node] = size
        return size

    def _visit_inner(self, node: yaml.Node, place: Place) -> int:
        if isinstance(node, yaml.MappingNode):
            self._refuse_duplicates(node, place)
            return sum(self._visit_entry(value, (*place, _key(key)), key) for key, value in node.value)
        if isinstance(node, yaml.SequenceNode):
            return sum(self._visit_entry(one, (*place, n), one) for n, one in enumerate(node.value))
        self._refuse_odd_number(node, place)
        return 0

    def _visit_entry(self, node: yaml.Node, place: Place, begins: yaml.Node) -> int:
        self.lines[place] = _line(begins)
        return self.visit(node, place)

    def _refuse_duplicates(self, node: yaml.MappingNode, place: Place) -> None:
        seen: dict[tuple[str, str], yaml.Node] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            first = seen.setdefault((key.tag, key.value), key)
            if first is not key:
                lines = f"in line {_line(first)} and in line {_line(key)}"
                raise InvalidConfig(f"{_written((*place, _key(key)))}: is there twice, {lines}; keep one")

    def _refuse_odd_number(self, node: yaml.Node, place: Place) -> None:
        is_foreign = bool(place) and place[0] in _FOREIGN
        is_quoted = not isinstance(node, yaml.ScalarNode) or node.style is not None
        if not (is_foreign or is_quoted) and _ODD_NUMBER.fullmatch(node.value):
            means = f"YAML does not read {node.value} as people do"
            mend = "write a number without leading zeros and colons, or put a text into quotes"
            raise InvalidConfig(f"{_written(place)}: {means} (line {_line(node)}); {mend}")


def _end_mark(root: yaml.Node) -> str | None:
    keys = [_key(key) for key, _ in root.value] if isinstance(root, yaml.MappingNode) else []
    if "end" in keys[:-1]:
        raise InvalidConfig("end: must be the last line; something follows it")
    return keys[-1] if keys and keys[-1] in END_MARKS else None


def _key(node: yaml.Node) -> str:
    return node.value if isinstance(node, yaml.ScalarNode) else "?"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _written(place: Place) -> str:
    return ".".join(str(part) for part in place) or "the file"
