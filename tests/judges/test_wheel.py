"""The wheel, built and installed by other people's tools: what it holds, and what it says when bare."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ["setup.cfg", "pyproject.toml", "README.md", "LICENSE", "gifty_compute", "api", "workers"]


def uv(*arguments: str | Path, cwd: Path) -> None:
    command = [sys.executable, "-m", "uv", *map(str, arguments), "--quiet"]
    subprocess.run(command, cwd=cwd, check=True, timeout=300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves folders in its source, and packs what an older one left."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    uv("build", "--wheel", "--out-dir", "dist", cwd=source)
    [built] = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel and nothing but what it requires."""
    environment = tmp_path_factory.mktemp("bare") / "venv"
    uv("venv", "--python", sys.executable, environment, cwd=wheel.parent)
    uv("pip", "install", "--python", environment / "bin" / "python", wheel, cwd=wheel.parent)
    return environment


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], cwd="/", capture_output=True, text=True, timeout=60)


def test_the_wheel_holds_gifty_compute_alone(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        top = {name.partition("/")[0] for name in archive.namelist()}

    assert {name for name in top if not name.endswith(".dist-info")} == {"gifty_compute"}


def test_the_wheel_holds_every_file_of_gifty_compute(wheel: Path) -> None:
    files = {path for path in (ROOT / "gifty_compute").rglob("*") if path.is_file()}
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("gifty_compute/")}

    assert packed == {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"}


def test_the_bare_install_imports(bare: Path) -> None:
    ended = run(bare / "bin" / "python", "-W", "error", "-c", "import gifty_compute")

    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("gifty-compute", "gifty-compute needs its server parts: pip install 'gifty-compute[server]'"),
        ("gifty-worker", "gifty-worker needs its worker parts: pip install 'gifty-compute[worker]'"),
    ],
)
def test_a_script_of_the_bare_install_says_what_to_install(bare: Path, script: str, sentence: str) -> None:
    ended = run(bare / "bin" / script, "--help")

    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"{sentence}\n")
