"""The queue's statements: each has a name, a purpose and a caller."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import gifty_compute
from gifty_compute.queue.sql import QUERIES

PACKAGE = Path(gifty_compute.__file__).parent
SQL = PACKAGE / "queue" / "sql"
KEYWORDS = re.compile(
    r"(?<!:)\b(select|insert into|update|delete|where|from|returning|order by|limit|set|values)\b"
)


def _strings_of_the_package() -> set[str]:
    return {
        node.value
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _statement(name: str) -> str:
    """The statement without its comments."""
    lines = QUERIES[name].text.splitlines()
    return "\n".join(line for line in lines if not line.startswith("--"))


def test_every_name_in_the_files_is_loaded() -> None:
    written = "".join(file.read_text(encoding="utf-8") for file in PACKAGE.rglob("queue/sql/*.sql"))

    assert written.count("-- name: ") == len(QUERIES) > 0


def test_a_part_is_shared_by_several_statements_and_stands_in_each_of_them() -> None:
    written = "".join(file.read_text(encoding="utf-8") for file in SQL.glob("*.sql"))
    parts = re.findall(r"^-- part: (\w+)\n-- [A-Z].{15,}", written, re.MULTILINE)

    assert parts
    assert [part for part in parts if written.count(f"{{{part}}}") < 2] == []
    assert [name for name, query in QUERIES.items() if re.search("[{}]", query.text)] == []


def test_every_statement_is_used_by_name() -> None:
    assert set(QUERIES) - _strings_of_the_package() == set()


@pytest.mark.parametrize("name", QUERIES)
def test_a_statement_begins_with_a_sentence_that_says_what_it_is_for(name: str) -> None:
    files = [path.read_text(encoding="utf-8") for path in SQL.glob("*.sql")]

    assert any(re.search(rf"^-- name: {name}\n-- [A-Z].{{15,}}", text, re.MULTILINE) for text in files)


@pytest.mark.parametrize("name", QUERIES)
def test_no_comment_travels_with_a_statement(name: str) -> None:
    assert "--" not in QUERIES[name].text


@pytest.mark.parametrize("name", QUERIES)
def test_a_name_stands_for_one_statement(name: str) -> None:
    assert _statement(name).strip()
    assert ";" not in _statement(name)


@pytest.mark.parametrize("name", QUERIES)
def test_keywords_are_upper_case(name: str) -> None:
    assert KEYWORDS.findall(_statement(name)) == []


@pytest.mark.parametrize(
    "name", ["claim", "complete", "fail", "release", "extend", "miss", "cancel", "sweep"]
)
def test_a_change_of_state_is_one_statement_that_carries_its_own_condition(name: str) -> None:
    statement = _statement(name)

    assert len(re.findall(r"\bUPDATE compute_tasks\b", statement)) == 1
    assert re.search(r"\bstatus (= '(pending|processing)'|IN \('pending', 'processing'\))", statement)


def test_no_module_writes_sql_of_its_own() -> None:
    sql = re.compile(r"\b(SELECT\s.+\sFROM|INSERT INTO|UPDATE\s+\w+\s+SET|DELETE FROM)\b", re.DOTALL)
    files = (PACKAGE / "queue").rglob("*.py")

    assert [file.name for file in files if sql.search(file.read_text(encoding="utf-8"))] == []
