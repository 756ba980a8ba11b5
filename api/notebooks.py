"""Gifty's older notebooks: score and classify tasks as the bare lists that they know, and their results."""

from __future__ import annotations

from typing import Any, cast, get_args

from flask import Blueprint, Response
from pydantic import Field

from api.admission import Kind, admission
from api.answers import json_answer
from api.bridge import in_scope
from api.facade import this_request
from api.operation import caller, core, holder_of, operation
from api.query import Query
from gifty_compute.errors import GiftyComputeError, InvalidRequest, NotFound
from gifty_compute.wire import notebook
from gifty_compute.wire.notebook import CategoriesSubmit, ScoringSubmit, Submitted
from gifty_compute.wire.scale import Scale
from gifty_compute.wire.task import Task, Want, WorkerName

__all__ = ["blueprint"]

blueprint = Blueprint("notebooks", __name__)
_MOST_A_CLAIM = 100
_READ = (401, 404, 422, 503)
_WRITE = (400, 401, 404, 409, 413, 415, 422, 503)


class ScoringQuery(Query):
    """How many products, at most as many tasks as a claim may have; the name is what operators see."""

    limit: int = Field(default=50, ge=1, le=1000)
    score_scale: Scale | None = None
    worker_id: WorkerName = "notebook-scoring"


class CategoriesQuery(Query):
    """The same for names of categories."""

    limit: int = Field(default=100, ge=1, le=1000)
    worker_id: WorkerName = "notebook-categories"


class ScoringSubmitQuery(Query):
    """Which scale the scores are on, where nothing else states it."""

    score_scale: Scale | None = None
    worker_id: WorkerName = "notebook-scoring"


class CategoriesSubmitQuery(Query):
    """Whose results these are."""

    worker_id: WorkerName = "notebook-categories"


@blueprint.url_value_preprocessor
def _keep_scale(_endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Notes the scale that the address states, for the views, none of which has it as an argument."""
    this_request().address_scale = (values or {}).pop("scale", "")


def _admit_address() -> None:
    """Raises NotFound for an address with a scale that is none."""
    scale = this_request().address_scale
    if scale and scale not in get_args(Scale):
        raise NotFound(f"there is no such scale; an address has one of {', '.join(get_args(Scale))}")


@blueprint.get("/internal/scoring/tasks")
@operation(
    scope="internal",
    query=ScoringQuery,
    answers={200: notebook.ScoringTasks},
    errors=_READ,
    claims=True,
    admits_path=_admit_address,
)
def scoring_tasks(query: ScoringQuery) -> Response:
    """Hands out score tasks for as long as a claim without heartbeats lasts, as a bare list of products.

    Where nothing states the scale of their scores, and no task states its own, the answer is 422.
    """
    scale = _stated_scale(query.score_scale) or core().logic.file.score.notebook_scale
    tasks = _claim("score", query.worker_id, query.limit, own_scale=scale is None)
    return json_answer([gift.__dict__ for task in tasks for gift in notebook.gifts_of(task)])


@blueprint.post("/internal/scoring/submit")
@operation(
    scope="internal",
    query=ScoringSubmitQuery,
    body=ScoringSubmit,
    answers={200: Submitted},
    errors=_WRITE,
    admits_path=_admit_address,
)
def scoring_submit(query: ScoringSubmitQuery, body: ScoringSubmit) -> Response:
    """Takes scores. A task of several products ends when all of them are in one call."""
    stated = _stated_scale(query.score_scale)
    holder = holder_of(query.worker_id, "")
    with admission().place(Kind.WORKERS, caller()):
        own = core().held.with_products(holder.credential, [one.gift_id for one in body.results])
        made = core().store.find(notebook.task_ids_in(body)).values()
        found = {task.id: task for task in (*own, *made) if task.task_type == "score"}
        raw = [(task, notebook.scores_for(task, body, _scale_of(task, stated))) for task in found.values()]
        whole = [(task, result) for task, result in raw if result is not None]
        ended = _end(query.worker_id, whole)
    return _submitted(sum(len(task.payload["products"]) for task in ended))


@blueprint.get("/internal/categories/tasks")
@operation(
    scope="internal",
    query=CategoriesQuery,
    answers={200: notebook.CategoryTasks},
    errors=_READ,
    claims=True,
    admits_path=_admit_address,
)
def categories_tasks(query: CategoriesQuery) -> Response:
    """Hands out classify tasks for as long as a claim without heartbeats lasts, as a bare list of names."""
    tasks = _claim("classify", query.worker_id, query.limit)
    return json_answer([name.__dict__ for task in tasks for name in notebook.categories_of(task)])


@blueprint.post("/internal/categories/submit")
@operation(
    scope="internal",
    query=CategoriesSubmitQuery,
    body=CategoriesSubmit,
    answers={200: Submitted},
    errors=_WRITE,
    admits_path=_admit_address,
)
def categories_submit(query: CategoriesSubmitQuery, body: CategoriesSubmit) -> Response:
    """Takes mappings. Of a task with one of these names, those left out have no category."""
    holder = holder_of(query.worker_id, "")
    names = {one.external_name for one in body.results}
    with admission().place(Kind.WORKERS, caller()):
        found = core().held.with_names(holder.credential, sorted(names))
        ended = _end(query.worker_id, [(task, notebook.mappings_for(task, body)) for task in found])
    return _submitted(sum(len(names & set(task.payload["external_names"])) for task in ended))


def _stated_scale(asked: Scale | None) -> Scale | None:
    """The scale that the notebook's request states, its address, or its token."""
    request = this_request()
    own = request.worker_token
    address = cast("Scale | None", request.address_scale or None)
    return asked or address or (own.score_scale if own is not None else None)


def _scale_of(task: Task, stated: Scale | None) -> Scale:
    """The scale of the scores of this task. Raises InvalidRequest where nothing states it."""
    scale: Scale | None = stated or task.payload.get("notebook_scale")
    scale = scale or core().logic.file.score.notebook_scale
    if scale is None:
        raise _unknown_scale()
    return scale


def _unknown_scale() -> InvalidRequest:
    ways = "an address that begins with /scale/0-1 or /scale/0-10, ?score_scale=, the worker's token"
    others = "notebook_scale of a task, or score.notebook_scale of logic.yaml"
    return InvalidRequest(
        f"it is not known what scale the scores are on: state it by {ways}, {others}", param="score_scale"
    )


def _claim(task_type: str, worker_id: str, limit: int, *, own_scale: bool = False) -> tuple[Task, ...]:
    """Tasks for a notebook; with `own_scale` only those that state the scale of their scores.

    Raises InvalidRequest where there are none of those.
    """
    want = in_scope(Want(task_types=(task_type,), limit=min(limit, _MOST_A_CLAIM), bare=True))
    if not core().logic.file.features.enable_external_workers:
        return ()
    if own_scale:
        ids = core().leases.ready_scaled(want.limit)
        if not ids:
            raise _unknown_scale()
        want = want.model_copy(update={"ids": ids})
    with admission().place(Kind.WORKERS, caller()):
        holder = holder_of(worker_id, "")
        core().presence.asked(holder, want)
        tasks = core().leases.claim(holder, want).tasks
    core().fleet.asked(worker_id, (), tasks)
    return tasks


def _end(worker_id: str, results: list[tuple[Task, dict[str, Any]]]) -> list[Task]:
    """The tasks that these results ended. Raises the first refusal where that is none of several."""
    if not results:
        return []
    refusals = core().leases.complete_many(holder_of(worker_id, ""), results)
    ended = [task for (task, _), refusal in zip(results, refusals, strict=True) if refusal is None]
    core().fleet.ended(worker_id, ended, good=True)
    refused: list[GiftyComputeError] = [refusal for refusal in refusals if refusal is not None]
    if refused and not ended:
        raise refused[0]
    return ended


def _submitted(updated: int) -> Response:
    return json_answer({"status": "ok", "updated": updated})
