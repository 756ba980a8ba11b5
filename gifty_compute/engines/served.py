"""A language model behind an OpenAI-compatible server, such as vLLM or llama.cpp, at a URL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import urllib3

from gifty_compute.engines.llm import Answer
from gifty_compute.errors import EngineError, InvalidResult
from gifty_compute.logic.recipe import Recipe
from gifty_compute.redaction import place, redacted, texts_in
from gifty_compute.wire import words
from gifty_compute.wire.finish import read_finish

__all__ = ["ServedChat", "open_chat"]

# The server makes batches of what comes at once.
_AT_ONCE = 32
_PASS_TOKENS = 2**20
_CHARACTERS_A_TOKEN = 3
_TIMEOUT = urllib3.Timeout(connect=5, read=600)
_PASSED_ON = ("temperature", "max_tokens")


def open_chat(recipe: Recipe) -> ServedChat:
    """Raises EngineError for a server that is not there, or does not serve the recipe's model."""
    assert recipe.url is not None, "whoever opens it has looked"
    chat = ServedChat(recipe.url, recipe.source or recipe.model)
    served = chat.served()
    if chat.model_id not in served:
        known = ", ".join(served) or "nothing"
        raise EngineError(f"{place(recipe.url)} serves {known}, and not {chat.model_id}")
    return chat


class ServedChat:
    """Calls of one pass go out together; this process waits for them."""

    pass_tokens = _PASS_TOKENS

    def __init__(self, url: str, model_id: str) -> None:
        self._url, self.model_id = url.rstrip("/"), model_id
        self._place = place(self._url)
        self._pool = urllib3.PoolManager(maxsize=_AT_ONCE, retries=False, timeout=_TIMEOUT)

    def served(self) -> list[str]:
        """The ids of the models there. Raises EngineError."""
        listed = self._ask("GET", "/models", None).get("data")
        rows = listed if isinstance(listed, list) else []
        return [str(row.get("id")) for row in rows if isinstance(row, dict)]

    def tokens(self, payload: dict[str, Any]) -> int:
        """A guess: only the server has the tokenizer."""
        read = sum(len(turn["content"]) for turn in payload["messages"])
        return read // _CHARACTERS_A_TOKEN + int(payload["max_tokens"])

    def answers(self, payloads: Sequence[dict[str, Any]]) -> list[Answer]:
        with ThreadPoolExecutor(min(_AT_ONCE, len(payloads)), thread_name_prefix="served") as threads:
            return list(threads.map(self._answer, payloads))

    def _answer(self, payload: dict[str, Any]) -> Answer:
        body = {"model": self.model_id, "messages": payload["messages"]}
        body |= {name: payload[name] for name in _PASSED_ON if payload.get(name) is not None}
        if payload.get("stops"):
            body["stop"] = payload["stops"]
        if payload.get("json_schema"):
            named = {"name": "answer", "schema": payload["json_schema"]}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        elif payload.get("json_mode"):
            body["response_format"] = {"type": "json_object"}
        return self._read(self._ask("POST", "/chat/completions", body))

    def _read(self, body: dict[str, Any]) -> Answer:
        try:
            choice, usage = body["choices"][0], body["usage"]
            return Answer(
                str(choice["message"]["content"] or ""),
                read_finish(choice.get("finish_reason")),
                int(usage["prompt_tokens"]),
                int(usage["completion_tokens"]),
            )
        except InvalidResult as error:
            raise EngineError(f"{self._place}: {error}") from error
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise EngineError(f"{self._place} answered no chat completion") from error

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        try:
            response = self._pool.request(
                method,
                self._url + path,
                body=None if body is None else json.dumps(body).encode(),
                headers={"content-type": "application/json"},
            )
        except urllib3.exceptions.HTTPError as error:
            raise EngineError(f"{self._place} cannot be reached: {type(error).__name__}") from error
        if response.status != 200:
            said = _said(response.data)
            reason = redacted(said, payload=texts_in(body), keep=[self.model_id]) if said else None
            why = f": {reason}" if reason else ""
            raise EngineError(f"{self._place}{path} answered {response.status}{why}")
        try:
            answered = json.loads(response.data)
        except ValueError as error:
            raise EngineError(f"{self._place}{path} answered what is not JSON") from error
        return answered if isinstance(answered, dict) else {}


def _said(body: bytes) -> str | None:
    """What the server says of its error; it may quote the conversation."""
    try:
        return words.of_body(json.loads(body))
    except ValueError:
        return words.of_page(body)
