"""The results of a batch, streamed: as JSON Lines, Apache Parquet, or one NumPy matrix."""

from __future__ import annotations

from flask import Blueprint, Response, request
from pydantic import Field

from api.batches import JSON_LINES
from api.compression import LONGEST_ACCEPT
from api.errors import error_json
from api.operation import core, operation, request_id, sight
from api.query import VectorsQuery
from api.streaming import streamed
from api.tasks import path_id
from gifty_compute.errors import GiftyComputeError, InvalidRequest, NotAcceptable
from gifty_compute.queue.formats import json_lines, npy, npy_header
from gifty_compute.wire.batch import MAX_LINES, Batch, BatchResult
from gifty_compute.wire.json import write_json

__all__ = ["blueprint"]

blueprint = Blueprint("batch_results", __name__)

PARQUET = "application/vnd.apache.parquet"
NPY = "application/x-npy"


class ResultsQuery(VectorsQuery):
    """How vectors are read, and where a reader whose connection broke goes on."""

    first: int = Field(default=0, ge=0, le=MAX_LINES, description="The position to begin with.")


@blueprint.get("/v1/batches/<batch_id>/results")
@operation(
    scope="api",
    query=ResultsQuery,
    answers={200: None},
    errors=(401, 404, 406, 409, 422, 503),
    media={JSON_LINES: BatchResult, PARQUET: None, NPY: None},
)
def batch_results(batch_id: str, query: ResultsQuery) -> Response:
    """All tasks in the order of the submit, ended or not; for NumPy all must be embeddings, and done."""
    batch = core().batches.get(sight(), path_id(batch_id, "batch"))
    if len(request.headers.get("Accept", "")) > LONGEST_ACCEPT:
        raise NotAcceptable(f"Accept is over {LONGEST_ACCEPT} characters")
    wanted = request.accept_mimetypes.best_match(list(_RESULTS)) if request.accept_mimetypes else JSON_LINES
    if wanted is None:
        raise NotAcceptable(f"results come as {JSON_LINES}, {PARQUET} or {NPY}")
    return _RESULTS[wanted](batch, query)


def _as_json_lines(batch: Batch, query: ResultsQuery) -> Response:
    name = request_id()

    def last_word(error: GiftyComputeError) -> bytes:
        return write_json(error_json(error, name)) + b"\n"

    pieces = json_lines(core().results.pages(sight(), batch.id, first=query.first), query.encoding_format)
    return streamed(pieces, last_word, mimetype=JSON_LINES)


def _as_parquet(batch: Batch, query: ResultsQuery) -> Response:
    try:
        from gifty_compute.queue.parquet import parquet  # noqa: PLC0415  # an extra of its own
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        message = f"{PARQUET} needs the server's extra: pip install 'gifty-compute[parquet]'"
        raise NotAcceptable(message) from error
    return streamed(
        parquet(core().results.pages(sight(), batch.id, first=query.first)), _silence, mimetype=PARQUET
    )


def _as_npy(batch: Batch, query: ResultsQuery) -> Response:
    if query.first:
        raise InvalidRequest("a matrix comes whole, so first goes with the other formats", param="first")
    rows, dim = core().results.shape(sight(), batch.id)
    length = len(npy_header(rows, dim)) + rows * dim * 4
    pieces = npy(core().results.pages(sight(), batch.id), rows, dim)
    return streamed(pieces, _silence, mimetype=NPY, headers={"Content-Length": str(length)})


_RESULTS = {JSON_LINES: _as_json_lines, PARQUET: _as_parquet, NPY: _as_npy}


def _silence(_error: GiftyComputeError) -> bytes:
    """These formats say their length, or end with a footer: what is cut short cannot be read by mistake."""
    return b""
