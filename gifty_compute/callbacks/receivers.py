"""Who may be called: the one judgement of a callback_url, at submit and again before each try."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from gifty_compute.callbacks.addresses import is_public
from gifty_compute.errors import InvalidRequest
from gifty_compute.logic.logic import Logic
from gifty_compute.wire.host import Host, read_host

__all__ = ["Receiver", "Receivers", "masked"]

_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(?::(?P<port>[0-9]{0,5}))?")
# Names that are never public, whoever answers for them.
_LOCAL_NAMES = frozenset({"localhost", "local", "internal", "lan", "arpa"})
_WELL_KNOWN_PORTS = frozenset({80, 443})


@dataclass(frozen=True)
class Receiver:
    """An address that may be called, spelled so that every program reads the same host in it."""

    url: str
    is_named: bool
    """Whether callbacks.allow_hosts names it: only then it may be a private one."""


class Receivers:
    """Judges by the allow list in force. Where something is `missing` that it takes, nobody is called."""

    def __init__(self, logic: Callable[[], Logic], *, missing: str | None = None) -> None:
        self._logic, self._missing = logic, missing

    def admit(self, url: str) -> Receiver:
        """The receiver. Raises InvalidRequest for `callback_url` with the reason.

        Names are not looked up here: one that does not resolve now may do so when the time has come, and what
        it resolves to then is judged where the connection is made.
        """
        if self._missing is not None:
            message = f"callbacks are not served here: {self._missing}; poll the task"
            raise InvalidRequest(message, param="callback_url", code="not_served")
        try:
            return self._receiver(url)
        except ValueError as error:
            message = f"callback_url: {error}"
            raise InvalidRequest(message, param="callback_url", code="callback_refused") from error

    def _receiver(self, url: str) -> Receiver:
        scheme, host, port, rest = _split(url)
        allowed = self._logic().file.callbacks.allow_hosts
        if allowed and host not in allowed:
            raise ValueError(f"{host} is not in callbacks.allow_hosts")
        if not allowed:
            _require_public(host, port)
        written = f"[{host}]" if ":" in str(host) else str(host)
        colon = "" if port is None else f":{port}"
        return Receiver(url=f"{scheme}://{written}{colon}{rest}", is_named=bool(allowed))


def masked(url: str) -> str:
    """The URL as logs and operators see it: a query may hold a secret, and so may what is before an @.

    >>> masked("https://user:word@shop.example/hook?token=abc")
    'https://shop.example/hook?…'
    """
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    authority, slash, path = rest.partition("/")
    shown = f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"
    plain, query, _ = shown.partition("?")
    return f"{plain}{'?…' if query else ''}"


def _split(url: str) -> tuple[str, Host, int | None, str]:
    """Scheme, host, port, and the rest from its slash on.

    Raises ValueError, also for what two programs may read differently.
    """
    if any(character <= " " or character in "\\\x7f" for character in url):
        raise ValueError("it must not hold spaces, control characters or backslashes")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise ValueError("it must begin with https:// or http://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    rest = rest[len(authority) :]
    if "@" in authority:
        raise ValueError("it must not hold a user or password")
    if "#" in rest:
        raise ValueError("it must not have a fragment (#)")
    if not rest.isascii():
        raise ValueError("its path must be percent-encoded")
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise ValueError("it must name a host, and a port after one colon at most")
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 1 <= port <= 65_535:
        raise ValueError("its port must be from 1 to 65535")
    try:
        host = read_host(found["host"])
    except ValueError as error:
        raise ValueError(f"its host cannot be called: {error}") from error
    return scheme.lower(), host, port, rest if rest.startswith("/") else f"/{rest}"


def _require_public(host: Host, port: int | None) -> None:
    if not isinstance(host, str):
        if not is_public(host):
            raise ValueError(f"{host} is not a public address, and callbacks.allow_hosts does not name it")
    elif "." not in host or host.rpartition(".")[2] in _LOCAL_NAMES:
        raise ValueError(f"{host} is not a public name, and callbacks.allow_hosts does not name it")
    if port is not None and port < 1024 and port not in _WELL_KNOWN_PORTS:
        raise ValueError(f"port {port} is for other protocols; use 80, 443 or one from 1024 on")
