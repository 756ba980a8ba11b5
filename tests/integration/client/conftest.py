"""The facade on a port of this machine, with the fakes of all providers behind it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

from api import create_app
from gifty_compute.client.asynchronous import AsyncClient
from gifty_compute.client.sync import Client
from gifty_compute.core import Core
from tests.integration.client.blocking import Blocking

LOGIC = """
llm:
  default_provider: groq
  fallbacks: [anthropic]
  embedding_provider: intelligence_api
  model_fast: claude-x
classify: {internal_categories: [{id: 7, name: Рыбалка}]}
"""


@pytest.fixture
def core(core_with: Callable[..., Core]) -> Core:
    return core_with(LOGIC)


@contextlib.contextmanager
def served(app: Flask, port: int = 0) -> Iterator[int]:
    """The port of a facade."""
    server = make_server("127.0.0.1", port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def app(core: Core) -> Flask:
    return create_app(core)


@pytest.fixture
def service(app: Flask) -> Iterator[str]:
    """The address of a facade."""
    with served(app) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Client]]:
    """Makes clients of the one kind, then of the other; both are spoken to without `await`."""
    with contextlib.ExitStack() as stack:
        if request.param == "async":
            runner = stack.enter_context(asyncio.Runner())

        def make(base_url: str, token: str = "api-token", **more: Any) -> Any:
            if request.param == "async":
                return stack.enter_context(Blocking(runner, AsyncClient(base_url, token, **more)))
            return stack.enter_context(Client(base_url, token, **more))

        yield make


@pytest.fixture
def client(service: str, connect: Callable[..., Client]) -> Client:
    return connect(service, timeout=20)
