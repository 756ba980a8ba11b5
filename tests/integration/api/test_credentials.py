"""Every path against every credential but its own, whole and mangled: 401, which says nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from api.operation import Scope, operations
from gifty_compute.core import Core
from gifty_compute.wire.token import MintRequest
from tests.conftest import EVERY_CLIENT
from tests.integration.api.test_hostile import assert_contract_shape

TOKENS: dict[str, set[Scope]] = {
    "api-token": {"api"},
    "jobs-token": {"api"},
    "internal-token": {"internal"},
    "viewer-token": {"ops"},
    "ops-token": {"ops", "operator"},
}
"""Whose paths each token of the tests' settings opens."""


@pytest.fixture
def tokens(core: Core) -> dict[str, set[Scope]]:
    """Those of the settings, and workers' own: a good one, one that is revoked, one that has expired."""
    found = dict(TOKENS)
    for name, scopes in {"good": {"internal"}, "revoked": set(), "expired": set()}.items():
        minted = core.tokens.mint(MintRequest(name=name, expires_in_days=1), created_by="anna")
        found[minted.token] = scopes  # type: ignore[assignment]
        if name == "revoked":
            core.tokens.revoke(minted.id)
    with core.database.connection() as connection:
        past = "UPDATE compute_worker_tokens SET expires_at = now() WHERE name = 'expired'"
        connection.execute(text(past))
    return found


def paths(client: FlaskClient) -> Iterator[tuple[str, str, Scope]]:
    """Method, path and scope of all that is served to somebody with a token."""
    for rule in client.application.url_map.iter_rules():
        found = operations.get(client.application.view_functions[rule.endpoint])
        if found is None or found.scope is None:
            continue
        path = rule.rule
        for argument in rule.arguments:
            path = path.replace(f"<{argument}>", str(UUID(int=0)))
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
            yield method, path, found.scope


def mangled(token: str) -> list[dict[str, str]]:
    """What a token is not, though it holds one."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    bearers = [token[:-1], token + "x", token.swapcase(), f"{token},{token}", f"{token} {token}", digest]
    bearers += [token[:3] + "\u00ad" + token[3:], f'"{token}"', f"backend:{token}", f"%20{token}"]
    others = [f"Basic {token}", f"Token {token}", token, f"Bearer:{token}", f"Bearer\t{token}", "Bearer", ""]
    values = [*(f"Bearer {one}" for one in bearers), *others]
    found = [{"Authorization": value.encode().decode("latin-1")} for value in values]
    found += [{"X-Internal-Token": f"Bearer {token}"}, {"X-Api-Token": token}, {"Cookie": f"token={token}"}]
    return [*found, {"Proxy-Authorization": f"Bearer {token}"}, {"X-Forwarded-Authorization": token}]


def test_every_path_opens_to_its_own_tokens_alone(
    client: FlaskClient, core: Core, tokens: dict[str, set[Scope]]
) -> None:
    served = list(paths(client))
    assert {scope for _, _, scope in served} == {"api", "internal", "ops", "operator"}

    for method, path, scope in served:
        for token, opens in tokens.items():
            for headers in ({"Authorization": f"Bearer {token}"}, {"X-Internal-Token": token}):
                answer = client.open(path, method=method, headers=headers)
                assert (answer.status_code != 401) == (scope in opens), (method, path, token, answer.data)

    assert core.store.page(EVERY_CLIENT, limit=1) == ([], None)


def test_nothing_but_the_token_itself_is_a_token(client: FlaskClient, tokens: dict[str, set[Scope]]) -> None:
    for method, path, scope in paths(client):
        for token in (one for one, opens in tokens.items() if scope in opens):
            for headers in mangled(token):
                answer = client.open(path, method=method, headers=headers, query_string={"token": token})
                assert answer.status_code == 401, (method, path, headers)
                assert_contract_shape(answer)
                assert answer.json["error"]["message"] == "The credential is missing, wrong or out of scope."
                assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_paths_without_a_credential_are_probes_and_the_document(client: FlaskClient) -> None:
    """Whoever adds one more has it seen here."""
    views = client.application.view_functions
    open_ = {
        rule.rule
        for rule in client.application.url_map.iter_rules()
        if (found := operations.get(views[rule.endpoint])) is None or found.scope is None
    }

    assert open_ == {"/health", "/healthz", "/readyz", "/openapi.json", "/docs"}
