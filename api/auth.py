"""Who may call: tokens compared in constant time, each valid for its own paths only."""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal

from pydantic import SecretStr

from api.facade import FacadeRequest
from gifty_compute.errors import Unauthorized

__all__ = ["Guard", "Scope"]

Scope = Literal["api", "internal", "ops", "operator"]
_Named = tuple[tuple[str, SecretStr], ...]


class Guard:
    """Knows every token by its hash, so that neither length nor prefix of one shows in the time taken."""

    def __init__(self, *, api: _Named, internal: _Named, ops: _Named = ()) -> None:
        self._tokens: dict[Scope, list[tuple[str, bytes]]] = {
            "api": [(name, _digest(token.get_secret_value())) for name, token in api],
            "internal": [(name, _digest(token.get_secret_value())) for name, token in internal],
            "ops": [(name, _digest(token.get_secret_value())) for name, token in ops],
        }
        # Whoever may act may also look.
        self._tokens["operator"] = [
            (name, token) for name, token in self._tokens["ops"] if name.endswith(":operator")
        ]

    def name(self, scope: Scope, request: FacadeRequest) -> str:
        """The name that goes with the credential. Raises Unauthorized, which says nothing more."""
        sent = [_digest(credential) for credential in _credentials(request)]
        found = [
            name for name, token in self._tokens[scope] for one in sent if hmac.compare_digest(token, one)
        ]
        if not found:
            raise Unauthorized
        return found[0]


def _credentials(request: FacadeRequest) -> list[str]:
    """What either header holds; a proxy may use Authorization for itself."""
    scheme, _, token = (request.header("HTTP_AUTHORIZATION") or "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return [sent for sent in (bearer, request.header("HTTP_X_INTERNAL_TOKEN")) if sent]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
