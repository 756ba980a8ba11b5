"""The beginning of a stream: until when another provider may be asked, and how long silence may last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gifty_compute.clock import Deadline, SilenceDeadline
from gifty_compute.errors import Failure, ProviderError
from gifty_compute.providers.base import Delta
from gifty_compute.routing.call import Call

__all__ = ["Begun", "begin", "silence_of"]

# A provider that sends, but neither text nor thought, may still fail and give way to another for so long.
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class Begun:
    """A stream whose provider answers: no other is asked from now on."""

    first: Delta
    rest: Iterator[Delta]
    silence: SilenceDeadline
    """The deadline by which `rest` goes; its reader moves it with each sign."""
    first_seconds: float
    """Until the provider sent something."""

    def why(self, error: ProviderError) -> ProviderError:
        """The error that ended the stream; it says so where this service ended it."""
        if error.code != "timeout" or not self.silence.expired:
            return error
        if self.silence.is_last:
            message = f"a stream may last {self.silence.longest:g} s"
            return ProviderError(message, failure=error.failure, code="stream_too_long")
        message = f"nothing came from the provider for {self.silence.silence:g} s"
        return ProviderError(message, failure=error.failure, code=error.code)


def silence_of(call: Call, attempt: Deadline) -> SilenceDeadline:
    """The deadline of a stream: first the attempt's, then one of silence, bounded by the longest stream."""
    silence = call.deadline.remaining if call.silence_seconds is None else call.silence_seconds
    longest = call.logic.file.llm.longest_stream_ms / 1000
    return SilenceDeadline(attempt, silence=silence, longest=longest)


def begin(deltas: Iterator[Delta], silence: SilenceDeadline) -> Begun:
    """Reads until the provider has shown that it answers: by text or a thought at once, by other signs after
    a moment.

    Raises ProviderError: what `deltas` raises, bad_answer for a stream that held nothing.
    """
    clock = silence.clock
    began = clock.monotonic()
    first_sign: float | None = None
    for delta in deltas:
        now = clock.monotonic()
        if delta.is_sign:
            silence.progress()
            first_sign = now if first_sign is None else first_sign
        waited = first_sign is not None and now - first_sign >= _PATIENCE_SECONDS
        if delta.text or delta.finish_reason or delta.is_thinking or waited:
            return Begun(delta, deltas, silence, (first_sign or now) - began)
    raise ProviderError("the stream held nothing", failure=Failure.FAILOVER, code="bad_answer")
