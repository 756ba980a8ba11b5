"""What the READMEs show: commands that exist, paths that are served, and a run's own output."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from celery import Celery
from flask import Flask

from api import create_app
from gifty_compute.cli import main as compute
from gifty_compute.core import build
from gifty_compute.demo.catalogue import QUESTIONS, read_catalogue
from gifty_compute.poll.cli import main as worker
from gifty_compute.settings import Settings

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.ru.md")
PAGES = (*READMES, "docs/architecture.md", "docs/operations.md", "docs/callbacks.md", "docs/callbacks.ru.md")
LISTS = {"README.md": "## Not yet", "README.ru.md": "## Чего ещё нет"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """The contents of the page's fenced blocks of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", read(name), re.M | re.S)


def commands(name: str) -> list[list[str]]:
    """Each command of the shell blocks and of the text, in words and without comments."""
    lines = "".join(blocks(name, "sh")).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`((?:make|gifty-compute|gifty-worker) [^`]+)`", read(name))
    return [words for line in [*lines, *inline] if (words := shlex.split(line, comments=True))]


def commands_of(name: str, program: str) -> list[list[str]]:
    """The arguments of each call of this program; the page has at least one."""
    found = [words[1:] for words in commands(name) if words[0] == program]
    assert found, f"{name} shows no {program}"
    return found


def without_code(name: str) -> str:
    return re.sub(r"^```.*?^```$", "", read(name), flags=re.M | re.S)


@pytest.fixture(scope="module")
def app() -> Iterator[Flask]:
    """The facade; nothing is dialled."""
    settings = Settings(
        database_url="postgresql://nobody@localhost/none",
        redis_url="redis://localhost:1",
        logic_config_path=ROOT / "configs/logic.local.yaml",
    )
    core = build(settings, Celery("readme", set_as_current=False))
    yield create_app(core)
    core.close()


def methods(app: Flask, path: str) -> set[str]:
    """The methods that the facade serves at the path; none for one that it does not have."""
    return set(app.url_map.bind("localhost").allowed_methods(path))


@pytest.mark.parametrize("name", READMES)
def test_the_two_commands_and_their_output_begin_within_30_lines(name: str) -> None:
    beginning = "\n".join(read(name).splitlines()[:30])

    assert re.search(r"^make run .*^make test .*^```text\n.", beginning, re.M | re.S)


@pytest.mark.parametrize("name", READMES)
def test_every_line_of_a_shell_block_is_of_a_kind_that_is_checked(name: str) -> None:
    strange = [
        words
        for words in commands(name)
        if words[0] not in {"make", "curl", "gifty-compute", "gifty-worker", "export"}
        and words != [".", ".venv/bin/activate"]
        and not re.fullmatch(r"[A-Z_]+=.*", words[0])
    ]

    assert strange == []


@pytest.mark.parametrize("name", READMES)
def test_every_make_target_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.M))

    shown = {word for words in commands_of(name, "make") for word in words if "=" not in word}

    assert shown >= {"run", "test"}
    assert shown <= targets


@pytest.mark.parametrize("name", READMES)
def test_every_subcommand_and_option_exists(name: str) -> None:
    calls: list[tuple[click.Command, list[str]]] = [
        (compute.commands[words[0]], words[1:]) for words in commands_of(name, "gifty-compute")
    ]
    calls += [(worker, words) for words in commands_of(name, "gifty-worker") if words]

    for command, arguments in calls:
        command.make_parser(click.Context(command)).parse_args(arguments)  # raises NoSuchOption


@pytest.mark.parametrize("name", READMES)
def test_every_option_in_the_text_exists_and_those_of_up_are_all_there(name: str) -> None:
    known = {
        option
        for command in (*compute.commands.values(), worker)
        for parameter in command.params
        for option in parameter.opts
    }

    shown = set(re.findall(r"--[a-z][a-z-]+", without_code(name)))

    assert shown <= known
    assert shown >= {option for parameter in compute.commands["up"].params for option in parameter.opts}


@pytest.mark.parametrize("name", READMES)
def test_every_path_that_curl_asks_for_is_served(app: Flask, name: str) -> None:
    for words in commands_of(name, "curl"):
        [url] = [word for word in words if word.startswith("$API_URL/")]
        path, _, _ = url.removeprefix("$API_URL").partition("?")

        assert ("POST" if {"-d", "--data-binary"} & {*words} else "GET") in methods(app, path), url


@pytest.mark.parametrize("name", PAGES)
def test_every_call_in_the_text_is_served(app: Flask, name: str) -> None:
    calls = re.findall(r"\b(GET|POST) (/[^\s`?]+)", without_code(name))

    assert calls
    assert [(verb, path) for verb, path in calls if verb not in methods(app, path)] == []


def test_every_path_that_is_served_is_named_in_a_page(app: Flask) -> None:
    rules = {re.sub(r"<\w+>", "{id}", r.rule) for r in app.url_map.iter_rules() if r.endpoint != "static"}
    pages = "".join(read(name) for name in PAGES if name != "README.ru.md")

    assert len(rules) > 10
    assert [rule for rule in rules if not re.search(re.escape(rule) + r"(?![\w/])", pages)] == []


def test_the_page_of_the_service_itself_shows_every_path_and_every_body(app: Flask) -> None:
    client = app.test_client()
    document = client.get("/openapi.json").json
    page = client.get("/docs").text

    described = [one for path in document["paths"].values() for one in path.values()]
    bodies = sum("requestBody" in one for one in described)
    assert [path for path in document["paths"] if f"</b> {path}</h2>" not in page] == []
    assert page.count("<summary>Body: ") == bodies > 5


@pytest.mark.parametrize("name", READMES)
def test_the_paths_that_are_not_there_yet_are_not_there(app: Flask, name: str) -> None:
    section = read(name).partition(f"{LISTS[name]}\n")[2].partition("\n## ")[0]

    paths = re.findall(r"`(/[\w/]+)`", section)

    assert "/ops" in paths
    assert [path for path in paths if methods(app, path)] == []


@pytest.mark.parametrize("name", READMES)
def test_python_blocks_compile(name: str) -> None:
    examples = blocks(name, "python")

    assert len(examples) == 3
    for example in examples:
        compile(example, name, "exec")


def test_the_bare_worker_has_15_lines_and_is_where_the_end_to_end_test_looks() -> None:
    _, _, rest = read("README.md").partition("<!-- example: bare-worker -->\n```python\n")

    lines = [line for line in rest.partition("```")[0].splitlines() if line]

    assert len(lines) == 15


@pytest.mark.parametrize("language", ["sh", "python", "text"])
def test_both_readmes_show_the_same(language: str) -> None:
    english, russian = ([_without_comments(b) for b in blocks(name, language)] for name in READMES)

    assert english
    assert english == russian


def _without_comments(block: str) -> str:
    return re.sub(r" +# .*$", "", block, flags=re.M)


@pytest.mark.parametrize("name", READMES)
def test_the_output_shown_is_of_the_demo_as_it_is(name: str) -> None:
    output, demo = blocks(name, "text")[0], read("gifty_compute/demo/demo.py")
    products = len(read_catalogue())

    rows = re.findall(r"│ (?:  )?([a-z ]+?) *│ [\d.]+", output.partition("This run")[2])

    assert f"Submitting ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ {products}/{products} " in output
    assert f"{products} of {products}" in output
    assert f"«{next(iter(QUESTIONS))}»" in output
    assert rows[0] == "products embedded"
    assert [row for row in rows if f'"{row}"' not in demo] == []


@pytest.mark.parametrize("name", [*PAGES, "CHANGELOG.md"])
def test_every_link_leads_somewhere(name: str) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", read(name))

    assert [target for target in targets if not (ROOT / name).parent.joinpath(target).exists()] == []
