"""What a worker runs: models by their recipes, and functions for the task types that logic.yaml declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.recipe import Recipe
from gifty_compute.logic.source import DEFAULT_LOGIC
from gifty_compute.perform.source import Performer, Wanted
from gifty_compute.wire.kinds import KINDS
from gifty_compute.wire.task import Task

__all__ = ["Running", "handlers_of"]


def handlers_of(words: tuple[str, ...]) -> dict[str, str]:
    """Functions by the task types that they do. Raises InvalidConfig.

    >>> handlers_of(("ocr=pictures:read",))
    {'ocr': 'pictures:read'}
    """
    return dict(_handler(word) for word in words)


def _handler(word: str) -> tuple[str, str]:
    task_type, _, function = word.partition("=")
    if not task_type or ":" not in function:
        raise InvalidConfig(f"handler {word[:60]!r} must be like ocr=my_module:read")
    return task_type, function


@dataclass(frozen=True)
class Running:
    """The models of a worker. What `engine`, `source`, `directory` and `url` say is of all of them.

    `handlers` are functions, `module:function`, by the declared task types that they do. `logic` is the
    Logic in force, for a worker that has a logic.yaml.
    """

    models: tuple[str, ...]
    engine: str | None = None
    source: str | None = None
    revision: str | None = None
    directory: Path | None = None
    url: str | None = None
    handlers: Mapping[str, str] = field(default_factory=dict)
    logic: Callable[[], Logic] = lambda: DEFAULT_LOGIC

    def __post_init__(self) -> None:
        """Raises InvalidConfig for a model that is unknown or that nothing here runs."""
        for name in self.engines:
            self.recipe(name)
        for task_type in self.handlers:
            if task_type in KINDS:
                raise InvalidConfig(f"handler {task_type}: that type is done by models, not by functions")

    @property
    def engines(self) -> tuple[str, ...]:
        """All that is to be loaded, as `recipe` and tasks call it: models by their own names."""
        own = dict.fromkeys(self.recipe(model).model for model in self.models)
        return (*own, *self.handlers)

    @property
    def task_types(self) -> tuple[str, ...]:
        """What is asked for: a declared type is handed out to who names it."""
        return (*(tuple(KINDS) if self.models else ()), *self.handlers)

    @property
    def queues(self) -> list[tuple[str, str]]:
        """The (task type, model) pairs that it can do. Raises InvalidConfig for an undeclared type."""
        logic = self.logic()
        for task_type in self.handlers:
            if logic.declared(task_type) is None:
                raise InvalidConfig(f"handler {task_type}: logic.yaml declares no such task type")
        of_functions = [(task_type, logic.model_of_declared(task_type)) for task_type in self.handlers]
        return [*(logic.pairs_of_models(self.models) if self.models else ()), *of_functions]

    def recipe(self, name: str) -> Recipe:
        """How it is run. Raises InvalidConfig."""
        if name in self.handlers:
            return Recipe(name, "function", frozenset({name}), handler=self.handlers[name])
        recipe = self.logic().recipe(name, engine=self.engine)
        if not EngineShelf.built(recipe.engine):
            message = f"model {name!r} needs the engine {recipe.engine!r}, which is not in this version"
            raise InvalidConfig(message)
        return replace(
            recipe,
            source=self.source or recipe.source,
            # Another model's commit says nothing of this one.
            revision=self.revision or (None if self.source else recipe.revision),
            directory=self.directory or recipe.directory,
            url=self.url or recipe.url,
        )

    def performer(self, inference: Inference) -> Performer:
        """Does each task by the engine of its own model, or by the function of its type."""

        def begin(task: Task, wanted: Wanted) -> Future[dict[str, Any]]:
            name = task.task_type if task.task_type in self.handlers else str(task.model)
            return inference.submit(name, task.task_type, task.payload, wanted)

        return begin
