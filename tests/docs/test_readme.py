"""The README shows commands that exist, paths that are served, and a run's own output."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from celery import Celery
from werkzeug.exceptions import MethodNotAllowed, NotFound

from api import create_app
from gifty_compute.cli import main as compute
from gifty_compute.core import build
from gifty_compute.demo.catalogue import QUESTIONS, read_catalogue
from gifty_compute.poll.cli import main as worker
from gifty_compute.settings import Settings

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.ru.md")
PROGRAMS: dict[str, click.Command] = {"gifty-compute": compute, "gifty-worker": worker}
# What a person may type beside our own commands.
SHELL = {"export", "."}
ASSIGNMENT = re.compile(r"[A-Z_]+=.*")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """The contents of the fenced blocks of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", read(name), re.M | re.S)


def shown_commands(name: str) -> list[list[str]]:
    """Each command of the shell blocks in words, without comments."""
    lines = "".join(blocks(name, "sh")).replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def inline_commands(name: str) -> set[str]:
    """`make x` and calls of our programs in the text."""
    found = re.findall(r"`((?:make|gifty-compute|gifty-worker) [^`]+)`", read(name))
    return set(found)


def all_commands(name: str) -> list[list[str]]:
    return shown_commands(name) + [shlex.split(line) for line in sorted(inline_commands(name))]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", read("Makefile"), re.M))


@pytest.fixture(scope="module")
def paths() -> Iterator[set[tuple[str, str]]]:
    """Every method and path that the facade serves."""
    nowhere = Settings(database_url="postgresql://nobody@localhost/none", redis_url="redis://localhost:1")
    core = build(nowhere, Celery("paths", set_as_current=False))
    rules = [rule for rule in create_app(core).url_map.iter_rules() if rule.endpoint != "static"]
    yield {(method, rule.rule) for rule in rules for method in (rule.methods or set()) & {"GET", "POST"}}
    core.close()


def serves(method: str, path: str) -> None:
    """Raises NotFound or MethodNotAllowed for what the facade does not serve."""
    nowhere = Settings(database_url="postgresql://nobody@localhost/none", redis_url="redis://localhost:1")
    core = build(nowhere, Celery("serves", set_as_current=False))
    try:
        create_app(core).url_map.bind("localhost").match(path, method)
    finally:
        core.close()
