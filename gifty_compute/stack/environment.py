"""What the children find in their environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gifty_compute.logic.defaults import PROVIDERS
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import read_logic
from gifty_compute.providers.keys import read_keys
from gifty_compute.settings import LogicSettings
from gifty_compute.stack.credentials import Credentials
from gifty_compute.stack.options import Options

__all__ = ["PROVIDER_KEYS", "children_environment", "choose_logic", "read_chosen_logic", "with_keys_file"]

_OF_WORKERS_ELSEWHERE = ("GIFTY_COMPUTE_URL", "GIFTY_WORKER_TOKEN")
PROVIDER_KEYS = tuple(section.key_variable for section in PROVIDERS.values() if section.key_variable)


def with_keys_file(environ: Mapping[str, str], data_dir: Path) -> dict[str, str]:
    """The environment with PROVIDER_KEYS_FILE: the given one, else `keys.env` of the data directory."""
    given = environ.get("PROVIDER_KEYS_FILE")
    # The children work in the checkout, the caller need not.
    path = Path(given).absolute() if given else data_dir / "keys.env"
    return {**environ, "PROVIDER_KEYS_FILE": str(path)} if given or path.exists() else dict(environ)


def choose_logic(environ: Mapping[str, str], checkout: Path, announce: Callable[[str], None]) -> Path:
    """The logic file: the given one, else the production file if any provider could answer it.

    Raises InvalidConfig for a bad file of keys.
    """
    named = environ.get("PROVIDER_KEYS_FILE")
    keys = {**environ, **(read_keys(Path(named)) if named else {})}
    if given := environ.get("LOGIC_CONFIG_PATH"):
        return Path(given).absolute()  # the children work in the checkout, the caller need not
    if key := next((key for key in PROVIDER_KEYS if keys.get(key)), None):
        announce(f"{key} is set: configs/logic.yaml is in force.")
        return checkout / "configs/logic.yaml"
    announce("No provider key is set: the local model answers (configs/logic.local.yaml).")
    return checkout / "configs/logic.local.yaml"


def read_chosen_logic(path: Path, environ: Mapping[str, str]) -> Logic:
    """As the children will read it. Raises InvalidConfig; they would, each with a traceback in its log."""
    names = ("llm_provider", "embedding_model", "anthropic_model_fast", "anthropic_model_smart")
    said: dict[str, Any] = {name: environ.get(name.upper()) or None for name in names}
    return read_logic(path, LogicSettings(**said).llm_overrides)


def children_environment(
    environ: Mapping[str, str],
    *,
    options: Options,
    credentials: Credentials,
    database_url: str,
    redis_url: str,
    logic: Path,
    models: tuple[str, ...] = (),
) -> dict[str, str]:
    """The caller's environment with what the stack has decided; `models` are those of Celery workers."""
    threads = _threads_per_model(options)
    return {
        # Left alone, each model process would take all cores, and spin while it waits.
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "PYTHONUNBUFFERED": "1",
        # With these a Celery worker would work for another service, over HTTP.
        **{name: value for name, value in environ.items() if name not in _OF_WORKERS_ELSEWHERE},
        **credentials.environment,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "LOGIC_CONFIG_PATH": str(logic),
        **({"GIFTY_WORKER_MODELS": ",".join(models)} if models else {}),
    }


def _threads_per_model(options: Options) -> int:
    """Cores for each process that holds a model; the facade is one, it answers questions."""
    processes = options.celery_workers + options.poll_workers + 1
    return max(1, len(os.sched_getaffinity(0)) // processes)
