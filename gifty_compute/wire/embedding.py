"""Embedding: texts in, one vector a text out, in a named space."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from gifty_compute.errors import InvalidResult
from gifty_compute.wire.body import MOST_TEXTS, Body, Deliverable, Many
from gifty_compute.wire.expected import Expected
from gifty_compute.wire.text import CleanText, Text

__all__ = ["EmbeddingPayload", "EmbeddingRequest", "InputType", "check_embedding"]

MAX_TEXTS = MOST_TEXTS
InputType = Literal["query", "passage"]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


# A list in any case: a union would name no field of the caller's in its errors.
_Texts = Annotated[list[Text], BeforeValidator(_listed, json_schema_input_type=Text | list[Text])]


class EmbeddingRequest(Deliverable):
    """OpenAI's body for /v1/embeddings, and Gifty's fields beside it."""

    input: _Texts = Field(min_length=1, max_length=MAX_TEXTS, description="One text, or 1 to 2048 of them.")
    model: CleanText | None = None
    encoding_format: Literal["float", "base64"] = "float"
    input_type: InputType | None = None
    user: CleanText | None = Field(default=None, description="Accepted for OpenAI's clients; not used.")

    def payload(self) -> dict[str, Any]:
        """The same work as a task's payload."""
        fields = {"texts": self.input, "model": self.model, "input_type": self.input_type}
        return {name: value for name, value in fields.items() if value is not None}


class EmbeddingPayload(Body):
    """What an embedding task holds."""

    texts: list[Text] = Field(min_length=1, max_length=MAX_TEXTS)
    ids: Many[CleanText | int] | None = Field(
        default=None, max_length=MAX_TEXTS, description="One for each text."
    )
    model: CleanText | None = None
    input_type: InputType | None = None

    @model_validator(mode="after")
    def _one_id_a_text(self) -> EmbeddingPayload:
        if self.ids is not None and len(self.ids) != len(self.texts):
            raise PydanticCustomError("count", "ids must be one for each text", {"param": "ids"})
        return self


def check_embedding(payload: dict[str, Any], raw: dict[str, Any], expected: Expected) -> dict[str, Any]:
    """The result in its stored form, `embeddings` an array of shape [texts, dim].

    A bare `{"embeddings": [[…]]}` is taken to be of the task's own model and space.
    Raises InvalidResult for a wrong count, dimension or space, NaN, infinity or a zero vector.
    """
    # numpy is not part of the bare install, which reads this module for its request models.
    from gifty_compute.wire import vectors  # noqa: PLC0415

    expected.refuse_strangers(raw, {"embeddings", "ids", "model", "space", "dim", "usage"})
    embeddings = vectors.decode(raw.get("embeddings"))
    expected.refuse_other_model(raw)
    if raw.get("space") not in (None, expected.space):
        raise InvalidResult(f"space is not the task's space {expected.space}", param="space")
    if raw.get("dim") not in (None, embeddings.shape[1]):
        raise InvalidResult(f"dim does not fit vectors of {embeddings.shape[1]}", param="dim")
    vectors.check(embeddings, rows=len(payload["texts"]), dim=expected.dim)
    if raw.get("ids") not in (None, payload.get("ids")):
        raise InvalidResult("ids are not the task's ids in their order", param="ids")
    result = {
        "embeddings": embeddings,
        "ids": payload.get("ids"),
        "model": expected.model,
        "space": expected.space,
        "dim": embeddings.shape[1],
    }
    return {name: value for name, value in result.items() if value is not None}
