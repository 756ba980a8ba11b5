"""The facade as it is deployed, under many requests at once: quick and slow work, clients, workers."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from gifty_compute.embedded.valkey import Valkey
from tests.conftest import LOCAL_LOGIC
from tests.e2e.service import eventually
from tests.facade import RunningFacade, running_facade
from tests.fakes.fault import Fault
from tests.fakes.server import FakeProviders
from tests.integration.conftest import OPS, WORKER

# The model of the tests is as slow as the machine is busy; what is tested here is not its speed.
EMBED = {"input": "чай", "timeout_ms": 60_000}
CHAT = {"messages": [{"role": "user", "content": "Привет"}]}
LOGIC = LOCAL_LOGIC.read_text(encoding="utf-8").replace("llm:", "llm:\n  default_provider: groq")
TWO_CLIENTS = {"API_TOKENS": "backend:api-token,shop:shop-token"}

Start = Callable[..., RunningFacade]


@pytest.fixture
def facade(
    database_url: str, valkey: Valkey, fake: FakeProviders, tmp_path: Path
) -> Iterator[Callable[..., Any]]:
    """Starts the facade, with the environment's defaults but for these variables."""
    (tmp_path / "logic.yaml").write_text(LOGIC, encoding="utf-8")

    @contextmanager
    def start(**environ: str) -> Iterator[RunningFacade]:
        stores = {"DATABASE_URL": database_url, "REDIS_URL": valkey.url}
        logic = {"LOGIC_CONFIG_PATH": str(tmp_path / "logic.yaml")}
        with running_facade(tmp_path, {**stores, **logic, **fake.environ("groq"), **environ}) as running:
            yield running

    return start


class Call:
    """A request on a connection of its own, sent when it is made; its answer is read later."""

    def __init__(self, facade: RunningFacade, path: str, body: Any, token: str = "api-token") -> None:
        raw = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        self._socket = socket.create_connection(("127.0.0.1", facade.port), timeout=90)
        self._socket.sendall(head.encode() + raw)

    def answer(self) -> tuple[int, str]:
        """The status and the whole answer."""
        with self._socket:
            pieces = list(iter(lambda: self._socket.recv(65_536), b""))
        text = b"".join(pieces).decode()
        return int(text.split()[1]), text


def statuses(calls: list[Call]) -> Counter[int]:
    return Counter(call.answer()[0] for call in calls)


def test_120_callers_at_once_with_one_short_text_each_are_all_answered(facade: Any) -> None:
    """P26: 63 of them were 503 within milliseconds."""
    with facade() as running:
        found = statuses([Call(running, "/v1/embeddings", EMBED) for _ in range(120)])

    assert found == {200: 120}


def test_while_200_chats_are_under_way_embeddings_reranks_and_workers_are_answered(
    facade: Any, fake: FakeProviders
) -> None:
    """K8: 57 slow chats made every embedding of the process a 503."""
    fake.fault("groq", Fault.HELD)
    rerank = {"query": "чай", "documents": ["мёд", "удочка"], "timeout_ms": 60_000}
    with facade() as running:
        chats = [Call(running, "/v1/chat/completions", CHAT) for _ in range(200)]
        eventually(lambda: len(fake.calls("groq")) == 200, within=60, what="all chats are asked for")

        quick = [Call(running, "/v1/embeddings", EMBED) for _ in range(20)]
        quick += [Call(running, "/v1/rerank", rerank) for _ in range(20)]
        found = statuses(quick)
        claimed = requests.get(
            f"{running.url}/internal/workers/tasks?worker_id=w", headers=WORKER, timeout=60
        ).status_code
        fake.released.set()
        chatted = statuses(chats)

    assert (found, claimed, chatted) == ({200: 40}, 200, {200: 200})


def test_one_client_cannot_take_all_places_and_the_other_is_served(facade: Any, fake: FakeProviders) -> None:
    """K8: one client's streams and chats against another's."""
    fake.fault("groq", Fault.HELD)
    with facade(FACADE_THREADS="64", **TWO_CLIENTS) as running:
        mine = [Call(running, "/v1/chat/completions", CHAT) for _ in range(15)]
        eventually(lambda: len(fake.calls("groq")) == 15, within=60, what="one client has its share")
        beyond = Call(running, "/v1/chat/completions", {**CHAT, "timeout_ms": 300})
        status, told = beyond.answer()
        others = Call(running, "/v1/chat/completions", CHAT, "shop-token")
        eventually(lambda: len(fake.calls("groq")) == 16, within=60, what="the other client is served")
        fake.released.set()
        found = statuses([*mine, others])

    assert status == 503
    assert "retry-after: 1\r\n" in told.lower()
    assert "15 of 20 places are taken" in told
    assert "this client holds 15 places and may hold 15" in told
    assert found == {200: 16}


def test_a_request_without_a_place_is_served_as_soon_as_one_is_left(facade: Any, fake: FakeProviders) -> None:
    fake.fault("groq", Fault.HELD)
    with facade(FACADE_THREADS="64") as running:
        taken = [Call(running, "/v1/chat/completions", CHAT) for _ in range(20)]
        eventually(lambda: len(fake.calls("groq")) == 20, within=60, what="all places are taken")
        waiting = Call(running, "/v1/chat/completions", CHAT)
        eventually(
            lambda: places(running, "slow") == {"all": 20, "taken": 20, "waiting": 1},
            within=60,
            what="one more waits",
        )
        beyond, _ = Call(running, "/v1/chat/completions", CHAT).answer()
        fake.released.set()
        found = statuses([*taken, waiting])
        eventually(lambda: places(running, "slow")["taken"] == 0, within=60, what="all places are free")

    assert beyond == 503
    assert found == {200: 21}


def places(facade: RunningFacade, kind: str) -> dict[str, int]:
    """What /metrics says of these places."""
    text = requests.get(f"{facade.url}/metrics", headers=OPS, timeout=60).text
    head = f'gifty_places{{kind="{kind}",state="'
    lines = [line.removeprefix(head) for line in text.splitlines() if line.startswith(head)]
    return {line.partition('"')[0]: int(float(line.split()[1])) for line in lines}
