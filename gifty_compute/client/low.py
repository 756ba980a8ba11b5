"""Low priority: the client's work as tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar, Unpack

from gifty_compute.client import calls
from gifty_compute.client.calls import ApiCall, Categories, How, Messages
from gifty_compute.wire.task import TaskView

__all__ = ["Low"]

H = TypeVar("H")


class Low(Generic[H]):
    """The same work as the client's own methods, for some time later; each gives a handle to its task.

    `how`: key, metadata, callback_url, max_attempts, priority. What `send` makes of a call is given back: a
    handle by the client that blocks, something to await for one by the client that awaits.
    """

    def __init__(self, send: Callable[[ApiCall[TaskView]], H]) -> None:
        self._send = send

    def embeddings(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        input_type: str | None = None,
        **how: Unpack[How],
    ) -> H:
        payload = {"texts": calls.listed(texts, "texts"), "model": model, "input_type": input_type}
        return self.submit("embedding", payload, **how)

    def rerank(
        self, query: str, documents: Sequence[str], *, model: str | None = None, **how: Unpack[How]
    ) -> H:
        payload = {"query": query, "documents": calls.listed(documents, "documents"), "model": model}
        return self.submit("rerank", payload, **how)

    def classify(
        self,
        external_names: Sequence[str],
        internal_categories: Categories | None = None,
        **how: Unpack[How],
    ) -> H:
        return self.submit("classify", calls.categories_body(external_names, internal_categories), **how)

    def score(self, products: Iterable[Mapping[str, Any]], *, axes: bool = False, **how: Unpack[How]) -> H:
        """Of many products at once; an `id` of theirs comes back with their score."""
        if isinstance(products, Mapping):
            raise TypeError("products: a list of products is wanted, not one product")
        more = {"axes": True} if axes else {}
        return self.submit("score", {"products": [{**one, **more} for one in products]}, **how)

    def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] | None = None,
        json_mode: bool = False,
        **how: Unpack[How],
    ) -> H:
        payload = {
            "messages": calls.messages_of(messages),
            "model": model,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stops": calls.listed(stop, "stop") if stop else None,
            "json_mode": json_mode or None,
        }
        return self.submit("llm", payload, **how)

    def submit(self, task_type: str, payload: Mapping[str, Any], **how: Unpack[How]) -> H:
        """A task of any type; fields of None are left out."""
        return self._send(calls.submit(task_type, payload, **how))
