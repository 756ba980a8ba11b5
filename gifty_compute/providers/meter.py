"""The meter: what the exchanges of one attempt took, known also where no answer comes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Exchanged", "Meter", "Usage"]


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider counted them; thinking counts as output."""

    input_tokens: int
    output_tokens: int = 0


@dataclass(frozen=True)
class Exchanged:
    """What one request took that the provider may have billed: as the provider says, else as estimated."""

    sent_tokens: int
    """About how many the request had."""
    heard_tokens: int = 0
    """About how many have come back so far."""
    usage: Usage | None = None
    """As the provider says; None where it did not say, or the connection broke before it did."""
    cost_usd: float | None = None
    """As the provider says; None where it does not."""
    billed_seconds: float | None = None
    """Of a GPU, as the provider says."""

    @property
    def tokens(self) -> Usage:
        """The tokens that the provider counted, else the estimates."""
        return self.usage or Usage(self.sent_tokens, self.heard_tokens)


class Meter:
    """Told by the adapters while they speak with the provider; used by one thread.

    A request counts from the moment in which it is sent until the provider refuses it: what breaks off in
    between, or is thrown away, may have been billed.
    """

    def __init__(self) -> None:
        self._exchanges: list[Exchanged] = []

    @property
    def exchanges(self) -> tuple[Exchanged, ...]:
        """In their order; empty where nothing was sent, or all was refused."""
        return tuple(self._exchanges)

    def send(self, tokens: int) -> None:
        """A request of about so many tokens is being sent."""
        self._exchanges.append(Exchanged(tokens))

    def refuse(self) -> None:
        """The last request did not leave this machine, or the provider answered that it did not do it."""
        self._exchanges.pop()

    def read(self, tokens: int) -> None:
        """The provider has counted the last request: so many tokens went in."""
        self._change(sent_tokens=tokens)

    def hear(self, tokens: int) -> None:
        """About so many more tokens of the answer have come."""
        self._change(heard_tokens=self._exchanges[-1].heard_tokens + tokens if self._exchanges else 0)

    def tell(
        self,
        usage: Usage | None = None,
        cost_usd: float | None = None,
        billed_seconds: float | None = None,
    ) -> None:
        """What the provider says of the last request; what it does not say stays as it was."""
        told = {"usage": usage, "cost_usd": cost_usd, "billed_seconds": billed_seconds}
        self._change(**{name: value for name, value in told.items() if value is not None})

    def _change(self, **fields: object) -> None:
        if self._exchanges:
            self._exchanges[-1] = replace(self._exchanges[-1], **fields)  # type: ignore[arg-type]
