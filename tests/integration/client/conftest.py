"""The facade on a port of this machine, with the fakes of all providers behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from werkzeug.serving import make_server

from api import create_app
from gifty_compute.client.sync import Client
from gifty_compute.core import Core

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


@pytest.fixture
def service(core: Core) -> Iterator[str]:
    """The address of a facade."""
    server = make_server("127.0.0.1", 0, create_app(core), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def client(service: str) -> Iterator[Client]:
    with Client(service, "api-token", timeout=20) as made:
        yield made
