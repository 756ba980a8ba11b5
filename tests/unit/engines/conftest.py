"""The packaged model beside other tests: its threads sleep when they wait; its ONNX form, built once."""

import os
from pathlib import Path

import pytest

from gifty_compute.engines.form.build import build
from gifty_compute.logic.source import DEFAULT_LOGIC

# Read when the library is loaded. Threads that spin cost 2.5 times the CPU on two busy cores (measured).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "multilingual-e5-small"
    build(DEFAULT_LOGIC.recipe("multilingual-e5-small"), directory, int8=True)
    return directory
