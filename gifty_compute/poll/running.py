"""What a worker runs: the built-in recipes of models, and what its owner says of them on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.recipe import Recipe
from gifty_compute.logic.source import DEFAULT_LOGIC
from gifty_compute.wire.kinds import KINDS
from gifty_compute.wire.task import Task

__all__ = ["Running"]


@dataclass(frozen=True)
class Running:
    """The models of a worker. What `engine`, `source`, `directory` and `url` say is of all of them.

    `handlers` are functions, `module:function`, by the declared task types that they do.
    """

    models: tuple[str, ...]
    engine: str | None = None
    source: str | None = None
    revision: str | None = None
    directory: Path | None = None
    url: str | None = None
    handlers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises InvalidConfig for a model that is unknown or that nothing here runs."""
        for name in self.engines:
            self.recipe(name)
        for task_type in self.handlers:
            if task_type in KINDS:
                raise InvalidConfig(f"--handler {task_type}: that type is done by models, not by functions")

    @property
    def engines(self) -> tuple[str, ...]:
        """All that is to be loaded, as `recipe` and `name_of` call it."""
        return (*self.models, *self.handlers)

    @property
    def task_types(self) -> tuple[str, ...]:
        """What is asked for: a declared type is handed out to who names it."""
        return (*(tuple(KINDS) if self.models else ()), *self.handlers)

    def name_of(self, task: Task) -> str:
        """What does this task."""
        return task.task_type if task.task_type in self.handlers else str(task.model)

    def recipe(self, name: str) -> Recipe:
        """How it is run. Raises InvalidConfig."""
        if name in self.handlers:
            return Recipe(name, "function", frozenset({name}), handler=self.handlers[name])
        recipe = DEFAULT_LOGIC.recipe(name, engine=self.engine)
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
