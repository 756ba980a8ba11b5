"""What a callback says: the task or batch as it is when it is sent, never more than a mebibyte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from gifty_compute.errors import NotFound
from gifty_compute.queue.outbox import Outbox
from gifty_compute.wire.callback import Callback
from gifty_compute.wire.json import write_json

__all__ = ["MAX_BODY_BYTES", "Rendered", "Rendering"]

MAX_BODY_BYTES = 2**20
# A number takes two bytes of JSON at least.
_MOST_NUMBERS = MAX_BODY_BYTES // 2


@dataclass(frozen=True)
class Rendered:
    """A body, and the id of the request that its task came with."""

    body: bytes
    request_id: str | None = None


class Rendering:
    """Reads what has ended and writes it down; `batch` gives a batch as the API shows it."""

    def __init__(self, outbox: Outbox, batch: Callable[[UUID], dict[str, Any]]) -> None:
        self._outbox, self._batch = outbox, batch

    def render(self, callback: Callback) -> Rendered | None:
        """The body to send; None when the task or batch has been removed, and its callback with it."""
        if callback.task_id is not None:
            return self._of_task(callback, callback.task_id)
        if callback.batch_id is None:
            return None
        try:
            return Rendered(_written(callback, self._batch(callback.batch_id)))
        except NotFound:
            return None

    def _of_task(self, callback: Callback, task_id: UUID) -> Rendered | None:
        found = self._outbox.task(task_id, most_numbers=_MOST_NUMBERS)
        if found is None:
            return None
        data: dict[str, Any] = dict(found.task.__dict__)
        url = {"result_url": f"/v1/tasks/{task_id}"}
        if not found.has_more:
            body = _written(callback, data)
            if len(body) <= MAX_BODY_BYTES:
                return Rendered(body, found.request_id)
        body = _written(callback, {**data, "result": None, **url})
        if len(body) > MAX_BODY_BYTES:
            # The payload is the receiver's own, and what is too long would be refused again and again.
            body = _written(callback, {**data, "result": None, "payload": {}, **url})
        return Rendered(body, found.request_id)


def _written(callback: Callback, data: dict[str, Any]) -> bytes:
    return write_json({"type": callback.type, "timestamp": callback.created_at, "data": data})
