"""The environment, read once."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from gifty_compute.errors import InvalidConfig
from gifty_compute.settings import Settings, read_broker_settings, read_logic_settings, read_settings

LEAST = {"DATABASE_URL": "postgresql://u:canary-db@host/name", "REDIS_URL": "redis://:canary-redis@host/0"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing but the two addresses that every process needs."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)
    for name, value in LEAST.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def shown(tokens: object) -> list[tuple[str, str]]:
    assert isinstance(tokens, tuple)
    return [(client, token.get_secret_value()) for client, token in tokens]


def test_two_addresses_are_enough() -> None:
    settings = read_settings()

    assert settings.database_url.get_secret_value() == LEAST["DATABASE_URL"]
    assert settings.redis_url.get_secret_value() == LEAST["REDIS_URL"]
    assert settings.logic_config_path == Path("configs/logic.yaml")
    assert settings.api_tokens == settings.internal_api_token == ()
    assert settings.docs_enabled is True


def test_an_api_token_has_a_client_and_a_client_may_have_two(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("API_TOKENS", "gifty:one,jobs:two, gifty:three ,,")

    assert shown(read_settings().api_tokens) == [("gifty", "one"), ("jobs", "two"), ("gifty", "three")]


def test_a_token_may_hold_a_colon(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("API_TOKENS", "gifty:a:b")

    assert shown(read_settings().api_tokens) == [("gifty", "a:b")]


def test_the_workers_tokens_are_a_comma_list(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("INTERNAL_API_TOKEN", "old, new,")

    assert shown(read_settings().internal_api_token) == [("shared", "old"), ("shared", "new")]


WEBHOOK_SECRETS = ("whsec_bmV3ZXN0IHNlY3JldCwgMjQgYnl0ZXMhIQ==", "whsec_b2xkZXIgc2VjcmV0LCBhbHNvIDI0IGJ5dGVz")


def test_callback_secrets_are_a_comma_list_the_newest_first(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CALLBACK_SECRET", ", ".join(WEBHOOK_SECRETS))

    assert tuple(one.get_secret_value() for one in read_settings().callback_secret) == WEBHOOK_SECRETS


@pytest.mark.parametrize(
    "secret",
    [
        "canary",
        "whsec_canary!",
        "whsec_Y2FuYXJ5",
        "whsec_" + "A" * 88,
        WEBHOOK_SECRETS[0].removeprefix("whsec_"),
    ],
    ids=["no base64", "odd characters", "too short", "too long", "no prefix"],
)
def test_a_weak_callback_secret_stops_the_start_and_is_not_quoted(
    environment: pytest.MonkeyPatch, secret: str
) -> None:
    environment.setenv("CALLBACK_SECRET", f"{WEBHOOK_SECRETS[0]},{secret}")

    with pytest.raises(InvalidConfig, match=r"CALLBACK_SECRET: .*24 to 64") as refused:
        read_settings()

    assert secret not in "".join(traceback.format_exception(refused.value))


def test_an_empty_variable_is_one_that_is_not_set(environment: pytest.MonkeyPatch) -> None:
    for name in ("API_TOKENS", "INTERNAL_API_TOKEN", "MAX_BODY_BYTES", "LOGIC_CONFIG_PATH", "DOCS_ENABLED"):
        environment.setenv(name, "")

    settings = read_settings()

    assert settings.api_tokens == ()
    assert settings.max_body_bytes == 16 * 2**20
    assert settings.logic_config_path == Path("configs/logic.yaml")


def test_an_empty_environment_stops_the_start(environment: pytest.MonkeyPatch) -> None:
    """K2: it was development, in which weak settings pass; most likely the deployment has lost it."""
    environment.setenv("ENVIRONMENT", "")

    with pytest.raises(InvalidConfig, match="ENVIRONMENT is empty: write development or production"):
        read_settings()


@pytest.mark.parametrize(("written", "read"), [("false", False), ("0", False), ("no", False), ("true", True)])
def test_a_switch_is_read_as_people_write_it(
    environment: pytest.MonkeyPatch, written: str, read: bool
) -> None:
    environment.setenv("DOCS_ENABLED", written)

    assert read_settings().docs_enabled is read


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_address_is_named(environment: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    environment.delenv(name)
    if value is not None:
        environment.setenv(name, value)

    with pytest.raises(InvalidConfig, match=f"^environment: {name}: .*required"):
        read_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_TOKENS", "canary"),
        ("API_TOKENS", "gifty:"),
        ("API_TOKENS", ":canary"),
        ("API_TOKENS", "gifty:canary,canary"),
        ("MAX_BODY_BYTES", "canary"),
        ("MAX_BODY_BYTES", "1023"),
        ("DB_POOL_SIZE", "0"),
        ("DB_POOL_SIZE", "101"),
        ("FACADE_THREADS", "15"),
        ("MAINTAIN_PERIOD_SECONDS", "0"),
        ("MAINTAIN_PERIOD_SECONDS", "11"),
        ("MAINTAIN_PERIOD_SECONDS", "nan"),
        ("DOCS_ENABLED", "canary"),
        ("PROMETHEUS_MULTIPROC_DIR", "/canary/missing"),
    ],
)
def test_a_bad_variable_is_named_and_no_value_is_shown_even_in_a_traceback(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)

    with pytest.raises(InvalidConfig) as caught:
        read_settings()

    assert caught.value.message.startswith(f"environment: {name}: ")
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_all_bad_variables_are_named_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("DATABASE_URL")
    environment.setenv("DB_POOL_SIZE", "many")

    with pytest.raises(InvalidConfig) as caught:
        read_settings()

    assert "DATABASE_URL: " in caught.value.message
    assert "DB_POOL_SIZE: " in caught.value.message


def test_no_secret_is_shown_when_settings_are_printed(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("API_TOKENS", "gifty:canary")
    environment.setenv("INTERNAL_API_TOKEN", "canary")

    settings = read_settings()

    assert "canary" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_settings_do_not_change_after_the_start() -> None:
    settings = read_settings()

    with pytest.raises(ValueError, match="frozen"):
        settings.db_pool_size = 9  # type: ignore[misc]


def test_a_process_that_only_speaks_to_the_broker_needs_no_database(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("DATABASE_URL")

    assert read_broker_settings().redis_url.get_secret_value() == LEAST["REDIS_URL"]


def test_a_process_that_only_reads_logic_needs_no_address_at_all(environment: pytest.MonkeyPatch) -> None:
    for name in LEAST:
        environment.delenv(name)
    environment.setenv("LOGIC_CONFIG_PATH", "/etc/gifty/logic.yaml")

    assert read_logic_settings().logic_config_path == Path("/etc/gifty/logic.yaml")


@pytest.mark.parametrize("variable", ["REDIS_URL", "CACHE_REDIS_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "redis://:kanarejka/kanarejka@h/0",
        "redis://:kanarejka#1@h/0",
        "redis://:kanarejka@h:63x9/0",
        "redis://[kanarejka/0",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_and_not_quoted(
    environment: pytest.MonkeyPatch, variable: str, url: str
) -> None:
    environment.setenv(variable, url)

    with pytest.raises(InvalidConfig, match=variable) as refused:
        read_settings()

    assert "kanarejka" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    "url", ["unix://:word@/run/valkey.sock?db=1", "rediss://u:w%2Fw@h:6379/1", "redis://h"]
)
def test_an_address_that_can_be_read_is_taken(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("REDIS_URL", url)

    assert read_settings().redis_url.get_secret_value() == url
