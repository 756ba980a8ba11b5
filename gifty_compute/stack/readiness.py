"""How a program shows that it is ready for work."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import requests

from gifty_compute.embedded.child import Child

__all__ = ["Ready", "alive", "flower_sees", "http_ok", "logged_event"]

Ready = Callable[[Child], bool]

_TIMEOUT = 3.0


def alive(child: Child) -> bool:
    """Ready as long as it runs: for a program that serves nobody."""
    return child.poll() is None


def http_ok(url: str) -> Ready:
    """Ready when the address answers 200."""

    def ready(_child: Child) -> bool:
        return _get(url) is not None

    return ready


def flower_sees(worker: str, flower_url: str, auth: str) -> Ready:
    """Ready when Flower, and so an operator, sees the Celery worker online."""
    user, _, password = auth.partition(":")

    def ready(_child: Child) -> bool:
        answer = _get(f"{flower_url}/api/workers?status=1", (user, password))
        return answer is not None and any(
            online and name.startswith(f"{worker}@") for name, online in answer.json().items()
        )

    return ready


def logged_event(event: str) -> Ready:
    """Ready when it has logged a JSON line with that `event` since it was started."""

    def ready(child: Child) -> bool:
        return any(_event(line) == event for line in child.log_since_start().splitlines())

    return ready


def _event(line: str) -> object:
    if not line.startswith("{"):
        return None
    with contextlib.suppress(ValueError):  # a line of somebody else's, or half a line
        return json.loads(line).get("event")
    return None


def _get(url: str, auth: tuple[str, str] | None = None) -> requests.Response | None:
    with requests.Session() as session:
        session.trust_env = False  # no proxy stands between us and this machine
        try:
            answer = session.get(url, auth=auth, timeout=_TIMEOUT)
        except requests.RequestException:
            return None  # not yet
    return answer if answer.status_code == requests.codes.ok else None
