"""What installs what: setup.cfg, the lock file of the deployed set, and what the wheel must carry."""

from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "gifty_compute"
LOCK = ROOT / "requirements.lock"

setup = ConfigParser()
setup.read(ROOT / "setup.cfg", encoding="utf-8")


def declared(*extras: str) -> list[Requirement]:
    """The bare package's requirements and those of the extras."""
    texts = [setup["options"]["install_requires"], *(setup["options.extras_require"][e] for e in extras)]
    lines = "\n".join(texts).splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pins() -> list[tuple[Requirement, int]]:
    """Each pin of the lock file with the number of its hashes."""
    entries = re.findall(r"^(\S+==[^\n]+?)((?: \\\n +--hash=sha256:[0-9a-f]{64})*)$", LOCK.read_text(), re.M)
    return [(Requirement(pin), hashes.count("--hash=")) for pin, hashes in entries]


def version_of(pin: Requirement) -> str:
    [specifier] = pin.specifier
    assert specifier.operator == "=="
    return specifier.version


@pytest.mark.parametrize("wanted", declared("server", "worker"), ids=lambda wanted: wanted.name)
def test_the_lock_pins_what_setup_cfg_allows(wanted: Requirement) -> None:
    found = [
        version_of(pin) for pin, _ in pins() if canonicalize_name(pin.name) == canonicalize_name(wanted.name)
    ]

    assert found, f"requirements.lock lacks {wanted.name}: make lock"
    for version in found:
        assert wanted.specifier.contains(version), f"{wanted.name} {version} is outside {wanted}: make lock"


def test_the_lock_pins_nothing_that_setup_cfg_has_dropped() -> None:
    entries = re.split(r"\n(?=\w)", LOCK.read_text())
    asked_for = {entry.partition("==")[0] for entry in entries if "gifty-compute (setup.cfg)" in entry}

    assert asked_for == {canonicalize_name(wanted.name) for wanted in declared("server", "worker")}


def test_every_pin_of_the_lock_is_hashed() -> None:
    unhashed = [pin.name for pin, hashes in pins() if not hashes]

    assert len(pins()) > 30
    assert unhashed == []


def test_the_lock_serves_every_python_of_setup_cfg() -> None:
    for minor in ("3.11", "3.12", "3.13"):
        python = {"python_version": minor, "python_full_version": f"{minor}.9", "sys_platform": "linux"}
        names = [pin.name for pin, _ in pins() if _applies(pin.marker, python)]

        assert "numpy" in names
        assert len(names) == len(set(names)), f"two pins of one package apply to Python {minor}"


def _applies(marker: Marker | None, environment: dict[str, str]) -> bool:
    return marker is None or marker.evaluate(environment)


def test_the_lock_names_no_registry_and_no_folder_of_a_machine() -> None:
    lock = LOCK.read_text()

    assert not re.search(r"https?:|file:|--(extra-)?index-url|--find-links|(?m:(^|\s)/\w)", lock)


def test_every_file_that_is_no_module_is_declared_as_package_data() -> None:
    globs_of = {
        PACKAGE.parent.joinpath(*package.split(".")): globs.split()
        for package, globs in setup["options.package_data"].items()
    }
    files = [
        path
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and not path.name.startswith(".")
    ]

    lost = [path for path in files if not any(fnmatch(path.name, g) for g in globs_of.get(path.parent, []))]

    assert lost == [], "the wheel would lack these"


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}

    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_metadata_is_in_setup_cfg_alone() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert "project" not in pyproject
    assert pyproject["build-system"]["build-backend"] == "setuptools.build_meta"


def test_the_required_top_level_is_there() -> None:
    required = "setup.cfg celeryconfig.py configs gifty_compute workers api tests Procfile docker-compose.yml"

    assert [name for name in required.split() if not (ROOT / name).exists()] == []
