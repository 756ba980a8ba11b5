"""Workers' tokens, for operators: minted, listed, revoked."""

from __future__ import annotations

from flask import Blueprint, Response

from api.answers import json_answer
from api.operation import caller, core, operation
from api.tasks import path_id
from gifty_compute.wire.token import Minted, MintRequest, WorkerToken, WorkerTokenList

__all__ = ["blueprint"]

blueprint = Blueprint("tokens", __name__)


@blueprint.get("/ops/tokens")
@operation(scope="ops", answers={200: WorkerTokenList}, errors=(401, 503))
def list_tokens() -> Response:
    """All worker tokens, newest first; never their secrets."""
    return json_answer({"tokens": [token.__dict__ for token in core().tokens.list()]})


@blueprint.post("/ops/tokens")
@operation(
    scope="operator", body=MintRequest, answers={200: Minted}, errors=(400, 401, 409, 413, 415, 422, 503)
)
def mint_token(body: MintRequest) -> Response:
    """A token for one worker. `token` is shown this once: only its hash is kept."""
    for task_type in body.task_types:
        core().logic.require_type(task_type)
    name, _, _role = caller().rpartition(":")
    minted = core().tokens.mint(body, created_by=name)
    return json_answer(minted.__dict__, headers={"Cache-Control": "no-store"})


@blueprint.post("/ops/tokens/<token_id>/revoke")
@operation(scope="operator", answers={200: WorkerToken}, errors=(401, 404, 503))
def revoke_token(token_id: str) -> Response:
    """Refuses the token from the next request on; twice does no harm."""
    return json_answer(core().tokens.revoke(path_id(token_id, "worker token")).__dict__)
