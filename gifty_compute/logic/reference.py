"""Reference vectors of a space: what a trusted provider gave for a few texts, kept in a file of their own."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gifty_compute.errors import InvalidConfig
from gifty_compute.wire.fault import first_fault

__all__ = ["CANARY_TEXTS", "Reference", "parse_reference", "write_reference"]

CANARY_TEXTS = (
    "Термокружка из нержавеющей стали, 450 мл, держит тепло шесть часов",
    "Настольная игра для большой компании, от двенадцати лет",
    "Набор для вышивания крестом «Маки», 30 на 40 см",
    "Складной нож туриста с пилой и отвёрткой",
    "Wireless headphones with active noise cancelling",
    "Книга: история русской живописи в картинках для детей",
)
"""What new references are recorded for; a file keeps the texts it was recorded with."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    space: str
    provider: str
    recorded_at: str
    texts: list[str] = Field(min_length=1, max_length=100)
    dim: int = Field(ge=1)
    vectors: str = Field(description="base64 of little-endian float32, one row a text")

    @model_validator(mode="after")
    def _whole(self) -> _File:
        if len(base64.b64decode(self.vectors, validate=True)) != len(self.texts) * self.dim * 4:
            raise ValueError("vectors do not hold one row of `dim` numbers a text")
        return self


@dataclass(frozen=True)
class Reference:
    """Texts, as passages, and their vectors: float32 [len(texts), dim], row by row."""

    space: str
    texts: tuple[str, ...]
    dim: int
    vectors: bytes


def parse_reference(content: bytes, name: str, space: str, dim: int) -> Reference:
    """The reference of this space. Raises InvalidConfig, which begins with the name of the file."""
    try:
        file = _File.model_validate_json(content)
    except ValidationError as error:
        raise InvalidConfig(f"{name}: {first_fault(error, whole='reference')}") from error
    if (file.space, file.dim) != (space, dim):
        raise InvalidConfig(f"{name}: is of {file.space} with {file.dim} dimensions")
    return Reference(space, tuple(file.texts), dim, base64.b64decode(file.vectors))


def write_reference(path: Path, reference: Reference, *, provider: str, recorded_at: str) -> None:
    """Writes the file, with its folder; a file that is there is replaced as a whole."""
    value: dict[str, Any] = {
        "space": reference.space,
        "provider": provider,
        "recorded_at": recorded_at,
        "texts": list(reference.texts),
        "dim": reference.dim,
        "vectors": base64.b64encode(reference.vectors).decode(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
