"""What a client may ask for: `clients` that name an unknown kind, model or provider are refused."""

from __future__ import annotations

from collections.abc import Callable

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.file import LogicFile

__all__ = ["refuse_unknown_rights"]


def refuse_unknown_rights(file: LogicFile, kinds: tuple[str, ...], is_model: Callable[[str], bool]) -> None:
    """Raises InvalidConfig for a kind, model or provider of a client that is not there.

    A typing error would bar a client from what the operator meant to allow.
    """
    for client, section in file.clients.named.items():
        for kind in section.kinds or ():
            if kind not in kinds and kind not in file.task_types:
                raise InvalidConfig(f"clients.{client}.kinds: there is no task type {kind!r}")
        for model in section.models or ():
            if not is_model(model) and model.partition("/")[0] not in file.providers:
                raise InvalidConfig(f"clients.{client}.models: there is no model {model!r}")
        for provider in section.providers or ():
            if provider not in file.providers:
                known = ", ".join(file.providers)
                raise InvalidConfig(f"clients.{client}.providers: there is no {provider!r}; known: {known}")
