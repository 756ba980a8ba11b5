"""Production mode: ENVIRONMENT=production refuses a start on weak settings, and names all of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import SecretStr

from gifty_compute.errors import InvalidConfig
from gifty_compute.settings import BrokerSettings, Settings

__all__ = ["flower_flaws", "has_open_entry", "refuse_weak_broker", "refuse_weak_facade"]

# 24 letters and digits are more than anybody can try; a person types Flower's password.
_TOKEN_LENGTH, _PASSWORD_LENGTH, _FEWEST_CHARACTERS = 24, 16, 8
_EXAMPLES = re.compile(
    r"change[-_]?(me|this|it)|example|password|your[-_]|x{6}|123456|(^|[-_])(secret|token|test)([-_]|$)", re.I
)
_RANDOM = "make one with `openssl rand -hex 32`"
_SOCKETS = ("unix", "redis+socket", "socket")


def refuse_weak_facade(settings: Settings) -> None:
    """Raises InvalidConfig naming every flaw and its mending, if this is production."""
    _refuse(settings, [*_facade_flaws(settings), *_broker_flaws(settings)])


def refuse_weak_broker(settings: BrokerSettings) -> None:
    """The same for a program that takes no requests."""
    _refuse(settings, list(_broker_flaws(settings)))


def has_open_entry(basic_auth: str) -> bool:
    """Whether one of Flower's entries, comma separated, lacks its user or its password, or none is there.

    Flower accepts credentials that equal an entry; a trailing comma adds an empty entry.

    >>> has_open_entry("anna:9f3c61d07b2e4a58,"), has_open_entry("anna:9f3c61d07b2e4a58")
    (True, False)
    """
    pairs = [entry.partition(":") for entry in basic_auth.split(",")]
    return not all(user.strip() and password.strip() for user, _, password in pairs)


def flower_flaws(basic_auth: str) -> list[str]:
    """What is weak about Flower's `user:password`, comma separated.

    >>> flower_flaws("anna:9f3c61d07b2e4a58")
    []
    >>> flower_flaws("anna:secret")[0].partition(";")[0]
    'FLOWER_BASIC_AUTH: the password of anna has 6 characters, 16 are the least'
    """
    pairs = [entry.strip().partition(":") for entry in basic_auth.split(",") if entry.strip()]
    if not pairs:
        return ["FLOWER_BASIC_AUTH is not set: write user:password, or anybody reads the fleet"]
    return [
        f"FLOWER_BASIC_AUTH: the password of {user} {flaw}; {_RANDOM}"
        for user, _, password in pairs
        if (flaw := _weakness(password, _PASSWORD_LENGTH))
    ]


def _refuse(settings: BrokerSettings, flaws: list[str]) -> None:
    if settings.environment == "production" and flaws:
        raise InvalidConfig("\n  - ".join(["this is ENVIRONMENT=production, and is not fit for it:", *flaws]))


def _facade_flaws(settings: Settings) -> Iterator[str]:
    tokens = {
        "API_TOKENS": settings.api_tokens,
        "INTERNAL_API_TOKEN": settings.internal_api_token,
        "OPS_TOKENS": settings.ops_tokens,
    }
    places: defaultdict[str, list[str]] = defaultdict(list)
    for variable, named in tokens.items():
        # Without the workers' shared token those of their own are left.
        if not named and variable != "INTERNAL_API_TOKEN":
            yield f"{variable} is not set, so nobody could call what it is for; {_RANDOM}"
        for name, token in named:
            places[token.get_secret_value()].append(f"{variable} ({name})")
            if flaw := _weakness(token.get_secret_value(), _TOKEN_LENGTH):
                yield f"{variable}: the token of {name} {flaw}; {_RANDOM}"
    for where in places.values():
        if len(where) > 1:
            yield f"the same token stands in {' and '.join(where)}: give each one of its own; {_RANDOM}"
    for number, secret in enumerate(settings.callback_secret, 1):
        if len(set(secret.get_secret_value())) < 2 * _FEWEST_CHARACTERS:
            yield f"CALLBACK_SECRET: number {number} repeats itself; make one with `openssl rand -base64 32`"
    if "docs_enabled" not in settings.model_fields_set:
        yield "DOCS_ENABLED is not set: say true if everybody may read /openapi.json and /docs, else false"
    if settings.cache_redis_url is not None:
        yield from _redis_flaws("CACHE_REDIS_URL", settings.cache_redis_url)


def _broker_flaws(settings: BrokerSettings) -> Iterator[str]:
    yield from _redis_flaws("REDIS_URL", settings.redis_url)


def _redis_flaws(variable: str, secret: SecretStr) -> Iterator[str]:
    url: SplitResult = urlsplit(secret.get_secret_value())
    if url.scheme in _SOCKETS:
        return
    password = unquote(url.password or "")
    if not password:
        yield f"{variable} has no password: set one (requirepass), or use a unix socket"
    elif flaw := _weakness(password, _PASSWORD_LENGTH):
        yield f"{variable}: its password {flaw}; {_RANDOM}"


def _weakness(secret: str, least: int) -> str:
    """What is wrong with it; nothing of it is quoted."""
    if len(secret) < least:
        return f"has {len(secret)} characters, {least} are the least"
    if len(set(secret)) < _FEWEST_CHARACTERS:
        return "repeats itself"
    if _EXAMPLES.search(secret):
        return "looks like an example"
    return ""
