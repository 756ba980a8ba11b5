"""logic.yaml and the files that it names, as they were at one moment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.document import Document, read_document
from gifty_compute.logic.reading import BoundedReads, read_plain_file

__all__ = ["MOST_NAMED_BYTES", "MOST_TEXT_BYTES", "Contents", "LogicFiles", "contents_of"]

MOST_TEXT_BYTES = 512 * 1024
"""The largest logic.yaml: parsing that much takes about three seconds."""
MOST_NAMED_BYTES = 16 * 2**20
"""The largest file of reference vectors."""


@dataclass(frozen=True)
class Contents:
    """The text, what it says, and the bytes of each file that it names; an error stands for what is bad."""

    text: str
    document: Document | InvalidConfig
    named: Mapping[str, bytes | InvalidConfig] = field(default_factory=dict)
    """By the file's name as the text has it."""

    @cached_property
    def digest(self) -> str:
        """Equal for equal contents: of the text, of the named files, and of why one could not be read."""
        found = hashlib.sha256(self.text.encode())
        for name, content in sorted(self.named.items(), key=lambda item: item[0]):
            found.update(name.encode() + b"\0")
            found.update(content if isinstance(content, bytes) else str(content).encode())
        return found.hexdigest()

    def bytes_of(self, name: str) -> bytes:
        """The content of a named file. Raises InvalidConfig."""
        content = self.named[name]
        if isinstance(content, InvalidConfig):
            raise InvalidConfig(str(content)) from content
        return content


class LogicFiles:
    """Reads logic.yaml, and the files that it names beside it, within bounds of time and size."""

    def __init__(self, path: Path, reads: BoundedReads | None = None) -> None:
        self._path, self._reads = path, reads or BoundedReads()
        self._last: Contents | None = None

    def read(self) -> Contents:
        """What is there now. Raises InvalidConfig where logic.yaml itself cannot be read."""
        try:
            found = self._reads.run(lambda: read_plain_file(self._path, MOST_TEXT_BYTES), self._path)
            text = found.decode("utf-8")
        except InvalidConfig as error:
            raise InvalidConfig(f"{error}; LOGIC_CONFIG_PATH names another file") from error
        except UnicodeDecodeError as error:
            raise InvalidConfig(f"{self._path}: cannot be read (it is not UTF-8)") from error
        if self._last is not None and self._last.text == text:
            document = self._last.document  # parsing takes far longer than reading
        else:
            document = _document_or_error(text, str(self._path))
        named = _named(document, self._path.parent, self._reads)
        self._last = Contents(text, document, named)
        return self._last


def contents_of(text: str, name: str, folder: Path, reads: BoundedReads) -> Contents:
    """The text with the files that it names, which are read from the folder."""
    document = _document_or_error(text, name)
    return Contents(text, document, _named(document, folder, reads))


def _named(
    document: Document | InvalidConfig, folder: Path, reads: BoundedReads
) -> dict[str, bytes | InvalidConfig]:
    def content(path: Path) -> bytes | InvalidConfig:
        try:
            return reads.run(lambda: read_plain_file(path, MOST_NAMED_BYTES), path)
        except InvalidConfig as error:
            return error

    return {name: content(folder / name) for name in _names(document)}


def _names(document: Document | InvalidConfig) -> list[str]:
    """The files that the text names: the references of its spaces."""
    spaces: Any = document.said.get("spaces") if isinstance(document, Document) else None
    sections = spaces.values() if isinstance(spaces, dict) else ()
    names = [section.get("reference") for section in sections if isinstance(section, dict)]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def _document_or_error(text: str, name: str) -> Document | InvalidConfig:
    try:
        return read_document(text, name)
    except InvalidConfig as error:
        return error
