"""Offers: which providers may be asked for a model, in which order, and under which id each knows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic import defaults
from gifty_compute.logic.file import (
    ClassifySection,
    KindName,
    KindSection,
    LogicFile,
    ModelSection,
    OfferSection,
    ProviderSection,
    ScoreSection,
)

__all__ = ["Model", "Offer", "offers", "refuse_bad_routes", "refuse_mixed_spaces", "refuse_unpriced_budgets"]


@dataclass(frozen=True)
class Model:
    """A model by its own name, with the name of its vectors' space (None for a model that makes none)."""

    name: str
    section: ModelSection
    is_one_providers: bool = False
    """Whether the caller named the provider with it, so that nobody else is asked."""

    @property
    def space(self) -> str | None:
        return self.section.space


@dataclass(frozen=True)
class Offer:
    """A provider that may be asked for a model, and how it is asked."""

    provider: str
    section: ProviderSection
    ask_as: KindName
    """What the adapter is asked for: the kind itself, or `llm` where a language model does the work."""
    model_id: str
    """The provider's own name of the model."""
    flags: OfferSection
    model_name: str
    """What the answer says that it was done by."""


def offers(file: LogicFile, kind: KindName, model: Model) -> tuple[Offer, ...]:
    """All providers of the route for this kind that serve this very model, in the configured order."""
    names = dict.fromkeys(model.section.providers if model.is_one_providers else _route(file, kind))
    if not file.features.use_runpod_for_high_priority:
        names.pop("runpod", None)
    found = (_offer(file, kind, model, name) for name in names)
    return tuple(offer for offer in found if offer is not None)


def refuse_bad_routes(file: LogicFile, kind: KindName, model: Model) -> None:
    """Raises InvalidConfig where the file names a provider that does not serve the kind's own model.

    Nothing else would tell: a provider that is left out, or one whose vectors are of another space.
    """
    for key, name in _named(file, kind):
        if name not in file.providers:
            raise InvalidConfig(f"{key}: there is no provider {name!r}; known: {', '.join(file.providers)}")
        if _offer(file, kind, model, name) is None:
            raise InvalidConfig(f"{key}: {_why_not(file, kind, model, name)}")


def refuse_mixed_spaces(file: LogicFile) -> None:
    """Raises InvalidConfig where a provider would serve a model by what is known as one of another space.

    The vectors would have the right form, often even the right dimension.
    """
    models = {name: model for name, model in file.models.items() if model.space is not None}
    known = {said: name for name, model in models.items() for said in (name, *model.aliases)}
    served: dict[tuple[str, str], str] = {}
    for name, model in models.items():
        for provider, model_id in model.providers.items():
            other = served.setdefault((provider, model_id), known.get(model_id, name))
            if models[other].space != model.space:
                raise InvalidConfig(
                    f"models.{name}.providers.{provider}: {model_id} is known as {other} (space "
                    f"{models[other].space}), so it cannot serve {name} (space {model.space})"
                )


def refuse_unpriced_budgets(file: LogicFile) -> None:
    """Raises InvalidConfig for a budget that nothing could be counted against."""
    clients = [name for name, client in file.clients.named.items() if client.usd_per_day is not None]
    for name, provider in file.providers.items():
        if provider.budget_usd_per_day is not None:
            _refuse_half_prices(file, name, provider, whose=f"providers.{name}.budget_usd_per_day")
        elif clients:
            _refuse_half_prices(file, name, provider, whose=f"clients.{clients[0]}.usd_per_day")
        if provider.budget_usd_per_day is None or provider.reports_cost:
            continue
        for model in file.models.values():
            model_id = model.providers.get(name)
            priced = model_id is None or _flags(provider, model_id).price is not None
            if not priced and provider.usd_per_second is None:
                missing = f"providers.{name}.models.{model_id}.price, or providers.{name}.price"
                raise InvalidConfig(f"providers.{name}.budget_usd_per_day: needs {missing}")


def _refuse_half_prices(file: LogicFile, name: str, provider: ProviderSection, *, whose: str) -> None:
    """Raises InvalidConfig for a price whose other half would count as nothing for `whose` budget."""
    others = {m.providers[name] for m in file.models.values() if name in m.providers and "llm" not in m.kinds}
    prices = {f"models.{model_id}.price": flags.price for model_id, flags in provider.models.items()}
    for key, price in {**prices, "price": provider.price}.items():
        writes = "llm" in provider.kinds and key not in {f"models.{other}.price" for other in others}
        needed = {"input_per_million", *(("output_per_million",) if writes else ())}
        missing = sorted(needed - price.model_fields_set) if price is not None else []
        if missing:
            where = f"providers.{name}.{key}.{missing[0]}"
            raise InvalidConfig(f"{whose}: needs {where}; 0 is a price, too")


def _route(file: LogicFile, kind: KindName) -> Iterable[str]:
    if kind == "llm":
        return (file.llm.default_provider, *file.llm.fallbacks)
    section: KindSection = getattr(file, kind)
    if section.providers is not None:
        return section.providers
    if kind == "embedding":
        return (file.llm.embedding_provider, "intelligence_api", *file.providers)
    first = defaults.KIND_PROVIDERS[kind]
    if kind == "rerank":
        return (first, *file.providers)
    return (first, *_native(file, kind), file.llm.default_provider, *file.llm.fallbacks)


def _native(file: LogicFile, kind: KindName) -> list[str]:
    return [name for name, section in file.providers.items() if kind in section.kinds]


def _named(file: LogicFile, kind: KindName) -> list[tuple[str, str]]:
    """The providers that the file names for this kind, each with its key."""
    if kind == "llm":
        named = [("llm.default_provider", file.llm.default_provider)]
        return named + [("llm.fallbacks", name) for name in file.llm.fallbacks]
    section: KindSection = getattr(file, kind)
    named = [(f"{kind}.providers", name) for name in section.providers or ()]
    if kind == "embedding" and section.providers is None:
        named.append(("llm.embedding_provider", file.llm.embedding_provider))
    return named


def _offer(file: LogicFile, kind: KindName, model: Model, name: str) -> Offer | None:
    provider = file.providers[name]
    if kind in provider.kinds and name in model.section.providers:
        model_id = model.section.providers[name]
        flags = _flags(provider, model_id)
        answers_as = f"{name}/{model_id}" if kind == "llm" else model.name
        return Offer(name, provider, kind, model_id, flags, answers_as)
    section = getattr(file, kind)
    if isinstance(section, ClassifySection | ScoreSection) and "llm" in provider.kinds:
        by = file.models[section.llm_model]
        if name in by.providers:
            model_id = by.providers[name]
            flags = _flags(provider, model_id)
            return Offer(name, provider, "llm", model_id, flags, f"{name}/{model_id}")
    return None


def _flags(provider: ProviderSection, model_id: str) -> OfferSection:
    """What is special about this model there; its price is the provider's where it has none of its own."""
    flags = provider.models.get(model_id, OfferSection())
    return flags if flags.price is not None else flags.model_copy(update={"price": provider.price})


def _why_not(file: LogicFile, kind: KindName, model: Model, name: str) -> str:
    of_space = f" (space {model.space})" if kind == "embedding" else ""
    could = [other for other in file.providers if _offer(file, kind, model, other) is not None]
    others = [
        own
        for own, section in file.models.items()
        if kind in section.kinds and name in section.providers and kind in file.providers[name].kinds
    ]
    fixes = []
    if could:
        fixes.append(f"name one that does: {', '.join(could)}")
    if others and kind != "llm":
        key = "llm.model_embedding" if kind == "embedding" else f"{kind}.model"
        again = ", another space: embed everything again" if kind == "embedding" else ""
        fixes.append(f"{key}: {others[0]}{again}")
    if kind in file.providers[name].kinds:
        fixes.append(f"if it does serve it, say under which id: models.{model.name}.providers.{name}: ID")
    return f"{name} does not serve {model.name}{of_space}. To mend it, either " + "; or ".join(fixes)
