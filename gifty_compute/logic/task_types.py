"""Task types that logic.yaml declares: payload and result are the caller's own, within bounds."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from gifty_compute.errors import InvalidRequest, InvalidResult
from gifty_compute.logic.schemas import Schema
from gifty_compute.wire.kinds import KINDS
from gifty_compute.wire.text import clean_json

__all__ = ["TaskTypeName", "TaskTypeSection"]

# They become the names of Celery tasks and queues; gifty.maintain is one already.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")
_TAKEN = frozenset({*KINDS, "maintain"})


def _free_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("a task type is named by 1 to 50 lower-case letters, digits and underscores")
    if name in _TAKEN:
        raise ValueError(f"{name!r} is built in; a task type needs a name of its own")
    return name


def _schema(document: dict[str, Any]) -> dict[str, Any]:
    Schema(document)
    return document


TaskTypeName = Annotated[str, AfterValidator(_free_name)]
_Document = Annotated[dict[str, Any], AfterValidator(_schema)]
_Bytes = Annotated[int, Field(ge=2, le=2**26)]


class TaskTypeSection(BaseModel):
    """A declared task type; workers that name it do it, no provider does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$")] | None = Field(
        default=None, description="What its tasks and its queue are named by; else as the type."
    )
    max_payload_bytes: _Bytes = 1_000_000
    max_result_bytes: _Bytes = 1_000_000
    payload_schema: _Document | None = None
    result_schema: _Document | None = None

    def check_payload(self, payload: dict[str, Any], where: str) -> None:
        """Raises InvalidRequest for one that is too large, or breaks the declared schema."""
        flaw = _too_large(payload, self.max_payload_bytes) or _flaw(self._of_payloads, payload)
        if flaw is not None:
            raise InvalidRequest(f"{where or 'payload'}: {flaw}", param=where or "payload")

    def check_result(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result as it is. Raises InvalidResult for one that cannot be stored or breaks the schema."""
        try:
            clean_json(result)
        except PydanticCustomError as error:
            raise InvalidResult(f"result: {error.message()}", param="result") from error
        flaw = _too_large(result, self.max_result_bytes) or _flaw(self._of_results, result)
        if flaw is not None:
            raise InvalidResult(f"result: {flaw}", param="result")
        return result

    @cached_property
    def _of_payloads(self) -> Schema | None:
        return None if self.payload_schema is None else Schema(self.payload_schema)

    @cached_property
    def _of_results(self) -> Schema | None:
        return None if self.result_schema is None else Schema(self.result_schema)


def _too_large(value: dict[str, Any], most: int) -> str | None:
    return f"over {most} bytes as JSON" if len(orjson.dumps(value)) > most else None


def _flaw(schema: Schema | None, value: dict[str, Any]) -> str | None:
    return None if schema is None else schema.flaw(value)
