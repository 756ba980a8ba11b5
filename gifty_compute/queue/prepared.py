"""Prepared statements: the hot ones are planned once a connection; planning a claim takes longer than it."""

from __future__ import annotations

import re
from typing import Any, cast

import psycopg2
from sqlalchemy import Connection

from gifty_compute.queue.sql import QUERIES

__all__ = ["PREPARED", "execute_prepared"]

# They name the columns that they give: PostgreSQL refuses a prepared `t.*` once a migration adds a column.
PREPARED = frozenset({"submit", "claim", "extend", "complete", "find"})

_PARAMETER = re.compile(r"(?<!:):(\w+)")


def execute_prepared(connection: Connection, query: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows of one of these statements, which is prepared first if this connection has not seen it."""
    text = QUERIES[query].text
    prepared: dict[str, str] = connection.info.setdefault("prepared", {})
    if text not in prepared:
        prepared[text] = _prepare(connection, f"{query}_{len(prepared)}", text)
    # The driver below SQLAlchemy, whose result of 22 columns would cost more than a single submit does here.
    raw = cast("psycopg2.extensions.connection", connection.connection)
    with raw.cursor() as cursor:
        try:
            cursor.execute(prepared[text], parameters)
        except psycopg2.Error as error:
            if not raw.closed:
                raise
            connection.invalidate()
            raise psycopg2.OperationalError("the connection broke") from error
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _prepare(connection: Connection, name: str, text: str) -> str:
    """Prepares the statement under that name; gives the EXECUTE, with the driver's placeholders."""
    parameters = list(dict.fromkeys(_PARAMETER.findall(text)))
    numbered = _PARAMETER.sub(lambda found: f"${parameters.index(found[1]) + 1}", text)
    connection.exec_driver_sql(f"PREPARE {name} AS {numbered.replace('%', '%%')}")
    types = connection.execute(QUERIES["parameter_types"], {"name": name}).scalar_one()
    # The driver writes an array as one of text, which would not become one of uuid by itself.
    values = (f"CAST(%({one})s AS {kind})" for one, kind in zip(parameters, types, strict=True))
    return f"EXECUTE {name} ({', '.join(values)})"
