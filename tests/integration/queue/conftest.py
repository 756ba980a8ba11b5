"""Batches over the database of a test, and the step of maintain that goes with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gifty_compute.clock import SystemClock
from gifty_compute.logic.logic import Logic
from gifty_compute.maintain.batches import Batches
from gifty_compute.queue.batches import BatchStore
from gifty_compute.queue.database import Database


@pytest.fixture
def batches(database: Database, logic: Logic) -> BatchStore:
    return BatchStore(database, lambda: logic, SystemClock(), lambda url: None)


@pytest.fixture
def maintain(database: Database) -> Callable[[], dict[str, int]]:
    """One pass of the step of batches."""

    def run() -> dict[str, int]:
        with database.connection() as connection:
            return dict(Batches(database, SystemClock()).run(connection))

    return run
