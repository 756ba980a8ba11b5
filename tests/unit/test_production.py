"""What stops a start in production."""

from __future__ import annotations

from typing import Any

import pytest

from gifty_compute.errors import InvalidConfig
from gifty_compute.production import flower_flaws, has_open_entry, refuse_weak_broker, refuse_weak_facade
from gifty_compute.settings import BrokerSettings, Settings

STRONG = {
    "environment": "production",
    "database_url": "postgresql://u:p@host/name",
    "redis_url": "redis://:0c1f9ab277e35d84@host/0",
    "api_tokens": "backend:5d8f0c1e9b7a46332f1c",
    "internal_api_token": "90ab5c3fd2e17864b0f3a1c9",
    "ops_tokens": "anna:viewer:f00dc0de12aa7789654bcd31",
    "docs_enabled": "false",
}
STRONG["api_tokens"] += "81e4"


def flaws(**changed: Any) -> list[str]:
    fields = {name: value for name, value in {**STRONG, **changed}.items() if value is not None}
    with pytest.raises(InvalidConfig) as refused:
        refuse_weak_facade(Settings(**fields))
    return refused.value.message.split("\n  - ")[1:]


def test_strong_settings_are_fit_for_production() -> None:
    refuse_weak_facade(Settings(**STRONG))
    refuse_weak_facade(Settings(**{**STRONG, "internal_api_token": ""}))


def test_elsewhere_nothing_is_refused() -> None:
    refuse_weak_facade(Settings(database_url="postgresql://h/n", redis_url="redis://h"))


@pytest.mark.parametrize(
    ("changed", "flaw"),
    [
        ({"api_tokens": None}, "API_TOKENS is not set"),
        ({"ops_tokens": None}, "OPS_TOKENS is not set"),
        ({"api_tokens": "backend:api-token"}, "API_TOKENS: the token of backend has 9 characters"),
        ({"api_tokens": f"backend:{'ab' * 20}"}, "API_TOKENS: the token of backend repeats itself"),
        (
            {"internal_api_token": "please-change-me-9f8e7d6c5b4a"},
            "INTERNAL_API_TOKEN: the token of shared looks like",
        ),
        (
            {"ops_tokens": "anna:viewer:" + STRONG["internal_api_token"]},
            "the same token stands in INTERNAL_API_TOKEN",
        ),
        ({"callback_secret": "whsec_" + "A" * 43 + "="}, "CALLBACK_SECRET: number 1 repeats itself"),
        ({"redis_url": "redis://host/0"}, "REDIS_URL has no password"),
        ({"redis_url": "redis://:redis@host/0"}, "REDIS_URL: its password has 5 characters"),
        ({"cache_redis_url": "redis://host/0"}, "CACHE_REDIS_URL has no password"),
        ({"docs_enabled": None}, "DOCS_ENABLED is not set"),
    ],
)
def test_a_weak_setting_is_named_with_its_mending(changed: dict[str, Any], flaw: str) -> None:
    [said] = flaws(**changed)

    assert said.startswith(flaw)
    assert any(word in said for word in ("openssl rand", "requirepass", "say true"))


def test_all_flaws_are_said_at_once_and_no_secret_is() -> None:
    said = flaws(
        api_tokens="backend:canary", internal_api_token="canary", redis_url="redis://h", docs_enabled=None
    )

    assert len(said) == 5
    assert "canary" not in "".join(said)


def test_a_unix_socket_needs_no_password() -> None:
    refuse_weak_broker(BrokerSettings(environment="production", redis_url="unix:///run/valkey.sock"))


@pytest.mark.parametrize(
    ("auth", "is_open"),
    [
        ("", True),
        (",", True),
        (" ", True),
        ("anna:", True),
        (":pass-9f3c61d0", True),
        ("anna", True),
        ("anna:pass-9f3c61d0,", True),
        ("anna:pass-9f3c61d0,,ben:pass-61d09f3c", True),
        ("anna:pass-9f3c61d0, ben:pass-61d09f3c", False),
    ],
)
def test_an_entry_of_flowers_users_that_is_cut_off_leaves_it_open(auth: str, is_open: bool) -> None:
    """K2: Flower takes empty credentials where an entry is empty."""
    assert has_open_entry(auth) is is_open


@pytest.mark.parametrize("auth", ["", "anna:", "anna:short", "anna:long-enough-but-password", "anna"])
def test_flower_needs_a_password_that_nobody_guesses(auth: str) -> None:
    assert flower_flaws(auth)
