"""What a worker runs, by what its owner says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.source import parse_logic
from gifty_compute.perform.running import Running
from gifty_compute.poll.cli import main
from gifty_compute.settings import read_serving_settings
from gifty_compute.wire.kinds import KINDS


def test_without_a_word_a_model_is_run_by_its_built_in_recipe() -> None:
    running = Running(("bge-m3",))

    recipe = running.recipe("bge-m3")

    assert (recipe.engine, recipe.source) == ("torch", "BAAI/bge-m3")
    assert recipe.revision
    assert running.task_types == tuple(KINDS)


def test_another_source_has_another_commit_or_none() -> None:
    assert Running(("bge-m3",), source="me/my-bge").recipe("bge-m3").revision is None
    assert Running(("bge-m3",), source="me/my-bge", revision="abc").recipe("bge-m3").revision == "abc"


def test_a_model_without_an_engine_is_given_one() -> None:
    recipe = Running(("gift-scorer",), engine="llm", url="http://h/v1", source="q").recipe("gift-scorer")

    assert (recipe.engine, recipe.url, recipe.source, recipe.kinds) == ("llm", "http://h/v1", "q", {"score"})


def test_functions_alone_ask_for_their_types_alone() -> None:
    running = Running((), handlers={"ocr": "pictures:read"})

    assert (running.task_types, running.engines) == (("ocr",), ("ocr",))
    assert running.recipe("ocr").handler == "pictures:read"


def test_a_model_is_loaded_once_by_its_own_name_whatever_it_is_called() -> None:
    assert Running(("BAAI/bge-m3", "bge-m3")).engines == ("bge-m3",)


def test_the_queues_are_those_of_the_models_and_of_the_declared_types() -> None:
    logic = parse_logic("task_types: {ocr: {model: tesseract-5}}")
    running = Running(("multilingual-e5-small",), handlers={"ocr": "a:b"}, logic=lambda: logic)

    assert ("ocr", "tesseract-5") in running.queues
    assert ("embedding", "multilingual-e5-small") in running.queues
    with pytest.raises(InvalidConfig, match=r"logic\.yaml declares no such task type"):
        _ = Running((), handlers={"ocr": "a:b"}).queues


@pytest.mark.parametrize(
    ("models", "handlers", "served"),
    [
        ("", "", ("multilingual-e5-small",)),
        ("", "ocr=a:b", ()),
        ("bge-m3, smart", "ocr=a:b", ("bge-m3", "smart")),
    ],
)
def test_a_celery_worker_serves_the_packaged_model_if_nothing_else_is_named(
    monkeypatch: pytest.MonkeyPatch, models: str, handlers: str, served: tuple[str, ...]
) -> None:
    monkeypatch.setenv("GIFTY_WORKER_MODELS", models)
    monkeypatch.setenv("GIFTY_WORKER_HANDLERS", handlers)

    assert read_serving_settings().models == served


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"models": ("no-such",)}, "there is no model"),
        ({"models": ("gift-scorer",)}, "only providers serve it"),
        ({"models": ("bge-m3",), "engine": "banana"}, "not in this version"),
        ({"models": (), "handlers": {"embedding": "a:b"}}, "done by models"),
    ],
)
def test_what_nothing_here_runs_is_refused(said: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidConfig, match=reason):
        Running(**said)


@pytest.mark.parametrize("word", ["ocr", "ocr=read", "=a:b"])
def test_a_handler_that_is_not_written_so_is_a_usage_error(tmp_path: Path, word: str) -> None:
    ended = CliRunner().invoke(main, ["--api", "http://h", "--token", "t", "--handler", word])

    assert ended.exit_code == 2
    assert "must be like ocr=my_module:read" in ended.output
