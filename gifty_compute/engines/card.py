"""The card in a model's directory: what the weights are, and how text becomes their input and output."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gifty_compute.errors import EngineError
from gifty_compute.logic.recipe import Recipe
from gifty_compute.wire.fault import first_fault

__all__ = ["CARD", "ModelCard", "read_card", "refuse_other_space"]

CARD = "gifty.json"

Pooling = Literal["cls", "mean", "last"]


class ModelCard(BaseModel):
    """What gifty.json holds; nothing of it is guessed where it is absent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Literal["bi-encoder", "cross-encoder"]
    revision: str = Field(description="Of the weights, as the space names it.")
    max_tokens: int = Field(ge=8, description="That the model reads at once, special ones included.")
    pad: int = Field(ge=0, description="The token that fills up.")
    long_texts: Literal["windows", "truncate"] = Field(
        default="truncate", description="windows: read piece by piece, and averaged by their lengths."
    )
    dim: int | None = None
    pooling: Pooling | None = None
    normalized: bool = True
    quantization: str = "none"
    prefixes: dict[Literal["query", "passage"], str] = {}
    canaries: tuple[str, ...] = Field(default=(), description="Texts whose vectors canaries.npy holds.")


def read_card(directory: Path) -> ModelCard:
    """The directory's card. Raises EngineError that names the file and what is wrong."""
    path = directory / CARD
    try:
        card = ModelCard.model_validate_json(path.read_bytes())
    except OSError as error:
        raise EngineError(f"{path} cannot be read ({error.strerror}); it says what the model is") from error
    except ValidationError as error:
        raise EngineError(f"{path}: {first_fault(error, whole='card')}") from error
    if card.form == "bi-encoder" and (card.pooling is None or card.dim is None):
        raise EngineError(f"{path}: a bi-encoder's card names pooling and dim")
    return card


def refuse_other_space(recipe: Recipe, card: ModelCard) -> None:
    """Raises EngineError unless this model's vectors are those of the space that its recipe names."""
    space = recipe.space
    if space is None:
        raise EngineError(f"{recipe.model} makes vectors, and logic.yaml gives it no space")
    wanted = {
        "revision": space.revision,
        "dim": space.dim,
        "pooling": space.pooling,
        "normalized": space.normalized,
        "quantization": space.quantization,
        "prefixes": space.prefixes,
    }
    for name, value in wanted.items():
        if getattr(card, name) != value:
            raise EngineError(
                f"{recipe.model}: {name} is {getattr(card, name)!r}, in space {recipe.space_name} {value!r}: "
                "its vectors would not compare; give this model a space of its own"
            )
