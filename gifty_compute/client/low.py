"""Low priority: work as tasks, and handles to what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from gifty_compute.client import calls
from gifty_compute.client.errors import TaskFailed

__all__ = ["Low", "TaskHandle", "Tasks"]

# The longest that the service lets one call wait, and what the way there and back may take.
_WAIT_SECONDS = 60.0
_SPARE_SECONDS = 10.0

Run = Callable[..., Any]


class TaskHandle:
    """A task that was accepted: it will be done, whatever happens to this program."""

    def __init__(self, run: Run, task: Mapping[str, Any]) -> None:
        self._run, self._task = run, task

    @property
    def id(self) -> str:
        return str(self._task["id"])

    @property
    def task(self) -> Mapping[str, Any]:
        """The task as it was last seen."""
        return self._task

    def done(self) -> bool:
        """Whether it has ended, as far as is known here; `wait(0)` looks."""
        return self._task["status"] in ("completed", "failed", "cancelled")

    def wait(self, seconds: float = _WAIT_SECONDS) -> bool:
        """Waits for the end, at most so long; whether it has come."""
        left = seconds
        while not self.done():
            step = min(left, _WAIT_SECONDS)
            self._task = self._run(calls.task(self.id, wait=step), step + _SPARE_SECONDS)
            left -= step
            if left <= 0:
                break
        return self.done()

    def result(self, timeout: float | None = None) -> Any:
        """The result, as the high-priority call would give it (of `score` a list, one a product).

        Raises TaskFailed where the task ended without one, TimeoutError where it has not ended in time.
        """
        while not self.wait(_WAIT_SECONDS if timeout is None else timeout):
            if timeout is not None:
                raise TimeoutError(f"task {self.id} has not ended in {timeout:g} s")
        if self._task["status"] != "completed":
            message = self._task.get("error") or f"task {self.id} was {self._task['status']}"
            raise TaskFailed(message, task_id=self.id, status=self._task["status"])
        return calls.result_of(self._task)


class Low:
    """The same work as the client's own methods, for some time later."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def embeddings(
        self, texts: Sequence[str], *, model: str | None = None, input_type: str | None = None, **how: Any
    ) -> TaskHandle:
        """`how`: metadata, callback_url, max_attempts, priority, key (an Idempotency-Key)."""
        return self.submit(
            "embedding", {"texts": list(texts), "model": model, "input_type": input_type}, **how
        )

    def rerank(
        self, query: str, documents: Sequence[str], *, model: str | None = None, **how: Any
    ) -> TaskHandle:
        return self.submit("rerank", {"query": query, "documents": list(documents), "model": model}, **how)

    def classify(
        self,
        external_names: Sequence[str],
        internal_categories: Sequence[Mapping[str, Any]] | None = None,
        **how: Any,
    ) -> TaskHandle:
        categories = None if internal_categories is None else [dict(one) for one in internal_categories]
        payload = {"external_names": list(external_names), "internal_categories": categories}
        return self.submit("classify", payload, **how)

    def score(self, products: Iterable[Mapping[str, Any]], **how: Any) -> TaskHandle:
        return self.submit("score", {"products": [dict(one) for one in products]}, **how)

    def chat(
        self,
        messages: Iterable[Any],
        *,
        system_prompt: str | None = None,
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stops: Sequence[str] | None = None,
        json_mode: bool | None = None,
        **how: Any,
    ) -> TaskHandle:
        payload = {
            "messages": calls.messages_of(messages),
            "system_prompt": system_prompt,
            "model": model,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stops": list(stops) if stops else None,
            "json_mode": json_mode,
        }
        return self.submit("llm", payload, **how)

    def submit(self, task_type: str, payload: Mapping[str, Any], **how: Any) -> TaskHandle:
        """A task of any type; fields of None are left out."""
        said = {name: value for name, value in payload.items() if value is not None}
        return TaskHandle(self._run, self._run(calls.submit(task_type, said, **how)))


class Tasks:
    """What became of tasks."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def get(self, task_id: str) -> TaskHandle:
        return TaskHandle(self._run, self._run(calls.task(task_id)))

    def list(self, **where: Any) -> Iterator[TaskHandle]:
        """All of them, newest first: status, task_type, batch_id; pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            page = self._run(calls.tasks(**where, cursor=cursor))
            yield from (TaskHandle(self._run, task) for task in page["tasks"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def cancel(self, task_id: str) -> TaskHandle:
        return TaskHandle(self._run, self._run(calls.act(f"/v1/tasks/{task_id}/cancel")))

    def retry(self, task_id: str) -> TaskHandle:
        return TaskHandle(self._run, self._run(calls.act(f"/v1/tasks/{task_id}/retry")))
