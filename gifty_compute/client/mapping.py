"""Any number of texts as tasks, a bounded number at a time, their vectors in order."""

from __future__ import annotations

import hashlib
import importlib.util
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from gifty_compute.client.low import Low, TaskHandle

__all__ = ["map_texts"]

# Russian text in the tokenizers of bge-m3 and E5: about 3 characters a token.
_CHARACTERS_A_TOKEN = 3
_TEXTS_A_TASK = 2048


def map_texts(
    low: Low,
    texts: Iterable[str],
    *,
    model: str | None,
    input_type: str | None,
    run_id: str | None,
    tokens_a_task: int,
    tasks_ahead: int,
    progress: bool,
) -> Iterator[Any]:
    """See Client.map."""
    under_way: deque[tuple[TaskHandle, int]] = deque()
    bar = _bar() if progress else None
    try:
        for number, pack in enumerate(_packs(texts, tokens_a_task)):
            key = _key(run_id, number, pack) if run_id is not None else None
            under_way.append((low.embeddings(pack, model=model, input_type=input_type, key=key), len(pack)))
            if len(under_way) >= tasks_ahead:
                yield from _vectors(*under_way.popleft(), bar)
        while under_way:
            yield from _vectors(*under_way.popleft(), bar)
    finally:
        if bar is not None:
            bar.close()


def _vectors(handle: TaskHandle, count: int, bar: Any) -> Iterator[Any]:
    vectors = handle.result().vectors
    if bar is not None:
        bar.update(count)
    yield from vectors


def _packs(texts: Iterable[str], tokens: int) -> Iterator[list[str]]:
    """The texts in order, each pack of about so many tokens, and at least one text.

    >>> [len(pack) for pack in _packs(["а" * 30, "б" * 30, "в" * 300, "г"], tokens=20)]
    [2, 1, 1]
    """
    pack: list[str] = []
    left = tokens * _CHARACTERS_A_TOKEN
    for text in texts:
        if pack and (len(text) > left or len(pack) >= _TEXTS_A_TASK):
            yield pack
            pack, left = [], tokens * _CHARACTERS_A_TOKEN
        pack.append(text)
        left -= len(text)
    if pack:
        yield pack


def _key(run_id: str, number: int, pack: list[str]) -> str:
    """The same for the same texts at the same place of the same run."""
    digest = hashlib.blake2b(digest_size=16)
    for text in pack:
        digest.update(len(text).to_bytes(8))
        digest.update(text.encode())
    return f"{run_id[:100]}:{number}:{digest.hexdigest()}"


def _bar() -> Any:
    if importlib.util.find_spec("tqdm") is None:
        return None
    from tqdm import tqdm  # noqa: PLC0415 - not on the bare install

    return tqdm(unit=" texts")
