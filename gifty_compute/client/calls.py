"""The calls of the contract as values: what is sent, and how the answer is read. No input, no output."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, Protocol, TypedDict, TypeVar, Unpack
from urllib.parse import quote

from gifty_compute.client import reading
from gifty_compute.client.answers import Chat, Classification, Embeddings, Ranking, Score
from gifty_compute.client.reading import Headers
from gifty_compute.wire.task import TaskList, TaskView

__all__ = [
    "SPARE_SECONDS",
    "ApiCall",
    "Categories",
    "How",
    "Messages",
    "Upload",
    "cancel",
    "categories_body",
    "chat",
    "checked_key",
    "classify",
    "classify_in_portions",
    "embeddings",
    "embeddings_in_portions",
    "listed",
    "messages_of",
    "rerank",
    "retry",
    "score",
    "submit",
    "task",
    "tasks",
]

T = TypeVar("T")
Categories = Sequence[Mapping[str, Any]]
Messages = Iterable[Any]
"""Mappings or objects, each with role and content."""

# Of the caller's time; the rest is for the way, so that the service's own word is here before it is over.
_TOLD = 0.9
# In milliseconds: what a service takes as `timeout_ms` unless its logic.yaml says otherwise.
_MOST_TOLD_MS = {"/v1/chat/completions": 600_000}
_MOST_TOLD_MS_ELSEWHERE = 60_000
# In milliseconds: no service takes more, whatever its logic.yaml says.
_LONGEST_TOLD_MS = 600_000
# The most of one call of embeddings: the packaged model does it within the maximum on two slow cores.
_MOST_TEXTS, _MOST_CHARACTERS = 1024, 150_000
# A guard against a stream without an end; the service has one of its own, of an hour.
_LONGEST_STREAM_SECONDS = 7200.0
# The service takes no more in one call of classify.
_MOST_NAMES = 1000
# What a call that waits for a task may take longer than it waits.
SPARE_SECONDS = 10.0
_LONGEST_KEY = 255


class How(TypedDict, total=False):
    """How a task is to be done. `key` is its Idempotency-Key: the same key finds the same task again."""

    key: str | None
    metadata: Mapping[str, Any] | None
    callback_url: str | None
    max_attempts: int | None
    priority: Literal["low", "high"] | None


class Upload(Protocol):
    """Bytes piece by piece, from the beginning each time."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True)
class ApiCall(Generic[T]):
    """One call. `read(body, headers)` makes its answer."""

    method: str
    path: str
    read: Callable[[Any, Headers], T] = field(repr=False)
    body: dict[str, Any] | None = field(default=None, repr=False)
    upload: Upload | None = field(default=None, repr=False)
    """In place of a body what is too long to be one; read anew for each try."""
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    timeout: float | None = None
    """The seconds that all of it may take; None leaves that to the client."""
    budgeted: bool = False
    """Whether the service is told of the timeout."""
    most_told_ms: int | None = None
    """The longest timeout that the service is told; None: that of the call, whatever it is."""
    longest_stream: float = 0.0
    """In seconds, of an answer that goes on while it flows; its timeout is then for the first line and for
    silence. 0: the timeout is for all of it."""
    first: int = 0
    """The position of its first text in the caller's list, where that is sent in several calls."""
    repeatable: bool = False
    """Whether two are as good as one: it changes nothing, or has an Idempotency-Key."""

    def content(self, seconds: float) -> bytes | None:
        """The body of a try that may take so many seconds."""
        if self.body is None:
            return None
        body = self.body
        if self.budgeted:
            told = min(max(1, int(seconds * 1000 * _TOLD)), _LONGEST_TOLD_MS)
            body = {**body, "timeout_ms": min(told, self.most_told_ms or told)}
        try:
            return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:
            # Half a surrogate pair: the service says in which text it is.
            return json.dumps(body).encode()

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def embeddings(
    texts: Sequence[str], *, model: str | None, input_type: str | None, timeout: float | None
) -> ApiCall[Embeddings]:
    body = {"input": listed(texts, "texts"), "model": model, "input_type": input_type}
    body["encoding_format"] = "base64"
    return _high("/v1/embeddings", reading.embeddings, body, timeout)


def embeddings_in_portions(
    texts: Sequence[str], *, model: str | None, input_type: str | None, timeout: float | None
) -> list[ApiCall[Embeddings]]:
    """The calls that embed these texts, in order: one for as many as one call should hold."""
    return [
        replace(embeddings(portion, model=model, input_type=input_type, timeout=timeout), first=first)
        for first, portion in _portions(listed(texts, "texts"), _MOST_TEXTS, _MOST_CHARACTERS)
    ]


def rerank(
    query: str, documents: Sequence[str], *, model: str | None, top_n: int | None, timeout: float | None
) -> ApiCall[Ranking]:
    body = {"query": query, "documents": listed(documents, "documents"), "model": model, "top_n": top_n}
    return _high("/v1/rerank", reading.ranking, body, timeout)


def classify(
    external_names: Sequence[str], internal_categories: Categories | None, *, timeout: float | None
) -> ApiCall[Classification]:
    body = categories_body(external_names, internal_categories)
    return _high("/v1/classify/categories", reading.classification, body, timeout)


def classify_in_portions(
    external_names: Sequence[str], internal_categories: Categories | None, *, timeout: float | None
) -> list[ApiCall[Classification]]:
    """The calls that classify these names, in order: one for as many as one call may hold."""
    names = listed(external_names, "external_names")
    return [
        replace(classify(portion, internal_categories, timeout=timeout), first=first)
        for first, portion in _portions(names, _MOST_NAMES, _MOST_CHARACTERS)
    ]


def score(product: Mapping[str, Any], *, axes: bool, timeout: float | None) -> ApiCall[Score]:
    return _high("/v1/products/score", reading.score, {**product, "axes": axes or None}, timeout)


def chat(
    messages: Messages,
    *,
    model: str | None,
    max_tokens: int | None,
    temperature: float | None,
    stop: Sequence[str] | None,
    json_mode: bool,
    stream: bool,
    timeout: float | None,
) -> ApiCall[Chat]:
    body = {
        "messages": messages_of(messages),
        "model": model,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "stop": listed(stop, "stop") if stop else None,
        "response_format": {"type": "json_object"} if json_mode else None,
        "stream": stream or None,
    }
    call = _high("/v1/chat/completions", reading.chat, body, timeout)
    return replace(call, longest_stream=_LONGEST_STREAM_SECONDS) if stream else call


def submit(task_type: str, payload: Mapping[str, Any], **how: Unpack[How]) -> ApiCall[TaskView]:
    """Always under an Idempotency-Key: a submit whose answer was lost may be repeated."""
    key = checked_key(how.get("key") or uuid.uuid4().hex)
    metadata = how.get("metadata")
    body = {
        "task_type": task_type,
        "payload": _said(payload),
        "metadata": None if metadata is None else dict(metadata),
        "callback_url": how.get("callback_url"),
        "max_attempts": how.get("max_attempts"),
        "priority": how.get("priority"),
    }
    headers = {"Idempotency-Key": key}
    return ApiCall("POST", "/v1/tasks", reading.task, _said(body), headers=headers, repeatable=True)


def checked_key(key: str) -> str:
    """The key. Raises ValueError for what cannot be one."""
    if len(key) > _LONGEST_KEY or not all(" " <= character <= "~" for character in key):
        raise ValueError(f"key: an Idempotency-Key is up to {_LONGEST_KEY} characters of printable ASCII")
    return key


def task(task_id: str, *, wait: float = 0) -> ApiCall[TaskView]:
    """The task; with `wait` as soon as it has ended or so many seconds have passed."""
    query = {"wait": f"{wait:.3f}"} if wait else {}
    timeout = wait + SPARE_SECONDS if wait else None
    return ApiCall("GET", _path(task_id), reading.task, query=query, timeout=timeout, repeatable=True)


def tasks(
    *,
    status: str | None = None,
    task_type: str | None = None,
    batch_id: str | None = None,
    cursor: str | None = None,
) -> ApiCall[TaskList]:
    """One page, newest first."""
    query = {"status": status, "task_type": task_type, "batch_id": batch_id, "cursor": cursor}
    return ApiCall("GET", "/v1/tasks", reading.page, query=_said({**query, "limit": "100"}), repeatable=True)


def cancel(task_id: str) -> ApiCall[TaskView]:
    return ApiCall("POST", f"{_path(task_id)}/cancel", reading.task, repeatable=True)


def retry(task_id: str) -> ApiCall[TaskView]:
    """Not repeatable: after the first the task is pending, which is a conflict for the second."""
    return ApiCall("POST", f"{_path(task_id)}/retry", reading.task)


def categories_body(external_names: Sequence[str], internal_categories: Categories | None) -> dict[str, Any]:
    """What the high-priority path and a task's payload both say."""
    categories = None if internal_categories is None else [dict(one) for one in internal_categories]
    return {"external_names": listed(external_names, "external_names"), "internal_categories": categories}


def listed(values: Iterable[str], name: str) -> list[str]:
    """The values as a list. Raises TypeError for a text, whose letters would be taken for texts.

    >>> listed(("чай", "кофе"), "texts")
    ['чай', 'кофе']
    """
    if isinstance(values, str | bytes):
        raise TypeError(f"{name}: a list of texts is wanted, not one text")
    return list(values)


def messages_of(messages: Messages) -> list[dict[str, Any]]:
    """Mappings or objects with role and content as plain messages. Raises TypeError for one text."""
    if isinstance(messages, str | bytes):
        raise TypeError("messages: a list of messages is wanted, as [{'role': 'user', 'content': '…'}]")
    return [
        dict(one) if isinstance(one, Mapping) else {"role": one.role, "content": one.content}
        for one in messages
    ]


def _high(
    path: str, read: Callable[[Any, Headers], T], body: dict[str, Any], timeout: float | None
) -> ApiCall[T]:
    if timeout is not None and not 0 < timeout < math.inf:
        raise ValueError(f"timeout: {timeout!r} is not a number of seconds above 0")
    most = _MOST_TOLD_MS.get(path, _MOST_TOLD_MS_ELSEWHERE) if timeout is None else None
    return ApiCall("POST", path, read, _said(body), timeout=timeout, budgeted=True, most_told_ms=most)


def _portions(texts: list[Any], count: int, characters: int) -> list[tuple[int, list[Any]]]:
    """The texts in order, in lists of at most so many texts and characters, each with the position of its
    first; a longer text is alone. What is no text counts no characters: the service says what is wrong.

    >>> _portions(["чай", "кофе", "какао"], 2, 100)
    [(0, ['чай', 'кофе']), (2, ['какао'])]
    >>> _portions(["чай", "кофе"], 9, 5), _portions([], 9, 5)
    ([(0, ['чай']), (1, ['кофе'])], [(0, [])])
    """
    portions: list[tuple[int, list[Any]]] = [(0, [])]
    total = 0
    for position, text in enumerate(texts):
        length = len(text) if isinstance(text, str) else 0
        portion = portions[-1][1]
        if portion and (len(portion) >= count or total + length > characters):
            portion, total = [], 0
            portions.append((position, portion))
        portion.append(text)
        total += length
    return portions


def _said(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _path(task_id: str) -> str:
    return f"/v1/tasks/{quote(str(task_id), safe='')}"
