"""Who may call: tokens compared in constant time, each valid for its own paths only."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Literal

from pydantic import SecretStr

from api.facade import FacadeRequest
from gifty_compute.errors import Unauthorized
from gifty_compute.wire.token import WorkerToken

__all__ = ["Guard", "Scope"]

Scope = Literal["api", "internal", "ops", "operator"]
"""Whose paths: the backend's, workers', operators' to look at, operators' to change something."""
_Named = tuple[tuple[str, SecretStr], ...]


class Guard:
    """Knows every token of the settings by its hash: neither length nor prefix shows in the time taken.

    `find` looks up a worker's own token, by its hash too, at each request: one that is revoked is refused at
    the next.
    """

    def __init__(
        self,
        *,
        api: _Named,
        internal: _Named,
        ops: _Named = (),
        find: Callable[[str], WorkerToken | None] = lambda _: None,
    ) -> None:
        operators = tuple(named for named in ops if named[0].endswith(":operator"))
        scopes: dict[Scope, _Named] = {"api": api, "internal": internal, "ops": ops, "operator": operators}
        self._tokens = {
            scope: [(name, _digest(token.get_secret_value())) for name, token in named]
            for scope, named in scopes.items()
        }
        self._find = find

    def admit(self, scope: Scope, request: FacadeRequest) -> None:
        """Notes with the request who calls.

        Raises Unauthorized, which says nothing more; StoreUnavailable where a worker's own token cannot be
        looked up.
        """
        credentials = _credentials(request)
        sent = [_digest(credential) for credential in credentials]
        found = [
            name for name, token in self._tokens[scope] for one in sent if hmac.compare_digest(token, one)
        ]
        if found:
            request.caller = found[0]
            return
        own = next(filter(None, map(self._find, credentials)), None) if scope == "internal" else None
        if own is None:
            raise Unauthorized
        request.caller, request.worker_token = str(own.id), own


def _credentials(request: FacadeRequest) -> list[str]:
    """What either header holds; a proxy may use Authorization for itself."""
    scheme, _, token = (request.header("HTTP_AUTHORIZATION") or "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return [sent for sent in (bearer, request.header("HTTP_X_INTERNAL_TOKEN")) if sent]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
