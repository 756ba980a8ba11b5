"""Both clients offer the same: names, parameters, defaults."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from gifty_compute.client.asynchronous import AsyncClient
from gifty_compute.client.batch_handles import AsyncBatchHandle, BatchHandle
from gifty_compute.client.batches import AsyncBatches, Batches
from gifty_compute.client.handles import AsyncTaskHandle, TaskHandle
from gifty_compute.client.sync import Client
from gifty_compute.client.tasks import AsyncTasks, Tasks

# Of the constructor only its values are the caller's business; types differ where one awaits.
PAIRS = [
    (Client, AsyncClient),
    (TaskHandle, AsyncTaskHandle),
    (Tasks, AsyncTasks),
    (Batches, AsyncBatches),
    (BatchHandle, AsyncBatchHandle),
]


def surface(kind: type) -> dict[str, Any]:
    """Each public method with its parameters, without their types."""
    return {
        name: [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") or name == "__init__"
    }


@pytest.mark.parametrize(("blocking", "awaiting"), PAIRS, ids=lambda kind: kind.__name__)
def test_the_client_that_awaits_has_the_same_methods(blocking: type, awaiting: type) -> None:
    assert surface(awaiting) == surface(blocking)
    assert len(surface(blocking)) > 2


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_every_method_of_a_client_says_what_it_promises(kind: type) -> None:
    undocumented = [name for name in surface(kind) if not getattr(kind, name).__doc__]

    assert undocumented == []
