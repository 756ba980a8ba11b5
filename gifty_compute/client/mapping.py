"""Any number of texts as tasks, a bounded number at a time, their vectors in order.

`Job` and `Packer` are what both clients share. `map_texts` and `map_texts_async` are one loop, written twice:
the one takes what the other awaits.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sized,
)
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Self

from gifty_compute.client import calls
from gifty_compute.client.answers import Embeddings
from gifty_compute.client.calls import ApiCall
from gifty_compute.client.errors import MixedSpaces, ServiceFault
from gifty_compute.client.handles import AsyncTaskHandle, TaskHandle
from gifty_compute.errors import GiftyComputeError
from gifty_compute.wire.task import TaskView

__all__ = ["Job", "Pack", "Packer", "map_texts", "map_texts_async"]

# Russian text in the tokenizers of bge-m3 and E5: about 3 characters a token.
_CHARACTERS_A_TOKEN = 3
_TEXTS_A_TASK = 2048


@dataclass(frozen=True)
class Pack:
    """The texts of one task; `first` is the place of the first one among all, from 0."""

    first: int
    texts: list[str]


class Packer:
    """Makes packs of texts as they come, each of about so many tokens and at least one text.

    >>> packer = Packer(tokens=20)
    >>> [packer.put(text) for text in ["а" * 30, "б" * 30]]
    [None, None]
    >>> [len(packer.put("в" * 300).texts), len(packer.put("г").texts), packer.rest()]
    [2, 1, Pack(first=3, texts=['г'])]
    """

    def __init__(self, tokens: int) -> None:
        self._most = tokens * _CHARACTERS_A_TOKEN
        self._first = self._characters = 0
        self._texts: list[str] = []

    def put(self, text: str) -> Pack | None:
        """Takes a text; the pack that was full without it."""
        full = self._characters + len(text) > self._most or len(self._texts) >= _TEXTS_A_TASK
        pack = self.rest() if full else None
        self._texts.append(text)
        self._characters += len(text)
        return pack

    def rest(self) -> Pack | None:
        """The pack of what is left; None where nothing is."""
        if not self._texts:
            return None
        pack = Pack(self._first, self._texts)
        self._first, self._characters, self._texts = self._first + len(pack.texts), 0, []
        return pack


class Job:
    """One run of `map`: what each task is to be, and what its vectors must be. `with` shows its progress."""

    def __init__(
        self,
        texts: object,
        *,
        model: str | None,
        input_type: str | None,
        run_id: str | None,
        tokens_a_task: int,
        tasks_ahead: int,
        progress: bool,
    ) -> None:
        if isinstance(texts, str | bytes):
            raise TypeError("texts: texts are wanted, not one text")
        if tokens_a_task < 1 or tasks_ahead < 1:
            raise ValueError("tokens_a_task and tasks_ahead are at least 1")
        self.tasks_ahead, self.packer = tasks_ahead, Packer(tokens_a_task)
        self._model, self._input_type, self._run_id = model, input_type, run_id
        self._space: tuple[str | None, str | None] | None = None
        self._total = len(texts) if isinstance(texts, Sized) else None
        self._progress = progress
        self._bar: Any = None

    def __enter__(self) -> Self:
        self._bar = _bar(self._total) if self._progress else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def call(self, pack: Pack) -> ApiCall[TaskView]:
        payload = {"texts": pack.texts, "model": self._model, "input_type": self._input_type}
        key = None if self._run_id is None else self._key(self._run_id, pack.texts)
        return calls.submit("embedding", payload, key=key)

    def vectors(self, pack: Pack, found: Embeddings) -> Any:
        """The pack's vectors. Raises MixedSpaces, ServiceFault."""
        space = (found.model, found.space)
        if self._space not in (None, space):
            raise MixedSpaces(
                f"the vectors so far are of {self._space}, these of {space}: the configured model has "
                "changed; name the model, or map all texts anew"
            )
        if len(found.vectors) != len(pack.texts):
            raise ServiceFault(f"{len(found.vectors)} vectors came for {len(pack.texts)} texts", status=200)
        self._space = space
        if self._bar is not None:
            self._bar.update(len(pack.texts))
        return found.vectors

    @contextmanager
    def at(self, pack: Pack) -> Iterator[None]:
        """An error in here says at which texts it was."""
        try:
            yield
        except (GiftyComputeError, TypeError) as error:
            error.add_note(f"at the texts {pack.first} to {pack.first + len(pack.texts) - 1} of this map")
            raise

    def _key(self, run_id: str, texts: list[str]) -> str:
        """The same for the same texts in the same run, whatever else has changed."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (run_id, self._model or "", self._input_type or "", *texts):
            data = part.encode(errors="surrogatepass")
            digest.update(len(data).to_bytes(8) + data)
        return f"map-{digest.hexdigest()}"


def map_texts(
    job: Job, texts: Iterable[str], submit: Callable[[ApiCall[TaskView]], TaskHandle]
) -> Generator[Any, None, None]:
    """See Client.map."""
    under_way: deque[tuple[Pack, TaskHandle]] = deque()
    with job:
        for pack in _packs(job.packer, texts):
            with job.at(pack):
                handle = submit(job.call(pack))
            under_way.append((pack, handle))
            if len(under_way) >= job.tasks_ahead:
                yield from _end(job, *under_way.popleft())
        while under_way:
            yield from _end(job, *under_way.popleft())


async def map_texts_async(
    job: Job,
    texts: Iterable[str] | AsyncIterable[str],
    submit: Callable[[ApiCall[TaskView]], Awaitable[AsyncTaskHandle]],
) -> AsyncGenerator[Any, None]:
    """See AsyncClient.map."""
    under_way: deque[tuple[Pack, AsyncTaskHandle]] = deque()
    with job:
        async with aclosing(_packs_async(job.packer, texts)) as packs:
            async for pack in packs:
                with job.at(pack):
                    handle = await submit(job.call(pack))
                under_way.append((pack, handle))
                if len(under_way) >= job.tasks_ahead:
                    for vector in await _end_async(job, *under_way.popleft()):
                        yield vector
        while under_way:
            for vector in await _end_async(job, *under_way.popleft()):
                yield vector


def _end(job: Job, pack: Pack, handle: TaskHandle) -> Any:
    with job.at(pack):
        return job.vectors(pack, handle.result())


async def _end_async(job: Job, pack: Pack, handle: AsyncTaskHandle) -> Any:
    with job.at(pack):
        return job.vectors(pack, await handle.result())


def _packs(packer: Packer, texts: Iterable[str]) -> Iterator[Pack]:
    for text in texts:
        pack = packer.put(text)
        if pack is not None:
            yield pack
    rest = packer.rest()
    if rest is not None:
        yield rest


async def _packs_async(
    packer: Packer, texts: Iterable[str] | AsyncIterable[str]
) -> AsyncGenerator[Pack, None]:
    if not isinstance(texts, AsyncIterable):
        for pack in _packs(packer, texts):
            yield pack
        return
    async for text in texts:
        pack_or_none = packer.put(text)
        if pack_or_none is not None:
            yield pack_or_none
    rest = packer.rest()
    if rest is not None:
        yield rest


def _bar(total: int | None) -> Any:
    if importlib.util.find_spec("tqdm") is None:
        return None
    from tqdm import tqdm  # noqa: PLC0415 - not on the bare install

    return tqdm(total=total, unit=" texts")
