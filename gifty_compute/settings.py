"""What is fixed when a process starts: the environment, read once into one frozen value."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import DirectoryPath, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gifty_compute.errors import InvalidConfig

__all__ = [
    "FACADE_THREADS",
    "BridgeSettings",
    "BrokerSettings",
    "LogicSettings",
    "ServingSettings",
    "Settings",
    "read_bridge_settings",
    "read_broker_settings",
    "read_logic_settings",
    "read_serving_settings",
    "read_settings",
]

Tokens = Annotated[tuple[tuple[str, SecretStr], ...], NoDecode]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode]
OPS_ROLES = ("viewer", "operator")
FACADE_THREADS = 640
"""Threads of a facade process unless the variable of this name says otherwise; made on demand."""


class BrokerSettings(BaseSettings):
    """What Flower and beat need: where the broker is, and nothing of the database."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    redis_url: SecretStr = Field(description="Redis or Valkey, e.g. redis://:password@host:6379/0")
    environment: Literal["development", "production"] = Field(
        default="development", description="production: weak settings stop the start"
    )

    @field_validator("redis_url", "cache_redis_url", check_fields=False)
    @classmethod
    def _redis(cls, value: SecretStr | None) -> SecretStr | None:
        """Those who dial it would quote what they take for a port, which may be half of a password."""
        if value is not None and not _has_port_or_none(value.get_secret_value()):
            raise ValueError("write redis://:password@host:6379/0; / : @ # ? in a password are %-encoded")
        return value


class LogicSettings(BaseSettings):
    """Where logic.yaml is, and what of it the environment overrides."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    logic_config_path: Path = Path("configs/logic.yaml")
    llm_provider: str | None = Field(default=None, description="Overrides llm.default_provider")
    embedding_model: str | None = Field(default=None, description="Overrides llm.model_embedding")
    anthropic_model_fast: str | None = Field(default=None, description="Overrides llm.model_fast")
    anthropic_model_smart: str | None = Field(default=None, description="Overrides llm.model_smart")

    @property
    def llm_overrides(self) -> dict[str, str]:
        """The keys of logic.yaml's `llm` that the environment decides, as in Gifty's backend."""
        decided = {
            "default_provider": self.llm_provider,
            "model_embedding": self.embedding_model,
            "model_fast": self.anthropic_model_fast,
            "model_smart": self.anthropic_model_smart,
        }
        return {key: value for key, value in decided.items() if value is not None}


class BridgeSettings(BaseSettings):
    """Where a Celery worker finds the facade if it does its work over HTTP; both are needed for that."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    gifty_compute_url: str = ""
    gifty_worker_token: SecretStr = SecretStr("")

    @property
    def is_given(self) -> bool:
        """Whether the worker works over HTTP; else it needs DATABASE_URL."""
        return bool(self.gifty_compute_url and self.gifty_worker_token.get_secret_value())


class ServingSettings(BaseSettings):
    """What a Celery worker does: the tasks of these models and functions; it consumes their queues alone."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    gifty_worker_models: str | None = Field(default=None, description="Names of models, comma separated")
    gifty_worker_handlers: str = Field(default="", description="type=module:function, comma separated")

    @property
    def models(self) -> tuple[str, ...]:
        """The names; the packaged model where neither models nor functions are named."""
        if self.gifty_worker_models is None:
            return () if self.handlers else ("multilingual-e5-small",)
        return _listed(self.gifty_worker_models)

    @property
    def handlers(self) -> tuple[str, ...]:
        """Functions with the declared task types that they do."""
        return _listed(self.gifty_worker_handlers)


class Settings(BrokerSettings, LogicSettings):
    """Each field is the environment variable of the same name in capitals; .env.example lists them."""

    database_url: SecretStr = Field(description="PostgreSQL, e.g. postgresql://user:password@host/name")
    cache_redis_url: SecretStr | None = Field(
        default=None, description="A Redis for the cache alone, which may drop what is old; else REDIS_URL"
    )
    api_tokens: Tokens = Field(default=(), description="client:token, comma separated")
    internal_api_token: Tokens = Field(default=(), description="The workers' shared tokens, comma separated")
    ops_tokens: Tokens = Field(default=(), description="name:role:token, comma separated")
    prometheus_multiproc_dir: DirectoryPath | None = Field(
        default=None,
        description="Where the facade processes of one port add up their metrics; empty at start",
    )
    callback_secret: Secrets = Field(
        default=(), description="What callbacks are signed with, comma separated, the newest first"
    )
    docs_enabled: bool = Field(default=True, description="Whether /openapi.json and /docs are served")
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024)
    max_batch_bytes: int = Field(default=512 * 2**20, ge=1024, description="Of a batch, after inflating, too")
    db_pool_size: int = Field(default=8, ge=1, le=100)
    facade_threads: int = Field(
        default=FACADE_THREADS, ge=16, description="Threads of one facade process, at most"
    )
    maintain_period_seconds: float = Field(default=2.0, gt=0, le=10)

    @field_validator("api_tokens", mode="before")
    @classmethod
    def _clients(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [entry.partition(":") for entry in _listed(value)]
        if any(not client or not token for client, _, token in pairs):
            raise ValueError("write client:token, comma separated")
        return tuple((client, token) for client, _, token in pairs)

    @field_validator("ops_tokens", mode="before")
    @classmethod
    def _operators(cls, value: object) -> object:
        """Each token by the name `name:role`."""
        if not isinstance(value, str):
            return value
        entries = [entry.split(":", 2) for entry in _listed(value)]
        if any(len(entry) != 3 or entry[1] not in OPS_ROLES or not entry[2] for entry in entries):
            raise ValueError("write name:role:token, comma separated; the role is viewer or operator")
        return tuple((f"{name}:{role}", token) for name, role, token in entries)

    @field_validator("internal_api_token", mode="before")
    @classmethod
    def _shared(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(("shared", token) for token in _listed(value))

    @field_validator("callback_secret", mode="before")
    @classmethod
    def _webhook_secrets(cls, value: object) -> object:
        """As Standard Webhooks has them: whsec_ and 24 to 64 bytes in base64."""
        if not isinstance(value, str):
            return value
        secrets = _listed(value)
        if not all(_is_webhook_secret(secret) for secret in secrets):
            raise ValueError("write whsec_ and 24 to 64 random bytes in base64; several are comma separated")
        return secrets


def _listed(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(",") if word.strip())


def _has_port_or_none(url: str) -> bool:
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return True


def _is_webhook_secret(secret: str) -> bool:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return False
    return secret.startswith("whsec_") and 24 <= len(key) <= 64


def read_settings() -> Settings:
    """The settings of this process. Raises InvalidConfig naming the variable and the reason."""
    return _read(Settings)


def read_bridge_settings() -> BridgeSettings:
    """The same for a Celery worker that may work over HTTP."""
    return _read(BridgeSettings)


def read_serving_settings() -> ServingSettings:
    """The same for what a Celery worker serves."""
    return _read(ServingSettings)


def read_broker_settings() -> BrokerSettings:
    """The same for a process that only speaks to the broker."""
    return _read(BrokerSettings)


def read_logic_settings() -> LogicSettings:
    """The same for a process that only needs logic.yaml."""
    return _read(LogicSettings)


_S = TypeVar("_S", bound=BaseSettings)


def _read(kind: type[_S]) -> _S:
    if os.environ.get("ENVIRONMENT") == "":
        # Any other empty variable counts as one that is not set; here that would lift a guard.
        raise InvalidConfig("environment: ENVIRONMENT is empty: write development or production, or unset it")
    try:
        return kind()
    except ValidationError as error:
        reasons = "; ".join(
            f"{str(found['loc'][0]).upper()}: {found['msg']}"
            for found in error.errors(include_url=False, include_input=False)
        )
        raise InvalidConfig(f"environment: {reasons}") from error
