"""How long a high-priority request may take: what its caller names, else what its work needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gifty_compute.errors import DeadlineExceeded, TimeoutTooLong
from gifty_compute.logic.file import LlmSection, RouteSection
from gifty_compute.wire.size import estimated_work

__all__ = ["Timeouts", "timeouts_of"]

# Of an answer for which neither the caller nor the file names a bound.
_USUAL_ANSWER_TOKENS = 1000


@dataclass(frozen=True)
class Timeouts:
    """The times of one request, in seconds."""

    total: float
    """For all attempts together; of a stream until the provider first sends something."""
    attempt: float | None
    """For one provider while another can still be asked, where its share of `total` is more; None: its share.

    A caller that names a long timeout can wait long, but need not wait for the first provider that hangs.
    """
    silence: float
    """For which a stream may be silent."""
    most: float
    """That a caller may name."""

    def advice(self, error: DeadlineExceeded) -> DeadlineExceeded:
        """The same error with what its caller can do."""
        most = f"timeout_ms may be up to {self.most * 1000:.0f}"
        way_out = f"{most}; less work in one request, or priority low, needs no more time"
        return DeadlineExceeded(f"{error.message}; the request had {self.total:.3g} s. {way_out}")


def timeouts_of(section: RouteSection, payload: dict[str, Any], named_ms: int | None) -> Timeouts:
    """The times of a request with this payload; `named_ms` is its caller's `timeout_ms`.

    Raises TimeoutTooLong for one that is longer than the section allows.
    """
    if named_ms is not None and named_ms > section.max_timeout_ms:
        most_ms = section.max_timeout_ms
        raise TimeoutTooLong(f"timeout_ms is at most {most_ms} here", most_ms=most_ms)
    needed = min(_needed_ms(section, payload), section.max_timeout_ms) / 1000
    total = needed if named_ms is None else named_ms / 1000
    most = section.max_timeout_ms / 1000
    if not isinstance(section, LlmSection):
        return Timeouts(total, needed, total, most)
    # Not `needed` for an attempt: a language model that thinks is slow, and its thinking is paid.
    return Timeouts(total, None, section.silence_ms / 1000 if named_ms is None else total, most)


def _needed_ms(section: RouteSection, payload: dict[str, Any]) -> float:
    needed = section.timeout_ms + section.timeout_ms_per_1000_tokens * estimated_work(payload) / 1000
    if isinstance(section, LlmSection):
        answer = payload.get("max_tokens") or section.max_tokens or _USUAL_ANSWER_TOKENS
        needed += section.timeout_ms_per_1000_answer_tokens * answer / 1000
    return needed
