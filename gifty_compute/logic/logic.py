"""Logic: the decisions of one version of logic.yaml, with every default filled in."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast, get_args

from gifty_compute.errors import InvalidConfig, InvalidRequest, NotAllowed
from gifty_compute.logic import defaults
from gifty_compute.logic.document import Document
from gifty_compute.logic.experiments import BorrowedId, borrowed_ids, role_of_anothers
from gifty_compute.logic.file import (
    KindName,
    KindSection,
    LogicFile,
    ModelSection,
    RouteSection,
    SpaceSection,
    is_name,
)
from gifty_compute.logic.keys import foreign_switches
from gifty_compute.logic.offers import (
    Model,
    Offer,
    offers,
    refuse_bad_routes,
    refuse_mixed_spaces,
    refuse_unpriced_budgets,
)
from gifty_compute.logic.recipe import Recipe
from gifty_compute.logic.reference import Reference
from gifty_compute.logic.rights import refuse_unknown_rights
from gifty_compute.logic.task_types import TaskTypeSection
from gifty_compute.wire.expected import Expected

__all__ = ["KINDS", "Logic", "Model", "Offer"]

log = logging.getLogger(__name__)

KINDS: tuple[KindName, ...] = get_args(KindName)


@dataclass(frozen=True)
class Logic:
    """One version of the file. A request keeps the value that it began with."""

    file: LogicFile
    version: str
    references: Mapping[str, Reference] = field(default_factory=dict)
    """By space, where the space has any."""
    document: Document = field(default_factory=lambda: Document({}))
    """What the file itself says, before defaults and the environment."""

    def __post_init__(self) -> None:
        for name, section in self._sections.items():
            if "embedding" in section.kinds and section.space is None:
                raise InvalidConfig(f"models.{name}.space: an embedding model needs a space")
            if section.space is not None and section.space not in self._spaces:
                raise InvalidConfig(f"models.{name}.space: {section.space!r} is not among the spaces")
            packaged = defaults.PACKAGED.get(section.engine or "")
            if packaged is not None and (name, section.space) != packaged:
                only = " in space ".join(packaged)
                raise InvalidConfig(f"models.{name}.engine: {section.engine} runs {only} and nothing else")
            for alias in section.aliases:
                if self._names[alias] != name:
                    raise InvalidConfig(f"models.{name}.aliases: {alias!r} names {self._names[alias]!r}, too")
            for provider in section.providers:
                if provider not in self.file.providers:
                    known = ", ".join(self.file.providers)
                    message = f"there is no provider {provider!r}; known: {known}"
                    raise InvalidConfig(f"models.{name}.providers: {message}")
        for kind in ("classify", "score"):
            by = getattr(self.file, kind).llm_model
            if by not in self._sections or "llm" not in self._sections[by].kinds:
                raise InvalidConfig(f"{kind}.llm_model: {by!r} is not a model for llm")
        for kind in KINDS:
            name = self._default_model(kind)
            if name not in self._names or kind not in self._sections[self._names[name]].kinds:
                by_llm = kind == "embedding" and self.file.embedding.model is None
                key = "llm.model_embedding" if by_llm else f"{kind}.model"
                known = ", ".join(sorted(n for n, s in self._sections.items() if kind in s.kinds))
                raise InvalidConfig(f"{key}: {name!r} is not a model for {kind}; known: {known}")
            refuse_bad_routes(self.file, kind, self.model(kind, None))
        refuse_unknown_rights(self.file, KINDS, self._names.__contains__)
        refuse_mixed_spaces(self.file)
        refuse_unpriced_budgets(self.file)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know of a good file: one sentence each."""
        falling = (str(one) for one in self.experiment_ids if one.owner is None)
        return (*foreign_switches(self.file), *falling)

    @property
    def experiment_ids(self) -> tuple[BorrowedId, ...]:
        """The ids of language models that only `experiments` of the file names."""
        clients = defaults.GIFTY_IDS
        return tuple(one for name, one in self._borrowed.items() if name not in clients)

    @cached_property
    def _borrowed(self) -> dict[str, BorrowedId]:
        return borrowed_ids(self.file, self._names)

    @property
    def _sections(self) -> dict[str, ModelSection]:
        return self.file.models

    @property
    def _spaces(self) -> dict[str, SpaceSection]:
        return self.file.spaces

    @cached_property
    def _names(self) -> dict[str, str]:
        aliases = {alias: name for name, section in self._sections.items() for alias in section.aliases}
        literal = {self.file.llm.model_smart: "smart", self.file.llm.model_fast: "fast"}
        chosen = {name: own for name, own in literal.items() if name is not None}
        return {**chosen, **aliases, **{name: name for name in self._sections}}

    def refuse_changed_spaces(self, before: Logic) -> None:
        """Raises InvalidConfig where a space of that version is another one here under the same name."""
        for name, space in self._spaces.items():
            known = before._spaces.get(name, space)
            # How a provider is compared with the space does not change the space.
            checks = {"reference": known.reference, "min_cosine": known.min_cosine}
            if space.model_copy(update=checks) != known:
                reason = "its vectors would no longer compare; give the changed space a new name"
                raise InvalidConfig(f"spaces.{name}: {reason}")

    def refuse_cut_off(self, before: Logic) -> None:
        """Raises InvalidConfig where that version ended with an end mark and this one does not."""
        if before.document.end_mark is not None and self.document.end_mark is None:
            raise InvalidConfig(
                "the last line `end: true` (or `version: …`) is missing, which the version in force has: the "
                "file is not whole. To do without it from now on, restart the process"
            )

    def section(self, kind: str) -> RouteSection:
        """The file's own section of this kind."""
        section: RouteSection = getattr(self.file, kind)
        return section

    def _default_model(self, kind: KindName) -> str:
        if kind == "embedding":
            return self.file.embedding.model or self.file.llm.model_embedding
        section = self.section(kind)
        chosen = section.model if isinstance(section, KindSection) else None
        return chosen or defaults.KIND_MODELS[kind]

    def model(self, kind: str, name: str | None) -> Model:
        """The model that does this kind of work under this name, alias, "default" or None.

        Raises InvalidRequest: unknown_model, or not_served for a model that cannot do this kind.
        """
        found = self._models.get((kind, name))
        if found is None:
            found = self._found_model(kind, name)
            if name is None or name in self._names or name in self._borrowed:
                self._models[kind, name] = found
        return found

    @cached_property
    def _models(self) -> dict[tuple[str, str | None], Model]:
        """What was found before, of names that the file has: a request asks for its model several times."""
        return {}

    def _found_model(self, kind: str, name: str | None) -> Model:
        known = cast("KindName", kind)
        own = self._names.get(self._default_model(known) if name in (None, "default") else str(name))
        if own is None and kind == "llm":
            found = self._one_providers(str(name)) or self._of_a_borrowed_id(str(name))
            if found is not None:
                return found
        if own is None:
            raise InvalidRequest(f"there is no model {str(name)[:60]!r}", param="model", code="unknown_model")
        section = self._sections[own]
        if kind not in section.kinds:
            message = f"model {own!r} does not do {kind}"
            raise InvalidRequest(message, param="model", code="not_served")
        return Model(own, section)

    def _one_providers(self, name: str) -> Model | None:
        """The language model that "<provider>/<model>" names; None where it names none."""
        provider, _, model_id = name.partition("/")
        if not is_name(model_id) or "llm" not in getattr(self.file.providers.get(provider), "kinds", ()):
            return None
        # "groq/fast" is what Groq has for fast.
        own = model_id if model_id in self._sections else None
        own = own or role_of_anothers(self.file, provider, model_id, self._names, self._borrowed)
        known = self._sections[own] if own is not None else None
        model_id = known.providers.get(provider, model_id) if known is not None else model_id
        section = ModelSection(kinds=("llm",), providers={provider: model_id})
        return Model(name, section, is_one_providers=True)

    def _of_a_borrowed_id(self, name: str) -> Model | None:
        """The model for an id that only an experiment or Gifty's clients name; None for any other."""
        borrowed = self._borrowed.get(name)
        if borrowed is None:
            return None
        if borrowed.owner is not None:
            return self._one_providers(f"{borrowed.owner}/{name}")
        log.warning("%s", borrowed)
        return Model(borrowed.role, self._sections[borrowed.role])

    def place(self, task_type: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The payload with the configured model, input type and category tree filled in.

        A worker needs no logic.yaml to do it then, and a later edit of the file does not change it.
        Raises InvalidRequest for a type or model that nothing here serves.
        """
        self.require_type(task_type)
        model = self.model(task_type, payload.get("model"))
        placed = {**payload, "model": model.name}
        if model.space is not None and task_type == "embedding":
            placed.setdefault("input_type", self._spaces[model.space].default_input_type)
        if task_type == "classify" and not payload.get("internal_categories"):
            if not self.file.classify.internal_categories:
                raise InvalidRequest(
                    "no internal_categories sent, and none configured", param="internal_categories"
                )
            placed["internal_categories"] = [c.model_dump() for c in self.file.classify.internal_categories]
        return placed

    def require_type(self, task_type: str) -> None:
        """Raises InvalidRequest unless something here can do tasks of this type."""
        if task_type not in KINDS and task_type not in self.file.task_types:
            message = f"there is no task type {task_type[:60]!r}"
            raise InvalidRequest(message, param="task_type", code="unknown_task_type")

    def refuse_to(self, client: str, kind: str, model: str) -> None:
        """Raises NotAllowed where the client may not ask for this kind, or for this model (its own name)."""
        section = self.file.clients.of(client)
        if section.kinds is not None and kind not in section.kinds:
            raise NotAllowed(f"{client} may not ask for {kind}", param="task_type")
        if kind in self.file.task_types or section.models is None:
            return
        if model not in {self._names.get(name, name) for name in section.models}:
            raise NotAllowed(f"{client} may not ask for model {model!r}", param="model")

    def barred(self, client: str) -> frozenset[str]:
        """The providers that work of this client never goes to."""
        allowed = self.file.clients.of(client).providers
        return frozenset() if allowed is None else frozenset(self.file.providers).difference(allowed)

    def expected(self, kind: str, model_name: str, *, done_by: str | None = None) -> Expected:
        """What a result of this kind by this model must agree with; `done_by` is who really did it."""
        model = self.model(kind, model_name)
        key = kind, model.name, done_by
        found = self._expected.get(key)
        if found is None:
            found = Expected(
                model=done_by or model.name,
                space=model.space if kind == "embedding" else None,
                dim=self._spaces[model.space].dim if model.space and kind == "embedding" else None,
                aliases=frozenset(model.section.aliases),
                min_confidence=self.file.classify.min_confidence if kind == "classify" else 0.0,
            )
            if model.name in self._sections:
                self._expected[key] = found
        return found

    @cached_property
    def _expected(self) -> dict[tuple[str, str, str | None], Expected]:
        """What was made before, of models that the file has."""
        return {}

    def declared(self, task_type: str) -> TaskTypeSection | None:
        """The type as the file declares it; None for one that is built in, or unknown."""
        return self.file.task_types.get(task_type)

    def model_of_declared(self, task_type: str) -> str:
        """What the tasks of a declared type are named by where others name a model."""
        return self.file.task_types[task_type].model or task_type

    def space_name(self, kind: str, model_name: str) -> str | None:
        """The name of the space of this model's vectors; None where the work makes none."""
        if kind in self.file.task_types:
            return None
        return self.expected(kind, model_name).space

    def offered(
        self, task_types: tuple[str, ...], models: tuple[str, ...], spaces: tuple[str, ...] = ()
    ) -> list[tuple[str, str]]:
        """The (task type, model) pairs that a worker asking for these may be handed.

        Without models: those of the named spaces, else each type's configured default only. Unknown names
        match nothing. A declared type is handed out to who names it, whatever models he names.
        """
        pairs = self._offered_kinds(task_types, models, spaces)
        declared = [one for one in task_types if one in self.file.task_types and not spaces]
        return pairs + [(one, self.model_of_declared(one)) for one in declared]

    def _offered_kinds(
        self, task_types: tuple[str, ...], models: tuple[str, ...], spaces: tuple[str, ...]
    ) -> list[tuple[str, str]]:
        kinds = [kind for kind in task_types or KINDS if kind in KINDS]
        if not models and not spaces:
            return [(kind, self.model(kind, None).name) for kind in kinds]
        own = {self._names[name] for name in models if name in self._names}
        own |= {name for name, section in self._sections.items() if not models and section.space in spaces}
        return [(kind, name) for kind in kinds for name in sorted(own) if kind in self._sections[name].kinds]

    def pairs_of_models(self, models: tuple[str, ...]) -> list[tuple[str, str]]:
        """All (task type, model) pairs that a worker with these models can do.

        Raises InvalidConfig for one that is unknown, or that only providers serve.
        """
        for name in models:
            self.engine_of(name)
        return self.offered((), models)

    def engine_of(self, model_name: str) -> str:
        """The engine that runs a model, by its own name or an alias. Raises InvalidConfig."""
        own = self._own_name(model_name)
        engine = self._sections[own].engine
        if engine is None:
            raise InvalidConfig(f"model {own!r} has no engine: only providers serve it")
        return engine

    def _own_name(self, model_name: str) -> str:
        own = self._names.get(model_name)
        if own is None:
            known = ", ".join(sorted(self._sections))
            raise InvalidConfig(f"there is no model {model_name!r}; known: {known}")
        return own

    def recipe(self, model_name: str, engine: str | None = None) -> Recipe:
        """How a model is run on this machine, by its own name or an alias; by this engine, if one is named.

        Raises InvalidConfig.
        """
        own = self._own_name(model_name)
        engine = engine or self.engine_of(model_name)
        section = self._sections[own]
        return Recipe(
            own,
            engine,
            frozenset(section.kinds),
            space_name=section.space,
            space=self._spaces[section.space] if section.space else None,
            source=section.source,
            revision=section.revision,
            directory=Path(section.directory).expanduser() if section.directory else None,
            url=section.url,
        )

    def space(self, name: str) -> SpaceSection:
        """The space of this name."""
        return self._spaces[name]

    def offers(self, kind: str, model: Model) -> tuple[Offer, ...]:
        """The providers that may answer this kind by this model at high priority, in the configured order."""
        return offers(self.file, cast("KindName", kind), model)
