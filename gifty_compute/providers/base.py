"""The provider's protocol: one remote or local service that answers one piece of work, once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

from gifty_compute.clock import Deadline
from gifty_compute.logic.file import SpaceSection
from gifty_compute.logic.logic import Offer
from gifty_compute.providers.meter import Meter, Usage
from gifty_compute.redaction import redacted, texts_in

__all__ = [
    "PROGRESS",
    "QUIET",
    "THINKING",
    "Ask",
    "Delta",
    "Provider",
    "Reply",
    "Site",
    "StreamingProvider",
    "Usage",
]

# Fields of a payload that hold nothing of what its caller wrote.
_NO_CONTENT = frozenset({"model", "input_type", "max_tokens", "temperature", "json_mode"})


@dataclass(frozen=True)
class Site:
    """Where a provider is spoken to, and with which of its keys."""

    base_url: str
    """Without a slash at its end; for RunPod the endpoint root, the part before /runsync."""
    key_label: str = ""
    """Tells the keys of a provider apart in logs and breakers; says nothing of the key."""
    key: str = field(default="", repr=False)
    proxy: str = field(default="", repr=False)
    """The address of the proxy that leads there, with its password; empty for a direct way."""


@dataclass(frozen=True)
class Ask:
    """One attempt: what is to be done, by whom, until when."""

    offer: Offer
    site: Site
    payload: dict[str, Any] = field(repr=False)
    """As wire describes it for `offer.ask_as`, with all defaults filled in."""
    deadline: Deadline
    """Of this attempt alone."""
    space: SpaceSection | None = None
    """Of the vectors that are asked for."""
    request_id: str = ""
    meter: Meter = field(default_factory=Meter, repr=False, compare=False)
    """Told of every request of this attempt, and of what the provider says that it took."""

    @property
    def texts(self) -> list[str]:
        """The payload's texts, with the space's own prefix where the provider does not add it."""
        texts: list[str] = self.payload["texts"]
        if self.space is None or self.offer.flags.applies_prefixes:
            return texts
        prefix = self.space.prefixes.get(self.payload["input_type"], "")
        return [prefix + text for text in texts] if prefix else texts

    def tellable(self, words: str) -> str | None:
        """What operators may read of the provider's own words: no payload, no key, no other secret.

        The payload's `model` stays: it is what operators look for in an error. None where nothing is left.
        """
        said = {name: value for name, value in self.payload.items() if name not in _NO_CONTENT}
        secrets = [self.site.key, *self.offer.section.headers.values(), urlsplit(self.site.base_url).password]
        return redacted(
            words,
            payload=texts_in(said),
            secrets=[secret for secret in secrets if secret],
            keep=[self.offer.model_id],
        )

    @property
    def input_type(self) -> str | None:
        """`query` or `passage` for a provider that adds the prefixes itself; the others need not be told."""
        kind: str | None = self.payload["input_type"] if self.offer.flags.applies_prefixes else None
        return kind


@dataclass(frozen=True)
class Reply:
    """A raw result, shaped as the contract shapes it for the kind but not yet checked, and what it took."""

    result: dict[str, Any]
    usage: Usage | None = None
    cost_usd: float | None = None
    """As the provider itself says; None where it does not."""
    billed_seconds: float | None = None
    """Of a GPU, where the provider bills time."""


@dataclass(frozen=True)
class Delta:
    """A piece of an answer that is still arriving; the last one names the finish reason."""

    text: str = ""
    finish_reason: str | None = None
    """stop, length or content_filter."""
    usage: Usage | None = None
    cost_usd: float | None = None
    """Of the whole answer, as the provider itself says; None where it does not."""
    said: Any = field(default=None, repr=False)
    """The provider's own word for the end; it stays within the adapters."""
    is_sign: bool = True
    """Whether the provider sent something; False of QUIET alone."""
    is_thinking: bool = False
    """Whether the provider sent a part of the model's thinking, which is not part of the answer."""


QUIET = Delta(is_sign=False)
"""Nothing came for about a second. The reader of a stream can check whether its own caller still listens."""
PROGRESS = Delta()
"""The provider sent something that holds no text: a comment, a ping, the role of the answer."""
THINKING = Delta(is_thinking=True)
"""The provider sent a part of the model's thinking."""


class Provider(Protocol):
    """Speaks one wire format: no retries, no fallback, no state between calls; those are the router's."""

    def run(self, ask: Ask) -> Reply:
        """The provider's answer. Raises ProviderError; InvalidRequest for what it can never take.

        Shapes of `Reply.result` by `ask.offer.ask_as`, each with nothing else in it:

        * embedding: `{"embeddings": array [texts, dim] or nested lists}`, in the order of the texts
        * rerank: `{"scores": [one a document, in their order], "kind": "cross-encoder" | "bi-encoder" |
          "unknown"}`
        * classify: `{"mappings": [{"external_name", "internal_category_id", "confidence"?}]}`, in order
        * score: `{"scores": [{"gift_score", "reasoning", "tags", "gift_vector"?}], "version"?}`
        * llm: `{"content", "finish_reason"}`
        """
        ...


@runtime_checkable
class StreamingProvider(Provider, Protocol):
    """A provider whose language models can answer piece by piece."""

    def stream(self, ask: Ask) -> Iterator[Delta]:
        """The answer's pieces. Closing the iterator ends the exchange with the provider.

        Raises ProviderError at the first `next` as well as later; the last Delta has a finish_reason.
        Whatever the provider sends is a Delta, also where it has no text: silence alone ends a stream. QUIET
        may come at any time.
        """
        ...
