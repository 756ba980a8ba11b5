"""Circuits as operators see them, and the bodies of the calls around them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gifty_compute.wire.body import Body
from gifty_compute.wire.text import CleanText

__all__ = ["CircuitList", "CircuitState", "CloseRequest", "Closed"]


class CircuitState(BaseModel):
    """A circuit, and the last failure behind it."""

    model_config = ConfigDict(frozen=True)

    circuit: str = Field(description="Its name: provider, number of the key, kind of work, a hash.")
    provider: str
    state: Literal["closed", "open", "half-open"]
    seconds_left: float = Field(description="Until the provider may be tried again; 0: now.")
    failures: int = Field(description="In a row, up to now.")
    code: str | None = Field(description="Our word for the last failure.")
    status: int | None = Field(description="Of HTTP, of the last failure; null where no answer came.")
    reason: str | None = Field(description="The provider's own words, without payload and secrets.")


class CircuitList(BaseModel):
    """The circuits that are not closed, and those whose last attempt failed; as this process knows them."""

    circuits: list[CircuitState]


class CloseRequest(Body):
    """The body of POST /ops/circuits/close."""

    name: CleanText = Field(
        min_length=1, max_length=300, description="Of a circuit, or of a provider: then all of its circuits."
    )


class Closed(BaseModel):
    """The circuits that were closed; the other processes of the service follow within a second."""

    closed: list[str]
