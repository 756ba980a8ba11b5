"""The base of all query strings: unknown parameters are refused, text is read as the type says."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Query"]


class Query(BaseModel):
    """Parameters of a path."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=False)
