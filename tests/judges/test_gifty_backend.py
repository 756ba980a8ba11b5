"""Gifty's backend against the service as it is deployed: its calls, its table, its file, its loops.

Written from a description of what the backend of 2026-03 calls; none of its code is here.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import JSON, DateTime, Engine, String, Text, create_engine, func, select
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from gifty_compute import compat
from gifty_compute.compat import LLMFactory, Message, get_intelligence_client
from gifty_compute.embedded.postgres import Postgres
from gifty_compute.embedded.valkey import Valkey
from tests.conftest import ROOT, create_database
from tests.e2e.service import eventually
from tests.facade import RunningFacade, running_facade
from tests.fakes.server import FakeProviders
from tests.fakes.vectors import vector

GIFTY_DEVELOP = ROOT / "tests" / "fixtures" / "logic" / "gifty_develop.yaml"
WORKER = {"X-Internal-Token": "internal-token"}
BATCH = 32
OF_BEFORE = uuid.UUID(int=1)

pytestmark = pytest.mark.timeout(300)


class Base(DeclarativeBase):
    pass


class ComputeTask(Base):
    """The backend's model of the table: the twelve columns of the contract."""

    __tablename__ = "compute_tasks"

    id: Mapped[uuid.UUID] = mapped_column(UUID(as_uuid=True), primary_key=True, default=uuid.uuid4)
    task_type: Mapped[str] = mapped_column(String, index=True)
    priority: Mapped[str] = mapped_column(String, index=True, default="low")
    status: Mapped[str] = mapped_column(String, index=True, default="pending")
    payload: Mapped[Any] = mapped_column(JSON)
    result: Mapped[Any] = mapped_column(JSON, nullable=True)
    error: Mapped[str | None] = mapped_column(Text)
    worker_id: Mapped[str | None] = mapped_column(String)
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    completed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


@dataclass
class Product:
    """A row of the backend's products, as far as the embeddings job reads and writes it."""

    product_id: str
    content_text: str | None
    embedding: list[float] | None = None


@dataclass(frozen=True)
class Deployed:
    """The service, the backend's connection to its own database, and the vendors behind the service."""

    facade: RunningFacade
    engine: Engine
    fake: FakeProviders

    @property
    def url(self) -> str:
        return self.facade.url


@pytest.fixture(scope="module")
def deployed(
    postgres: Postgres, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """The backend's table with a row of before, then the service's migration, then the service."""
    dsn = create_database(postgres)
    engine = create_engine(dsn.replace("postgresql://", "postgresql+psycopg2://"))
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(ComputeTask(id=OF_BEFORE, task_type="embedding", payload={"texts": ["старое"]}))
        session.commit()
    migrated = [sys.executable, "-m", "gifty_compute.commands", "migrate"]
    shell = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    subprocess.run(migrated, check=True, cwd=ROOT, env={**shell, "DATABASE_URL": dsn}, timeout=100)
    with FakeProviders() as fake, pytest.MonkeyPatch.context() as patch:
        environ = {
            **fake.environ("intelligence_api", "groq"),
            "DATABASE_URL": dsn,
            "REDIS_URL": valkey.url,
            "LOGIC_CONFIG_PATH": str(GIFTY_DEVELOP),
            "MAINTAIN_PERIOD_SECONDS": "0.5",
        }
        with running_facade(tmp_path_factory.mktemp("facade"), environ) as facade:
            patch.setenv("GIFTY_COMPUTE_URL", facade.url)
            patch.setenv("GIFTY_COMPUTE_TOKEN", "api-token")
            patch.setattr(compat, "_process", compat._Process())
            yield Deployed(facade, engine, fake)
    engine.dispose()


def stored(deployed: Deployed, task_id: uuid.UUID) -> ComputeTask:
    with Session(deployed.engine, expire_on_commit=False) as session:
        return session.scalars(select(ComputeTask).where(ComputeTask.id == task_id)).one()


def insert(deployed: Deployed, **fields: Any) -> uuid.UUID:
    with Session(deployed.engine) as session:
        row = ComputeTask(**fields)
        session.add(row)
        session.commit()
        return row.id


# -- the calls that stay HTTP --------------------------------------------------------------------------------


def test_the_client_of_the_intelligence_api_needs_another_address_alone(deployed: Deployed) -> None:
    async def go() -> tuple[Any, Any]:
        headers = {"Authorization": "Bearer api-token"}
        async with httpx.AsyncClient(base_url=deployed.url, headers=headers, timeout=30) as client:
            embedded = await client.post("/v1/embeddings", json={"input": ["чай", "мёд"], "model": "bge-m3"})
            ranked = await client.post(
                "/v1/rerank", json={"query": "к чаю", "documents": ["мёд к чаю", "гвозди"]}
            )
            return embedded.raise_for_status().json(), ranked.raise_for_status().json()

    embedded, ranked = asyncio.run(go())

    vectors = [row["embedding"] for row in embedded["data"]]
    assert vectors[1] == pytest.approx(list(vector("bge-m3", "мёд")), abs=1e-6)
    assert ranked["scores"][0] > ranked["scores"][1]


def test_prometheus_scrapes_with_a_token_of_the_operators_and_not_without(deployed: Deployed) -> None:
    url = f"{deployed.url}/metrics"

    refused = requests.get(url, timeout=30)
    scraped = requests.get(url, headers={"Authorization": "Bearer ops-token"}, timeout=30)

    assert refused.status_code == 401
    assert {family.name for family in text_string_to_metric_families(scraped.text)} >= {"gifty_maintained"}


# -- over compat ---------------------------------------------------------------------------------------------


def test_the_embeddings_job_embeds_every_product_with_text_in_one_run(deployed: Deployed) -> None:
    """F3: batches of 32 with `content_text or ""`; an exception would end the job."""
    products = [Product(f"p{n}", None if n % 4 == 0 else f"товар {n}") for n in range(70)]

    async def job() -> None:
        client = get_intelligence_client()
        left = [product for product in products if product.embedding is None]
        for begin in range(0, len(left), BATCH):
            batch = left[begin : begin + BATCH]
            vectors: Any = await client.get_embeddings([product.content_text or "" for product in batch])
            for product, found in zip(batch, vectors, strict=True):
                product.embedding = found

    before = len(deployed.fake.calls("intelligence_api"))
    asyncio.run(job())

    assert [product.embedding is None for product in products] == [n % 4 == 0 for n in range(70)]
    assert products[69].embedding == pytest.approx(list(vector("bge-m3", "товар 69")), abs=1e-6)
    calls = deployed.fake.calls("intelligence_api")[before:]
    assert [len(call.body["input"]) for call in calls] == [24, 24, 4]


def test_a_recommendation_reranks_candidates_of_which_one_has_no_text(deployed: Deployed) -> None:
    """F3: a hypothesis without a title is an empty query, a product without text an empty document."""

    async def go() -> tuple[Any, Any]:
        client = get_intelligence_client()
        some = await client.rerank("подарок рыбаку", ["удочка рыбаку", "", "помада"])
        return some, await client.rerank("", ["удочка", "помада"])

    some, none = asyncio.run(go())

    assert some[1] is None
    assert some[0] > some[2]
    assert none == [None, None]


def test_every_user_of_the_experiment_gets_answers(deployed: Deployed) -> None:
    """F1 and F2: the file is the backend's own, and a hash of the session chooses the variant."""
    variants = (("openai/gpt-oss-20b", "openai/gpt-oss-120b"), ("gpt-4o-mini", "gpt-4o"))

    async def normalize_topics(session_id: str) -> str:
        fast, smart = variants[int(hashlib.sha256(session_id.encode()).hexdigest(), 16) % 2]
        client = LLMFactory.get_client("groq")
        for model in (fast, smart):
            answer = await client.generate_text(
                messages=[Message(role="user", content="Рыбалка и кофе")],
                model=model,
                system_prompt="Верни темы в JSON.",
                json_mode=True,
            )
            assert json.loads(answer.content) == {"ok": True}
            assert answer.usage["total_tokens"] == 14
        return fast

    before = len(deployed.fake.calls("groq"))
    chosen = {asyncio.run(normalize_topics(f"session-{n}")) for n in range(8)}

    assert chosen == {"openai/gpt-oss-20b", "gpt-4o-mini"}
    assert {call.body["model"] for call in deployed.fake.calls("groq")[before:]} == {
        "openai/gpt-oss-20b",
        "openai/gpt-oss-120b",
    }


@pytest.mark.parametrize(("model", "asked"), [("claude-haiku-4-5", "20b"), ("claude-opus-4-6", "120b")])
@pytest.mark.parametrize("provider", [None, "groq"])
def test_the_ids_of_the_settings_are_answered_whatever_the_provider(
    deployed: Deployed, provider: str | None, model: str, asked: str
) -> None:
    """F2: LLM_PROVIDER is groq, and ANTHROPIC_MODEL_FAST still names a Claude."""
    messages = [Message(role="user", content="Что подарить?")]

    answer = asyncio.run(LLMFactory.get_client(provider).generate_text(messages=messages, model=model))

    assert answer.content == "Подарите удочку."
    assert deployed.fake.calls("groq")[-1].body["model"] == f"openai/gpt-oss-{asked}"


# -- the table -----------------------------------------------------------------------------------------------


def test_rows_by_orm_are_done_by_the_notebook_and_read_by_orm(deployed: Deployed) -> None:
    new = insert(deployed, task_type="embedding", payload={"texts": ["чай", "мёд"]})
    bad = insert(deployed, task_type="embedding", payload={"texts": ["чай", "", "мёд", ""]})
    eventually(lambda: stored(deployed, bad).status == "failed", within=60, what="the rows are placed")

    done: list[str] = []
    while len(done) < 2:
        query = {"worker_id": "kaggle-1", "task_type": "embedding", "limit": "10"}
        tasks = requests.get(
            f"{deployed.url}/internal/workers/tasks", query, headers=WORKER, timeout=30
        ).json()
        for task in tasks["tasks"]:
            vectors = [vector("bge-m3", text).tolist() for text in task["payload"]["texts"]]
            body = {"status": "completed", "result": {"embeddings": vectors}, "error": None}
            path = f"/internal/workers/tasks/{task['id']}/result"
            requests.post(deployed.url + path, json=body, headers=WORKER, timeout=30).raise_for_status()
            done.append(task["id"])

    assert set(done) == {str(new), str(OF_BEFORE)}
    row = stored(deployed, new)
    assert (row.status, row.worker_id, row.error) == ("completed", "kaggle-1", None)
    assert row.completed_at is not None
    assert "payload.texts.1, payload.texts.3: text is empty" in str(stored(deployed, bad).error)
    answer = requests.get(
        f"{deployed.url}/v1/tasks/{new}", headers={"Authorization": "Bearer api-token"}, timeout=30
    ).json()
    assert answer["result"]["embeddings"][1] == pytest.approx(list(vector("bge-m3", "мёд")), abs=1e-6)


def test_a_row_that_the_backends_old_route_claimed_is_not_lost(deployed: Deployed) -> None:
    """F4b: the old route is still mounted, and writes only what its model has."""
    task_id = insert(deployed, task_type="embedding", payload={"texts": ["чай"]})
    with Session(deployed.engine) as session:
        row = session.scalars(select(ComputeTask).where(ComputeTask.id == task_id).with_for_update()).one()
        row.status, row.worker_id, row.started_at = "processing", "kaggle-old", func.now()
        session.commit()

    api = {"Authorization": "Bearer api-token"}
    path = f"{deployed.url}/v1/tasks/{task_id}"
    eventually(
        lambda: requests.get(path, headers=api, timeout=30).json()["lease_expires_at"],
        within=60,
        what="the row has a lease",
    )
    assert stored(deployed, task_id).worker_id == "kaggle-old"


# -- the notebooks -------------------------------------------------------------------------------------------


def submit(deployed: Deployed, task_type: str, payload: Any) -> str:
    answer = requests.post(
        f"{deployed.url}/v1/tasks",
        json={"task_type": task_type, "payload": payload},
        headers={"Authorization": "Bearer api-token"},
        timeout=30,
    )
    answer.raise_for_status()
    return str(answer.json()["id"])


def result_of(deployed: Deployed, task_id: str) -> Any:
    headers = {"Authorization": "Bearer api-token"}
    return requests.get(f"{deployed.url}/v1/tasks/{task_id}", headers=headers, timeout=30).json()["result"]


def product_scorer(base: str, score: float) -> requests.Response:
    """One round of the published notebook: the list, a score for each, the submit; paths appended to BASE."""
    fetched = requests.get(f"{base}/internal/scoring/tasks?limit=10", headers=WORKER, timeout=30)
    if fetched.status_code != 200:
        return fetched
    model = {"llm_scoring_model": "Qwen/Qwen2-VL-7B-Instruct", "llm_scoring_version": "v3.0"}
    results = [
        {
            "gift_id": gift["gift_id"],
            "llm_gift_score": score,
            "llm_gift_reasoning": "Тёплый подарок.",
            **model,
        }
        for gift in fetched.json()
    ]
    return requests.post(
        f"{base}/internal/scoring/submit", json={"results": results}, headers=WORKER, timeout=30
    )


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_two_scorers_of_two_scales_share_a_service(deployed: Deployed, prefix: str) -> None:
    """F6: by the address alone, and one that states none is told before it computes."""
    ids = [submit(deployed, "score", {"products": [{"id": f"p{n}", "title": "Плед"}]}) for n in range(2)]

    untold = product_scorer(deployed.url + prefix, 0.8)
    told = product_scorer(f"{deployed.url}/scale/0-1{prefix}", 0.8)
    third = submit(deployed, "score", {"products": [{"id": "p9", "title": "Чай"}]})
    other = product_scorer(f"{deployed.url}/scale/0-10{prefix}", 8.0)

    assert untold.status_code == 422
    assert "scale" in untold.json()["detail"]
    assert (told.json(), other.json()) == ({"status": "ok", "updated": 2}, {"status": "ok", "updated": 1})
    scores = [result_of(deployed, one)["scores"][0]["gift_score"] for one in (*ids, third)]
    assert scores == [8.0, 8.0, 8.0]


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_the_category_matcher_goes_on_with_another_address(deployed: Deployed, prefix: str) -> None:
    tree = [{"id": 1, "name": "Кухня"}, {"id": 2, "name": "Дом"}]
    names = ["Кофемолки", "Пледы", "Разное"]
    task_id = submit(deployed, "classify", {"external_names": names, "internal_categories": tree})
    base = f"{deployed.url}{prefix}/internal/categories"

    found = requests.get(f"{base}/tasks?limit=50", headers=WORKER, timeout=30).json()
    chosen = {"Кофемолки": 1, "Пледы": 2}
    results = [
        {"external_name": one["external_name"], "internal_category_id": chosen.get(one["external_name"])}
        for one in found
    ]
    answer = requests.post(f"{base}/submit", json={"results": results}, headers=WORKER, timeout=30)

    assert [one["external_name"] for one in found] == names
    assert answer.json() == {"status": "ok", "updated": 3}
    assert [row["internal_category_id"] for row in result_of(deployed, task_id)["mappings"]] == [1, 2, None]


# -- what the backend asked of RunPod and Together itself ----------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model", "path"),
    [
        ("runpod", "bge-m3", "/runsync"),
        ("together", "multilingual-e5-large-instruct", "/embeddings"),
    ],
)
def test_runpod_and_together_are_asked_as_the_backend_asked_them(
    empty_database_url: str, valkey: Valkey, tmp_path: Path, provider: str, model: str, path: str
) -> None:
    logic = tmp_path / "logic.yaml"
    logic.write_text(f"embedding: {{providers: [{provider}], model: {model}, timeout_ms: 20000}}\n")
    with FakeProviders() as fake:
        environ = {
            **fake.environ(provider),
            "RUNPOD_ENDPOINT_ID": "endpoint",
            "DATABASE_URL": empty_database_url,
            "REDIS_URL": valkey.url,
            "LOGIC_CONFIG_PATH": str(logic),
        }
        with running_facade(tmp_path, environ) as facade:
            answer = requests.post(
                f"{facade.url}/v1/embeddings",
                json={"input": ["чай", "мёд"]},
                headers={"Authorization": "Bearer api-token"},
                timeout=60,
            )

        assert answer.status_code == 200, answer.text
        assert [row["index"] for row in answer.json()["data"]] == [0, 1]
        [call] = fake.calls(provider)
        assert path in call.path
        texts = call.body["input"]["texts"] if provider == "runpod" else call.body["input"]
        assert [text.rpartition(": ")[2] for text in texts] == ["чай", "мёд"]
