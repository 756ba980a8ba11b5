"""Classification and scoring by any language model of a provider, with one chance to mend the answer."""

from __future__ import annotations

from dataclasses import replace

from gifty_compute.providers.base import Ask, Provider, Reply
from gifty_compute.providers.failures import bad_answer
from gifty_compute.providers.rows import total_cost, total_usage
from gifty_compute.wire.questions import Question, questions, together

__all__ = ["run"]


def run(provider: Provider, kind: str, ask: Ask) -> Reply:
    """The raw result of a classify or score payload, by the language model that `ask` names.

    Raises ProviderError: what the model's provider raises; bad_answer when its answer was wrong twice.
    """
    replies = [_asked(provider, ask, question) for question in questions(kind, ask.payload)]
    return replace(_summed(replies), result=together(kind, [reply.result for reply in replies]))


def _asked(provider: Provider, ask: Ask, question: Question) -> Reply:
    """One answer that can be read, mended once if need be."""
    first = provider.run(replace(ask, payload=question.payload))
    said = first.result["content"]
    try:
        return replace(first, result=question.read(said))
    except ValueError as error:
        mended = question.mended(said, error)
    second = provider.run(replace(ask, payload=mended))
    try:
        result = question.read(second.result["content"])
    except ValueError as error:
        raise bad_answer("the model's answer was wrong twice") from error
    return replace(_summed([first, second]), result=result)


def _summed(replies: list[Reply]) -> Reply:
    """What all took together; the result is not yet one."""
    return Reply(
        {},
        total_usage([one.usage for one in replies]),
        total_cost([one.cost_usd for one in replies]),
        total_cost([one.billed_seconds for one in replies]),
    )
