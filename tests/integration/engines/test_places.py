"""What this machine lacks to run a model, looked at without loading it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from gifty_compute.engines import places
from gifty_compute.engines.places import lacks
from gifty_compute.logic.file import EngineName
from gifty_compute.logic.source import DEFAULT_LOGIC

BGE = DEFAULT_LOGIC.recipe("bge-m3")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every package of every engine."""
    monkeypatch.setattr(places, "find_spec", lambda name: object())


@pytest.mark.parametrize("engine", get_args(EngineName))
def test_without_its_packages_an_engine_names_the_extra(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "find_spec", lambda name: None)

    assert str(lacks(replace(BGE, engine=engine))).startswith("pip install 'gifty-compute[worker")


def test_the_packaged_model_lacks_nothing() -> None:
    assert lacks(DEFAULT_LOGIC.recipe("multilingual-e5-small")) is None


@pytest.mark.usefixtures("installed")
def test_a_model_of_the_hub_must_have_been_fetched(tmp_path: Path) -> None:
    environ = {"HF_HOME": str(tmp_path)}
    missing = lacks(BGE, environ)
    (tmp_path / "hub" / "models--BAAI--bge-m3" / "snapshots" / str(BGE.revision)).mkdir(parents=True)

    assert missing == f"hf download BAAI/bge-m3 --revision {BGE.revision}"
    assert lacks(BGE, environ) is None
    assert lacks(BGE, {"HF_HUB_CACHE": str(tmp_path / "hub")}) is None
    assert lacks(BGE, {"XDG_CACHE_HOME": str(tmp_path)}) == missing


@pytest.mark.usefixtures("installed")
def test_a_directory_must_be_there(tmp_path: Path) -> None:
    assert lacks(replace(BGE, directory=tmp_path)) is None
    assert lacks(replace(BGE, directory=tmp_path / "none")) == f"put the model into {tmp_path / 'none'}"


@pytest.mark.usefixtures("installed")
def test_a_form_that_is_built_here_must_have_been_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe = replace(DEFAULT_LOGIC.recipe("multilingual-e5-small"), engine="onnx")
    missing = lacks(recipe)
    places.built_at(recipe.model).mkdir(parents=True)

    assert missing == "gifty-worker models build multilingual-e5-small"
    assert lacks(recipe) is None


def test_a_model_at_a_server_needs_nothing_here() -> None:
    assert lacks(replace(BGE, engine="llm", url="http://127.0.0.1:1")) is None
