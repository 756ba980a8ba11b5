"""What architecture.md and operations.md name is what the code has: modules, columns, indexes, settings."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel
from sqlalchemy import text

from gifty_compute.logic.file import ClientSection, LogicFile, ModelSection, ProviderSection, SpaceSection
from gifty_compute.logic.task_types import TaskTypeSection
from gifty_compute.queue.database import Database
from gifty_compute.queue.sql import QUERIES
from gifty_compute.settings import Settings
from gifty_compute.stack.runfile import RunInfo
from gifty_compute.wire.task import Status

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))
PROCFILE = (ROOT / "Procfile").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
VARIABLES = sorted(name.upper() for name in Settings.model_fields)


def section(page: str, title: str) -> str:
    """The page from this heading to the next."""
    _, found, rest = page.partition(f"{title}\n")
    assert found, f"there is no section {title!r}"
    return re.split(r"^##", rest, maxsplit=1, flags=re.M)[0]


def in_backticks(page: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", page))


def first_cells(page: str) -> set[str]:
    """What the first column of the tables holds in backticks."""
    return set(re.findall(r"`([^`]+)`", "\n".join(re.findall(r"^\|([^|]*)\|", page, re.M))))


def test_every_path_in_the_project_exists() -> None:
    pages = [ARCHITECTURE, OPERATIONS, *(page.read_text(encoding="utf-8") for page in DECISIONS)]
    named = {word for page in pages for word in in_backticks(page)}

    paths = {
        word for word in named if re.fullmatch(r"(api|workers|gifty_compute|configs|tests)/[\w./-]*", word)
    }

    assert len(paths) > 40
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_short_paths_of_the_decisions_are_of_the_package() -> None:
    named = {word for page in DECISIONS for word in in_backticks(page.read_text(encoding="utf-8"))}
    short = [word for word in sorted(named) if re.fullmatch(r"(queue|wire|embedded|logic)/[\w/]+\.py", word)]

    assert short
    assert [path for path in short if not (ROOT / "gifty_compute" / path).exists()] == []


def test_every_room_is_named() -> None:
    rooms = [
        path.relative_to(ROOT).as_posix() + ("/" if path.is_dir() else "")
        for path in [*(ROOT / "gifty_compute").iterdir(), *(ROOT / "api").glob("*.py")]
        if (path / "__init__.py").exists() or (path.suffix == ".py" and path.stem != "__init__")
    ]
    small = {"backoff", "cli", "clock", "commands", "wsgi", "docs"}  # in the picture of the layers

    missing = [room for room in rooms if room not in ARCHITECTURE and Path(room).stem not in small]

    assert missing == []


def test_the_layers_are_those_that_are_checked() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = pyproject["tool"]["importlinter"]["contracts"]
    [checked] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]

    [shown] = re.findall(r"^```layers\n(.*?)^```$", ARCHITECTURE, re.M | re.S)

    assert shown.splitlines() == checked


def test_every_column_is_explained(database: Database) -> None:
    columns = _names(database, "SELECT column_name FROM information_schema.columns WHERE table_name = :table")

    assert first_cells(section(ARCHITECTURE, "## The table")) == columns


def test_every_index_is_explained(database: Database) -> None:
    indexes = _names(database, "SELECT indexname FROM pg_indexes WHERE tablename = :table")

    assert first_cells(section(ARCHITECTURE, "### Indexes")) == indexes - {"compute_tasks_pkey"}


def _names(database: Database, sql: str) -> set[str]:
    with database.connection() as connection:
        return set(connection.execute(text(sql), {"table": "compute_tasks"}).scalars())


def test_every_statement_is_named_where_the_indexes_are() -> None:
    assert set(QUERIES) - in_backticks(section(ARCHITECTURE, "### Indexes")) == set()


def test_every_status_is_named() -> None:
    assert set(Status.__args__) <= in_backticks(section(ARCHITECTURE, "## The table"))


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_setting_is_in_the_reference_and_in_the_example(variable: str) -> None:
    assert f"| `{variable}` |" in section(OPERATIONS, "## Environment variables")
    assert re.search(rf"^#?{variable}=", EXAMPLE, re.M)


def test_defaults_of_settings_are_the_real_ones() -> None:
    shown = dict(re.findall(r"^\| `([A-Z_]+)` \| `?([^|`]+)`? \|", OPERATIONS, re.M))
    real = {
        name.upper(): "required" if field.is_required() else _shown(field.default)
        for name, field in Settings.model_fields.items()
    }

    assert {name: shown[name] for name in real} == real


def _shown(default: object) -> str:
    if default is None:
        return "none"
    if default == ():
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


@pytest.mark.parametrize("variable", re.findall(r"^#?([A-Z_]+)=", EXAMPLE, re.M))
def test_a_variable_of_the_example_is_explained(variable: str) -> None:
    assert f"`{variable}`" in section(OPERATIONS, "## Environment variables")


def test_every_program_of_the_procfile_is_explained() -> None:
    programs = set(re.findall(r"^(\w+):", PROCFILE, re.M))

    assert first_cells(section(OPERATIONS, "### Processes of your own")) == programs


def test_every_key_of_logic_yaml_is_explained() -> None:
    shown = first_cells(section(OPERATIONS, "## logic.yaml"))

    expected = set(_keys(LogicFile))
    parts = (SpaceSection, ModelSection, ProviderSection, TaskTypeSection, ClientSection)
    expected |= {f"….{name}" for part in parts for name in part.model_fields}

    assert shown == expected


def _keys(model: type[BaseModel]) -> Iterator[str]:
    """The keys as the reference writes them; those that all kinds have in common stand there once."""
    common = LogicFile.model_fields["embedding"].annotation.model_fields
    for name, field in model.model_fields.items():
        kind = field.annotation
        if name in ("spaces", "models", "providers", "task_types"):
            yield f"{name}.<name>"
        elif name == "clients":
            yield from ("clients.<name>", *(f"clients.{key}" for key in kind.model_fields))
        elif name == "routing":
            yield from (f"routing.{key}" for key in _leaves(kind))
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            own = [key for key in kind.model_fields if key not in common]
            yield from (f"{name}.{key}" for key in own)
            if set(common) <= set(kind.model_fields):
                yield name
                yield from (f"….{key}" for key in common)
        else:
            yield name


def _leaves(section: type[BaseModel]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from (f"{name}.{key}" for key in _leaves(inner))
                break
        else:
            yield name


def test_every_entry_of_run_json_is_named() -> None:
    fields = set(RunInfo.__dataclass_fields__) - {"pids"}

    assert fields <= in_backticks(section(OPERATIONS, "### One machine, nothing installed"))


@pytest.mark.parametrize("sql", re.findall(r"^```sql\n(.*?)^```$", OPERATIONS, re.M | re.S))
def test_a_statement_shown_to_operators_runs(database: Database, sql: str) -> None:
    with database.connection() as connection:
        connection.execute(text(sql))  # raises for a name that is not there


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_is_short_and_says_its_price(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()

    assert len(lines) < 40
    assert lines[0].startswith(f"# {page.stem[:4]} ")
    assert [line[2:].partition(".")[0] for line in lines if line.startswith("**")] == [
        "Context",
        "Decision",
        "Price",
    ]


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(page.stem[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))
