"""The poll bridge: how tasks ended, one by one or many in a call."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint, Response

from api.admission import Kind, admission
from api.answers import json_answer, task_json
from api.compression import compressed
from api.errors import status_of
from api.facade import this_request
from api.operation import caller, core, holder_of, operation
from api.query import VectorsQuery
from api.tasks import find_task_id
from gifty_compute.core import Core
from gifty_compute.errors import GiftyComputeError, InvalidRequest, NotFound, Unavailable
from gifty_compute.wire.body import parse
from gifty_compute.wire.task import (
    Holder,
    Outcome,
    OutcomeVerdict,
    ResultRequest,
    ResultsAnswer,
    ResultsRequest,
    Task,
)

__all__ = ["blueprint"]

blueprint = Blueprint("results", __name__)
blueprint.after_request(compressed)

_NO_REASON = "the worker gave no reason"


@blueprint.post("/internal/workers/tasks/<task_id>/result")
@operation(
    scope="internal",
    body=ResultRequest,
    query=VectorsQuery,
    answers={200: Task},
    errors=(400, 401, 404, 409, 413, 415, 422, 503),
)
def result(task_id: str, body: ResultRequest, query: VectorsQuery) -> Response:
    """Takes how a task ended. The first valid result wins; the same outcome again is answered alike."""
    holder = holder_of(body.worker_id or "", body.session)
    outcome = Outcome.model_construct(
        id=find_task_id(task_id),
        attempt=body.attempt,
        status=body.status,
        result=body.result,
        error=body.error,
        retryable=body.retryable,
    )
    with admission().place(Kind.WORKERS, caller()):
        ended = _take(core(), holder, outcome, core().store.stored(outcome.id))
    return json_answer(task_json(ended, query.encoding_format))


@blueprint.post("/internal/workers/results")
@operation(
    scope="internal",
    body=ResultsRequest,
    answers={200: ResultsAnswer},
    errors=(400, 401, 413, 415, 422, 503),
)
def results(body: ResultsRequest) -> Response:
    """Takes how many tasks ended: one verdict each, in order, as if each had come alone.

    The completed ones are stored in one statement. An outcome that is bad spoils no other.
    """
    holder = holder_of(body.worker_id, body.session)
    with admission().place(Kind.WORKERS, caller()):
        verdicts = _Bulk(core(), holder, body.results).verdicts()
    return json_answer({"verdicts": [verdict.__dict__ for verdict in verdicts]})


def _take(core: Core, holder: Holder, outcome: Outcome, stored: Task) -> Task:
    ended = _end(core, holder, outcome, _as_said(holder, stored, outcome))
    core.fleet.ended(holder.worker_id or stored.worker_id, [stored], good=outcome.status == "completed")
    return ended


def _end(core: Core, holder: Holder, outcome: Outcome, task: Task) -> Task:
    if outcome.status == "failed":
        return core.leases.fail(holder, task, outcome.error or _NO_REASON, retryable=outcome.retryable)
    own = this_request().worker_token
    if own is not None and not holder.trusted:
        return core.trust.complete(holder, own, task, _result_of(outcome))
    return core.leases.complete(holder, task, _result_of(outcome))


def _as_said(holder: Holder, stored: Task, outcome: Outcome) -> Task:
    if holder.strict and outcome.attempt is None:
        raise InvalidRequest("with a token of its own a worker names the attempt", param="attempt")
    # Without an attempt the sender speaks of whichever was handed out: the store reads 0 as "unsaid".
    return stored.under(outcome.attempt or 0)


def _result_of(outcome: Outcome) -> dict[str, Any]:
    if outcome.result is None:
        raise InvalidRequest("a completed task has a result", param="result")
    return outcome.result


class _Bulk:
    """The outcomes of one call, each with its verdict as soon as it is known."""

    def __init__(self, core: Core, holder: Holder, sent: list[Any]) -> None:
        self._core, self._holder = core, holder
        self._verdicts: list[OutcomeVerdict | None] = [None] * len(sent)
        self._outcomes: dict[int, Outcome] = {}
        for place, one in enumerate(sent):
            try:
                self._outcomes[place] = parse(Outcome, one, where=f"results.{place}")
            except InvalidRequest as error:
                self._verdicts[place] = _refused(_id_of(one), error)
        self._tasks = core.store.find([outcome.id for outcome in self._outcomes.values()])

    def verdicts(self) -> list[OutcomeVerdict]:
        """First those completed, in one statement; then what failed or speaks of a task again, in order."""
        self._complete_many()
        for place, outcome in self._outcomes.items():
            if self._verdicts[place] is None:
                self._verdicts[place] = self._one(outcome)
        return [verdict for verdict in self._verdicts if verdict is not None]

    def _complete_many(self) -> None:
        seen, good = set(), []
        for place, outcome in self._outcomes.items():
            first = outcome.id not in seen
            seen.add(outcome.id)
            if first and self._is_whole(outcome):
                good.append((place, outcome))
        pairs = [(_as_said(self._holder, self._tasks[one.id], one), _result_of(one)) for _, one in good]
        ended: list[Task] = []
        for (place, one), error in zip(
            good, self._core.leases.complete_many(self._holder, pairs), strict=True
        ):
            self._verdicts[place] = _refused(one.id, error) if error else _taken(one, "completed")
            if error is None:
                ended.append(self._tasks[one.id])
        self._core.fleet.ended(self._holder.worker_id, ended, good=True)

    def _is_whole(self, outcome: Outcome) -> bool:
        """Whether nothing but its result is left to judge; what a stranger says is judged one by one."""
        if not self._holder.trusted:
            return False
        said = outcome.attempt is not None or not self._holder.strict
        return outcome.status == "completed" and bool(outcome.result) and said and outcome.id in self._tasks

    def _one(self, outcome: Outcome) -> OutcomeVerdict:
        try:
            if outcome.id not in self._tasks:
                raise NotFound(f"there is no task {outcome.id}")
            ended = _take(self._core, self._holder, outcome, self._tasks[outcome.id])
        except Unavailable:
            raise  # The whole call is to be repeated; what it has done by now is told alike then.
        except GiftyComputeError as error:
            return _refused(outcome.id, error)
        return _taken(outcome, ended.status)


def _taken(outcome: Outcome, status: Any) -> OutcomeVerdict:
    return OutcomeVerdict(id=outcome.id, status=status, http_status=200)


def _id_of(sent: Any) -> UUID | None:
    try:
        return UUID(sent["id"])
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def _refused(task_id: UUID | None, error: GiftyComputeError) -> OutcomeVerdict:
    return OutcomeVerdict(
        id=task_id,
        status="refused",
        http_status=status_of(error),
        code=error.code,
        message=error.message,
    )
