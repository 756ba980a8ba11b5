"""What queues and tasks are called: workers and the facade agree without importing each other."""

from __future__ import annotations

from gifty_compute.queue.announce import queue_name, task_name


def test_a_queue_is_a_type_and_a_model() -> None:
    assert queue_name("rerank", "bge-reranker-v2-m3") == "rerank.bge-reranker-v2-m3"


def test_a_celery_task_is_named_by_its_type() -> None:
    assert task_name("embedding") == "gifty.embedding"
