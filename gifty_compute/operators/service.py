"""A running service as operators' commands reach it: its address, an ops token, and calls with JSON."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from gifty_compute.door import checked_token, checked_url, innermost, printable
from gifty_compute.errors import GiftyComputeError, InvalidConfig, NotFound, Unauthorized, Unavailable
from gifty_compute.redaction import place
from gifty_compute.stack.options import default_data_dir

__all__ = ["Service", "find_service"]

_SECONDS = 30.0


@dataclass(frozen=True)
class Service:
    """Calls raise Unauthorized, NotFound, Unavailable (no answer), else GiftyComputeError with its words."""

    url: str
    token: str = field(repr=False)

    def get(self, path: str) -> Any:
        """The JSON of a 200."""
        return self._call("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON of the answer to this body."""
        return self._call("POST", path, body)

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        with requests.Session() as session:
            # Credentials of a .netrc would take the place of the token.
            session.auth = _no_auth
            try:
                answer = session.request(
                    method,
                    self.url + path,
                    json=body,
                    headers=headers,
                    timeout=_SECONDS,
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                raise Unavailable(f"{place(self.url)} does not answer: {innermost(error)}") from error
        return _read(answer, place(self.url))


def find_service(data_dir: Path | None, url: str | None, token: str | None) -> Service:
    """The service that is named, else the one that `up` runs in the data directory on this machine.

    Raises InvalidConfig where neither is there.
    """
    if url and token:
        return Service(checked_url(url), checked_token(token))
    path = (data_dir or default_data_dir(os.environ)) / "run.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        kept = {"url": str(found["api_url"]), "token": str(found["ops_token"])}
    except FileNotFoundError as error:
        missing = "GIFTY_OPS_TOKEN" if url else "GIFTY_COMPUTE_URL and GIFTY_OPS_TOKEN"
        message = (
            f"set {missing}, or name the data directory of a running `gifty-compute up`: there is no {path}"
        )
        raise InvalidConfig(message) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidConfig(f"{path} cannot be read as what `up` writes: {type(error).__name__}") from error
    if url and checked_url(url) != kept["url"]:
        # The token of one service is never sent to another.
        raise InvalidConfig(f"set GIFTY_OPS_TOKEN, too: {path} is of another service than {place(url)}")
    return Service(checked_url(kept["url"]), checked_token(token or kept["token"]))


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _read(answer: requests.Response, where: str) -> Any:
    try:
        body = answer.json()
    except ValueError as error:
        raise GiftyComputeError(
            f"{where} answered {answer.status_code} without JSON: is it the facade?"
        ) from error
    if answer.ok:
        return body
    error_body = body.get("error") if isinstance(body, dict) else None
    said = printable(str(error_body.get("message"))) if isinstance(error_body, dict) else "no reason"
    if answer.status_code == 401:
        raise Unauthorized(f"{where} does not take this ops token for that: see OPS_TOKENS and its roles")
    if answer.status_code == 404:
        raise NotFound(said)
    raise GiftyComputeError(f"{where} answered {answer.status_code}: {said}")
