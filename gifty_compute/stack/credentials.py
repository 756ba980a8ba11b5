"""The tokens and secrets of one installation: those given, else its own, made once and kept."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gifty_compute.embedded.errors import EmbeddedError
from gifty_compute.embedded.private import write_private

__all__ = ["Credentials", "read_or_make_credentials"]


@dataclass(frozen=True)
class Credentials:
    """Each as its environment variable has it, so that the children read what the operator wrote."""

    api_tokens: str
    internal_api_token: str
    ops_tokens: str
    callback_secret: str
    flower_basic_auth: str

    @property
    def environment(self) -> dict[str, str]:
        """For the children; never for a command line, which every user of the machine can read."""
        return {
            "API_TOKENS": self.api_tokens,
            "INTERNAL_API_TOKEN": self.internal_api_token,
            "OPS_TOKENS": self.ops_tokens,
            "CALLBACK_SECRET": self.callback_secret,
            "FLOWER_BASIC_AUTH": self.flower_basic_auth,
        }

    @property
    def api_token(self) -> str:
        """The first client's token.

        >>> Credentials("backend:aa,jobs:bb", "", "", "", "").api_token
        'aa'
        """
        return _first(self.api_tokens).rpartition(":")[2]

    @property
    def internal_token(self) -> str:
        return _first(self.internal_api_token)

    @property
    def ops_token(self) -> str:
        return _first(self.ops_tokens).rpartition(":")[2]

    @property
    def flower_auth(self) -> str:
        """`user:password`."""
        return _first(self.flower_basic_auth)


def read_or_make_credentials(environ: Mapping[str, str], path: Path) -> Credentials:
    """What the environment gives wins; the rest is in the file (0600), made there if need be."""
    kept = _read(path)
    made = {name: value for name, value in _make().items() if name not in kept}
    if made:
        kept |= made
        write_private(path, json.dumps(kept, indent=2) + "\n")
    given = {name: environ[name.upper()] for name in kept if environ.get(name.upper())}
    return Credentials(**(kept | given))


def _make() -> dict[str, str]:
    return {
        "api_tokens": f"backend:{secrets.token_urlsafe(24)}",
        "internal_api_token": secrets.token_urlsafe(24),
        "ops_tokens": f"operator:operator:{secrets.token_urlsafe(24)}",
        # Standard Webhooks: 24 to 64 random bytes.
        "callback_secret": f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "flower_basic_auth": f"operator:{secrets.token_urlsafe(24)}",
    }


def _read(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        kept = json.loads(text, object_pairs_hook=_once_each)
    except ValueError as exc:
        raise EmbeddedError(f"{path} is not JSON ({exc}): mend it, or remove it for new secrets") from exc
    names = _make().keys()
    if not isinstance(kept, dict) or not all(isinstance(kept.get(name, ""), str) for name in names):
        raise EmbeddedError(f"{path} does not hold texts by name: remove it for new secrets")
    found = {name: kept[name] for name in names if name in kept}
    # An empty text would mean "no password" to a program that reads it.
    lost = [name for name, secret in found.items() if not secret.strip()] or ([] if found else list(names))
    if lost:
        raise EmbeddedError(f"{path} has lost {', '.join(lost)}: mend it, or remove it for new secrets")
    return found


def _once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} is there twice")
    return found


def _first(values: str) -> str:
    return values.split(",")[0].strip()
