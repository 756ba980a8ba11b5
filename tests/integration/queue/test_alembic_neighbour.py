"""The backend's own alembic beside an adopted table: what its autogenerate would do to us (F4a)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import JSON, Column, DateTime, Index, MetaData, String, Table, Text, func
from sqlalchemy.dialects.postgresql import UUID

from gifty_compute.compat import alembic_include_object
from gifty_compute.migrations import migrate
from gifty_compute.queue.database import Database, connect


def their_models() -> MetaData:
    """The shape of the backend's models: a table that is the service's now, and one that is theirs alone."""
    metadata = MetaData()
    Table(
        "compute_tasks",
        metadata,
        Column("id", UUID(as_uuid=True), primary_key=True),
        Column("task_type", String, nullable=False, index=True),
        Column("priority", String, nullable=False, index=True, server_default="low"),
        Column("status", String, nullable=False, index=True, server_default="pending"),
        Column("payload", JSON, nullable=False),
        Column("result", JSON),
        Column("error", Text),
        Column("worker_id", String),
        Column("started_at", DateTime(timezone=True)),
        Column("completed_at", DateTime(timezone=True)),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    )
    Table(
        "products",
        metadata,
        Column("product_id", String, primary_key=True),
        Column("compute_note", String),
        Column("title", String),
        Index("ix_products_title", "title"),
    )
    return metadata


@pytest.fixture
def adopted(empty_database_url: str) -> Iterator[Database]:
    database = connect(empty_database_url)
    their_models().create_all(database.engine)
    migrate(database.engine)
    yield database
    database.close()


def operations(database: Database, models: MetaData, **options: Any) -> list[str]:
    """What a revision would hold: each operation with the table that it is for."""
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"target_metadata": models, **options})
        return [_said(one) for one in _flat(compare_metadata(context, models))]


def _flat(found: list[Any]) -> Iterator[Any]:
    for one in found:
        if isinstance(one, list):
            yield from _flat(one)
        else:
            yield one


def _said(operation: tuple[Any, ...]) -> str:
    name, *rest = operation
    table = (
        rest[0].table.name if name.endswith("index") else rest[0].name if name.endswith("table") else rest[1]
    )
    return f"{name} {table}"


def test_without_the_hook_a_revision_would_destroy_the_service(adopted: Database) -> None:
    found = operations(adopted, their_models())

    assert "remove_table compute_task_vectors" in found
    assert found.count("remove_column compute_tasks") > 20
    assert found.count("remove_index compute_tasks") > 5


def test_with_the_hook_no_operation_is_about_the_service(adopted: Database) -> None:
    assert operations(adopted, their_models(), include_object=alembic_include_object) == []


def test_the_hook_leaves_all_else_to_their_own_alembic(adopted: Database) -> None:
    models = their_models()
    models.remove(models.tables["products"])
    Table("products", models, Column("product_id", String, primary_key=True), Column("price", String))
    Table("compute_notes", models, Column("id", String, primary_key=True))

    found = operations(adopted, models, include_object=alembic_include_object)

    assert sorted(found) == [
        "add_column products",
        "add_table compute_notes",
        "remove_column products",
        "remove_column products",
        "remove_index products",
    ]


def test_a_model_that_they_delete_drops_no_table_of_the_service(adopted: Database) -> None:
    models = their_models()
    models.remove(models.tables["compute_tasks"])

    assert operations(adopted, models, include_object=alembic_include_object) == []


def test_where_the_service_is_not_yet_their_own_table_is_still_made(empty_database_url: str) -> None:
    database = connect(empty_database_url)

    found = operations(database, their_models(), include_object=alembic_include_object)

    assert "add_table compute_tasks" in found
    database.close()
