"""Redaction: what of another program's words operators may read: not the payload, and no secrets."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["place", "redacted", "texts_in"]

LONGEST = 240
"""Characters of a redacted text."""
_LOOKED_AT = 1000
_CUT = "…"
# A run of so many characters is cut where the payload has it as well; of a secret already a shorter one.
_PAYLOAD_RUN, _SECRET_RUN, _LEAST_SECRET = 12, 6, 4

_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_PERCENT = re.compile(r"(?:%[0-9a-fA-F]{2})+")
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)(?:[^\s/?#\"'<>]*@)?([^\s?#\"'<>]*)[^\s\"'<>]*")
_SECRETS = (
    re.compile(r"\b(?:bearer|basic)\s+\S+", re.I),
    re.compile(
        r"\b(?:[\w-]*api[_-]?key|[\w-]*token|[\w-]*secret|password|authorization)[\"']?\s*[:=]\s*[\"']?[^\s\"',;]+",
        re.I,
    ),
    re.compile(r"\b(?:sk|pk|rk|gsk|rpa|hf|xai|whsec)[-_][^\s\"',;:]+|\bAIza[^\s\"',;:]+"),
    re.compile(r"\S*\*{3,}\S*"),  # a key that is masked in part
    re.compile(r"[^\s@\"'<>]+@[^\s@\"'<>]+\.[^\s\"'<>]+"),  # an e-mail address
    re.compile(r"(?=[A-Za-z+/_=-]*[0-9])(?=[0-9+/_=-]*[A-Za-z])[A-Za-z0-9+/_=-]{20,}"),  # ids, hashes, base64
)
_WORD = re.compile(r"[^\W_]{2,}")
_PLAIN_KEY = re.compile(r"[a-z_]+")


def redacted(
    text: str, *, payload: Iterable[str] = (), secrets: Iterable[str] = (), keep: Iterable[str] = ()
) -> str | None:
    """One line of at most 240 characters, with "…" for each part that is cut; None where nothing is left.

    Cut are: what looks like a secret (keys, bearer tokens, e-mail addresses, long ids; of a URL the user, the
    password and the query), all of `secrets`, runs of 12 characters that `payload` has as well, and words of
    the payload that are names or numbers more likely than English. `keep` are words that are never cut, such
    as the id of a model. Escapes of JSON, HTML and URLs are undone first, so that no payload hides in them.

    >>> redacted("the model 'x1' is not loaded")
    "the model 'x1' is not loaded"
    >>> redacted("Incorrect API key provided: sk-abc123. See http://u:p@h.test/keys?k=1", secrets=["abc"])
    'Incorrect API key provided: … See http://h.test/keys'
    >>> redacted("input 'Подарок для Анны' is too long", payload=["Подарок для Анны, ул. Лесная 7"])
    "input '…' is too long"
    """
    line = _one_line(text[:_LOOKED_AT])
    is_cut = bytearray(len(line))
    for pattern in _SECRETS:
        for found in pattern.finditer(line):
            is_cut[found.start() : found.end()] = b"\x01" * len(found[0])
    # All in one: payloads have thousands of texts. No word and no run goes over the mark between two.
    texts = _normal("\x00".join(payload))
    _cut_words(line, texts, is_cut)
    _cut_runs(line, texts, _PAYLOAD_RUN, is_cut)
    for word in keep:
        _mark_all(line, word, is_cut, cut=False)
    # Last: a secret stays cut even where it is part of a word to keep.
    for secret in map(_normal, secrets):
        _cut_runs(line, secret, _SECRET_RUN, is_cut)
        if _LEAST_SECRET <= len(secret) < _SECRET_RUN:
            _mark_all(_lowered(line), secret, is_cut)
    return _joined(line, is_cut, was_longer=len(text) > _LOOKED_AT)


def place(url: str) -> str:
    """An address without user, password and query.

    >>> place("https://user:password@models.test:8443/v1?key=1")
    'https://models.test:8443/v1'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def texts_in(value: Any) -> Iterator[str]:
    """All texts and numbers of a JSON value, and keys that are more than a plain name.

    >>> list(texts_in({"price": 900, "tags": ["чай"], "Имя": None}))
    ['900', 'чай', 'Имя']
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            if not _PLAIN_KEY.fullmatch(str(key)):
                yield str(key)
            yield from texts_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts_in(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


def _one_line(text: str) -> str:
    text = _URL.sub(r"\1\2", _unescaped(text))
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _unescaped(text: str) -> str:
    if not any(mark in text for mark in "\\&%"):
        return text
    for _ in range(2):  # JSON within JSON is escaped twice
        text = html.unescape(text).replace("\\\\", "\\").replace('\\"', '"')
        text = re.sub(r"\\[nrt]", " ", text)
        text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
        # Two halves of one character were escaped apart.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        text = _PERCENT.sub(lambda found: unquote(found[0]), text)
    return text


def _normal(text: str) -> str:
    return _lowered(" ".join(_unescaped(text).split()))


def _lowered(text: str) -> str:
    """In small letters, character by character, so that positions stay what they are."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _cut_words(line: str, texts: str, is_cut: bytearray) -> None:
    for found in _WORD.finditer(line):
        word = found[0]
        plain = word.isascii() and (len(word) < 3 or (word.isalpha() and (word.islower() or len(word) < 4)))
        if not plain and _has_word(texts, word.lower()):
            is_cut[found.start() : found.end()] = b"\x01" * len(found[0])


def _has_word(texts: str, word: str) -> bool:
    """Whether a text has it, in another word too; one of two or three letters only as a word of its own."""
    if len(word) > 3:
        return word in texts
    return word in texts and re.search(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", texts) is not None


def _cut_runs(line: str, texts: str, run: int, is_cut: bytearray) -> None:
    """Marks all runs of this length that the texts have."""
    lowered = _lowered(line)
    half = run // 2
    halves = {lowered[at : at + half] for at in range(len(lowered) - half + 1)}
    runs = {lowered[at : at + run] for at in range(len(lowered) - run + 1)}
    shared: set[str] = set()
    # A common run covers one of the blocks that begin at multiples of half of its length.
    for at in range(0, len(texts) - half + 1, half):
        if texts[at : at + half] in halves:
            begins = range(max(0, at - half), at + 1)
            shared.update(runs.intersection(texts[begin : begin + run] for begin in begins))
    for one in shared:
        _mark_all(lowered, one, is_cut)


def _mark_all(line: str, part: str, is_cut: bytearray, cut: bool = True) -> None:
    at = line.find(part) if part else -1
    while at >= 0:
        is_cut[at : at + len(part)] = bytes([cut]) * len(part)
        at = line.find(part, at + 1)


def _joined(line: str, is_cut: bytearray, *, was_longer: bool) -> str | None:
    if was_longer:
        # Its last characters may be the beginning of a run that goes on behind them.
        is_cut[-_PAYLOAD_RUN:] = b"\x01" * min(_PAYLOAD_RUN, len(line))
    kept = "".join("\x00" if cut else c for c, cut in zip(line, is_cut, strict=True))
    kept = re.sub(r"\x00(?:[\s\x00]*\x00)?", _CUT, kept)
    if not re.search(r"[^\W_]", kept):
        return None
    return kept if len(kept) <= LONGEST else kept[: LONGEST - 1] + _CUT
