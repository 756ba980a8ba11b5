"""PollClient: a worker's four verbs over HTTP."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID, uuid4

import orjson
import requests
from pydantic import BaseModel, Field, ValidationError
from requests.auth import AuthBase

from gifty_compute.door import checked_token, checked_url
from gifty_compute.errors import GiftyComputeError, InvalidResult, TooLarge, Unavailable
from gifty_compute.poll.refusals import refusal, refusal_in, unreachable
from gifty_compute.wire import vectors
from gifty_compute.wire.fault import first_fault
from gifty_compute.wire.task import (
    Claimed,
    Extension,
    HeartbeatRequest,
    Held,
    Holder,
    Outcome,
    OutcomeVerdict,
    ReleaseReason,
    ReleaseRequest,
    ResultsAnswer,
    Want,
)

__all__ = ["PollClient"]

log = logging.getLogger(__name__)

_WORKERS = "/internal/workers"
# Connect, read. A claim or a heartbeat that takes longer than a third of a lease comes too late anyway.
_TIMEOUT = (5.0, 30.0)
# Sixteen tasks, each as large as the facade takes one.
_MOST_BYTES = 256 * 2**20
_MOST_BYTES_OF_AN_ERROR = 64 * 2**10
_CHUNK = 64 * 2**10
_MOST_OUTCOMES = 1000

_Answer = TypeVar("_Answer", bound=BaseModel)


class _ClaimAnswer(Claimed):
    lease_seconds: float = Field(gt=0, le=86_400)


class _Released(BaseModel):
    released: list[UUID]


class PollClient:
    """Fits TaskSource over the facade's worker bridge; may be shared by threads.

    Each call is tried once: who calls decides how patiently. A call that got no answer, or none that can be
    understood, raises Unavailable and may be repeated: a claim then carries the same claim_id, so that tasks
    handed out in a lost answer come again instead of new ones. `Holder.credential` is not sent; the token is.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        timeout: tuple[float, float] = _TIMEOUT,
        info: Callable[[], Mapping[str, Any]] | None = None,
        new_session: Callable[[], requests.Session] = requests.Session,
    ) -> None:
        """`info` gives what operators see of this worker.

        It goes along with each heartbeat, of which one without tasks follows the first claim. Raises
        InvalidConfig for an address that is not http(s), or a token that fits no header.
        """
        self._base = checked_url(base_url)
        self._auth = _Bearer(checked_token(token))
        self._timeout = timeout
        self._info, self._introduced = info, info is None
        self._new_session = new_session
        self._own = threading.local()
        self._unanswered: dict[tuple[Holder, Want], UUID] = {}

    def claim(self, holder: Holder, want: Want) -> Claimed:
        # However many are asked for: what the first call was handed comes again.
        key = (holder, want.model_copy(update={"limit": 0, "wait_seconds": 0}))
        claim_id = want.claim_id or self._unanswered.pop(key, None) or uuid4()
        try:
            query = _query(holder, want, claim_id)
            claimed = self._call("GET", "/tasks", _ClaimAnswer, params=query, patience=want.wait_seconds)
        except Unavailable:
            if want.claim_id is None:
                self._unanswered[key] = claim_id
            raise
        if not self._introduced and not want.bare:
            self._introduce(holder)
        return claimed

    def _introduce(self, holder: Holder) -> None:
        """Says who this is before the first lease is renewed: an idle worker sends no other heartbeat."""
        try:
            self.extend(holder, [])
        except Unavailable as error:
            log.info("the worker is not introduced yet: %s", error)
        else:
            self._introduced = True

    def extend(self, holder: Holder, held: list[Held], *, exhaustive: bool = False) -> Extension:
        body = HeartbeatRequest(
            worker_id=holder.worker_id, session=holder.session, exhaustive=exhaustive, tasks=held
        )
        if self._info is not None:
            body = body.model_copy(update={"info": dict(self._info())})
        return self._call("POST", "/heartbeat", Extension, body=_json(body))

    def report(self, holder: Holder, outcomes: Sequence[Outcome]) -> list[GiftyComputeError | None]:
        errors: list[GiftyComputeError | None] = [None] * len(outcomes)
        sound: dict[int, bytes] = {}
        for place, outcome in enumerate(outcomes):
            try:
                sound[place] = _written(_told(outcome))
            except InvalidResult as error:
                errors[place] = error
        verdicts = self._report(holder, list(sound.values()))
        for place, verdict in zip(sound, verdicts, strict=True):
            errors[place] = refusal_in(verdict)
        return errors

    def _report(self, holder: Holder, outcomes: list[bytes]) -> list[OutcomeVerdict]:
        if not outcomes:
            return []
        try:
            return self._send(holder, outcomes[:_MOST_OUTCOMES]) + self._report(
                holder, outcomes[_MOST_OUTCOMES:]
            )
        except TooLarge as error:
            if len(outcomes) == 1:
                refused = {"status": "refused", "http_status": 413, "code": error.code}
                return [OutcomeVerdict(id=None, message=error.message, **refused)]
            half = len(outcomes) // 2
            return self._report(holder, outcomes[:half]) + self._report(holder, outcomes[half:])

    def _send(self, holder: Holder, outcomes: list[bytes]) -> list[OutcomeVerdict]:
        about = {"worker_id": holder.worker_id, "session": holder.session}
        body = orjson.dumps({**about, "results": [orjson.Fragment(one) for one in outcomes]})
        verdicts = self._call("POST", "/results", ResultsAnswer, body=body).verdicts
        if len(verdicts) != len(outcomes):
            message = f"{len(outcomes)} outcomes were answered with {len(verdicts)} verdicts"
            raise Unavailable(message, retry_after=0.0)
        return verdicts

    def release(self, holder: Holder, held: list[Held], reason: ReleaseReason = "drain") -> list[UUID]:
        body = ReleaseRequest(worker_id=holder.worker_id, session=holder.session, tasks=held, reason=reason)
        return self._call("POST", "/release", _Released, body=_json(body)).released

    def _call(
        self,
        verb: str,
        path: str,
        answer: type[_Answer],
        *,
        params: list[tuple[str, str]] | None = None,
        body: bytes | None = None,
        patience: float = 0.0,
    ) -> _Answer:
        call, (connect, read) = f"{verb} {_WORKERS}{path}", self._timeout
        try:
            with self._session().request(
                verb,
                f"{self._base}{_WORKERS}{path}",
                params=params,
                data=body,
                headers={"Content-Type": "application/json"} if body is not None else None,
                auth=self._auth,
                timeout=(connect, read + patience),
                allow_redirects=False,
                stream=True,
            ) as response:
                content = _read(response)
        except requests.RequestException as error:
            raise unreachable(self._base, error) from error
        if response.status_code != 200:
            raise refusal(call, response.status_code, response.headers, content)
        return _understood(call, answer, content)

    def _session(self) -> requests.Session:
        """This thread's own session.

        requests promises nothing for one that is shared, and under a lock a heartbeat would wait behind the
        upload of a large result while its lease runs out.
        """
        session: requests.Session | None = getattr(self._own, "session", None)
        if session is None:
            session = self._own.session = self._new_session()
            # Proxies and certificates of the environment, once: requests looks for them at each call.
            found = session.merge_environment_settings(self._base, {}, None, None, None)
            session.proxies, session.verify = found["proxies"], found["verify"]
            session.trust_env = False
        return session


class _Bearer(AuthBase):
    """Sets the token. As `auth`, since a header alone would give way to a matching line in ~/.netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _query(holder: Holder, want: Want, claim_id: UUID) -> list[tuple[str, str]]:
    query = [("worker_id", holder.worker_id), ("limit", str(want.limit))]
    query += [("task_type", task_type) for task_type in want.task_types]
    query += [("model", model) for model in want.models]
    query += [("space", space) for space in want.spaces]
    query += [("id", str(task_id)) for task_id in want.ids]
    if want.max_tokens is not None:
        query.append(("max_tokens", str(want.max_tokens)))
    if want.wait_seconds:
        query.append(("wait", f"{want.wait_seconds:g}"))
    if want.bare:
        return query
    query += [("claim_id", str(claim_id)), ("session", holder.session)]
    if want.lease_seconds is not None:
        query.append(("lease", f"{want.lease_seconds:g}"))
    return query


def _told(outcome: Outcome) -> dict[str, Any]:
    """What is said of it, not copied, with vectors in the binary form."""
    said = {name: value for name, value in outcome.__dict__.items() if name in outcome.model_fields_set}
    return {**said, "result": vectors.packed(outcome.result)} if outcome.result else said


def _json(body: BaseModel) -> bytes:
    return _written(body.model_dump(exclude_unset=True))


def _written(value: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError as error:
        raise InvalidResult(f"the result cannot be written as JSON: {error}") from error


def _read(response: requests.Response) -> bytes:
    """The body: of an error only its beginning. Raises Unavailable for a good answer beyond all measure."""
    good = response.status_code == 200
    most = _MOST_BYTES if good else _MOST_BYTES_OF_AN_ERROR
    content = bytearray()
    for chunk in response.iter_content(_CHUNK):
        content += chunk
        if len(content) > most and good:
            raise Unavailable(f"an answer of more than {most} bytes was not read", retry_after=0.0)
        if len(content) > most:
            break
    return bytes(content)


def _understood(call: str, answer: type[_Answer], content: bytes) -> _Answer:
    """Raises Unavailable: whatever sent this, a proxy or a captive portal, the facade has not answered."""
    try:
        return answer.model_validate_json(content)
    except ValidationError as error:
        message = f"{call} was answered 200, but not as the contract says: {first_fault(error, whole='body')}"
    # Not from the error, which quotes the answer: Celery logs the causes, too, and tells Flower of them.
    raise Unavailable(message, retry_after=0.0)
