"""The base of all query strings: unknown parameters are refused, text is read as the type says."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Query", "VectorsQuery"]


class Query(BaseModel):
    """Parameters of a path."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=False)


class VectorsQuery(Query):
    """How the vectors of a result are read."""

    encoding_format: Literal["float", "base64"] = Field(
        default="float",
        description="base64: `result.embeddings` in the binary form `{dtype, shape, data}`, as it is stored.",
    )
