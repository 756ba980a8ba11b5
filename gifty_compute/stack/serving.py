"""Which models the workers of one stack are started with, and which work none of them does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gifty_compute.engines.places import lacks
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.logic.defaults import PACKAGED
from gifty_compute.logic.logic import KINDS, Logic
from gifty_compute.logic.recipe import Recipe
from gifty_compute.logic.source import DEFAULT_LOGIC
from gifty_compute.stack.options import Options

__all__ = ["Serving", "choose_models"]

Lacks = Callable[[Recipe], str | None]
_PACKAGED_MODELS = tuple(model for model, _ in PACKAGED.values())


@dataclass(frozen=True)
class Serving:
    """The models of the workers, and what is to be said of them at the start, a line each."""

    celery: tuple[str, ...] = ()
    """Empty where functions alone are served."""
    poll: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()

    @property
    def is_light(self) -> bool:
        """Whether packaged models alone are loaded, which takes a second and not minutes."""
        return {*self.celery, *self.poll} <= set(_PACKAGED_MODELS)


def choose_models(
    logic: Logic, options: Options, environ: Mapping[str, str], find_lacks: Lacks = lacks
) -> Serving:
    """Each kind's configured model that can run on this machine; the packaged one where none can.

    GIFTY_WORKER_MODELS decides instead where it is set. Raises InvalidConfig for a name in it that is unknown
    or that no worker runs.
    """
    asked = [(str(kind), logic.model(kind, None).name) for kind in KINDS]
    missing = {name: _missing(logic, name, find_lacks) for _, name in asked}
    given = tuple(name.strip() for name in environ.get("GIFTY_WORKER_MODELS", "").split(",") if name.strip())
    can_run = tuple(name for name, lacking in missing.items() if lacking is None)
    models = given or can_run or _PACKAGED_MODELS
    celery = () if environ.get("GIFTY_WORKER_HANDLERS") and not given else models
    poll = tuple(name for name in models if _is_built_in(logic, name)) or _PACKAGED_MODELS
    started = (*(celery if options.celery_workers else ()), *(poll if options.poll_workers else ()))
    served = set(logic.pairs_of_models(started)) if started else set()
    unserved = [pair for pair in asked if pair not in served]
    chosen = Serving(celery, poll)
    lines = [] if chosen.is_light else [f"The workers run {', '.join(dict.fromkeys((*celery, *poll)))}."]
    if started:
        lines += _of_unserved(unserved, missing)
    return Serving(celery, poll, tuple(lines))


def _missing(logic: Logic, name: str, find_lacks: Lacks) -> str | None:
    """What must be done before a worker here can run the model; None for nothing, "" where no worker can."""
    engine = logic.file.models[name].engine
    if engine is None or not EngineShelf.built(engine):
        return ""
    return find_lacks(logic.recipe(name))


def _is_built_in(logic: Logic, name: str) -> bool:
    """Whether a poll worker, which has no logic.yaml, runs the model in the same way."""
    own = logic.recipe(name).model
    return own in DEFAULT_LOGIC.file.models and DEFAULT_LOGIC.recipe(own) == logic.recipe(own)


def _of_unserved(unserved: Sequence[tuple[str, str]], missing: Mapping[str, str | None]) -> Iterator[str]:
    """A line for each way to mend it."""
    by_way: dict[str | None, list[tuple[str, str]]] = {}
    for kind, name in unserved:
        by_way.setdefault(missing[name], []).append((kind, name))
    for way, pairs in by_way.items():
        names = ", ".join(f"{kind}/{name}" for kind, name in pairs)
        models = dict.fromkeys(name for _, name in pairs)
        yield f"No worker here for {names}; low-priority tasks wait. {_mending(way, list(models))}"


def _mending(way: str | None, models: list[str]) -> str:
    if way is None:
        return "GIFTY_WORKER_MODELS, GIFTY_WORKER_HANDLERS or the number of workers leaves them out."
    if not way:
        return "Providers alone run these, at high priority and for batches that pay."
    elsewhere = " ".join(f"--model {name}" for name in models)
    return (
        f"To mend it: {way}, and start again; or run `gifty-worker {elsewhere}` on a machine that can;"
        " or let the packaged model answer everything: LOGIC_CONFIG_PATH=configs/logic.local.yaml."
    )
