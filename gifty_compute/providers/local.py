"""The local provider: a packaged model inside the facade itself."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import EngineError, Failure, InvalidRequest, ProviderError, Unavailable
from gifty_compute.providers.base import Ask, Reply, Usage
from gifty_compute.providers.failures import not_served

__all__ = ["LocalProvider"]

# About two seconds of one core at a millisecond a token.
_LONGEST_TEXT = 8_000


class LocalProvider:
    """Wraps the models of this process; keyless, and as fast as the machine."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def run(self, ask: Ask) -> Reply:
        """The reply; by the deadline whoever waits is told, also if the model is in the middle of a pass.

        Raises InvalidRequest for a long text: a pass cannot be cut short, and all callers share the model.
        Raises ProviderError: overloaded where the work before this one would leave it no time, timeout.
        """
        model = ask.offer.model_id
        if not EngineShelf.packaged(model) or ask.offer.ask_as not in ask.offer.section.kinds:
            raise not_served(ask)
        _refuse_long_texts(ask.payload)
        try:
            future = self._inference.submit(
                model,
                ask.offer.ask_as,
                ask.payload,
                lambda: not ask.deadline.expired,
                patience=ask.deadline.remaining,
            )
            try:
                result = dict(future.result(ask.deadline.remaining))
            finally:
                future.cancel()
        except Unavailable as error:
            raise ProviderError(
                "the model is busy for longer than the deadline",
                failure=Failure.FAILOVER,
                code="overloaded",
                retry_after=error.retry_after,
                is_load=True,
            ) from error
        except (TimeoutError, CancelledError) as error:
            raise ProviderError(
                "not done in time", failure=Failure.FAILOVER, code="timeout", is_load=True
            ) from error
        except EngineError as error:
            raise ProviderError(error.message, failure=Failure.FAILOVER, code=error.code) from error
        used = result.pop("usage", None)
        return Reply(result, Usage(used["prompt_tokens"]) if used else None)


def _refuse_long_texts(payload: dict[str, Any]) -> None:
    for param in ("texts", "documents", "external_names", "query"):
        texts = payload.get(param, ())
        lengths = [len(text) for text in ([texts] if isinstance(texts, str) else texts)]
        longest = max(lengths, default=0)
        if longest > _LONGEST_TEXT:
            message = (
                f"a text has {longest} characters, the local model answers at once up to {_LONGEST_TEXT}"
            )
            raise InvalidRequest(f"{message}; use priority low", param=param, code="text_too_long")
