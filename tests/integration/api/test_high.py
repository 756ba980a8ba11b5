"""The three high-priority paths on the packaged model, and the same bodies as tasks."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from celery import Celery
from flask.testing import FlaskClient

from api import create_app
from gifty_compute.core import Core, build
from gifty_compute.errors import Unavailable
from gifty_compute.settings import Settings
from tests.integration.conftest import API


def test_embeddings_answer_in_openais_shape_with_the_space(client: FlaskClient) -> None:
    answer = client.post("/v1/embeddings", json={"input": ["удочка", "чай"]}, headers=API)

    assert answer.status_code == 200
    body = answer.json
    assert body["object"] == "list"
    assert [item["index"] for item in body["data"]] == [0, 1]
    assert np.linalg.norm(body["data"][0]["embedding"]) == pytest.approx(1, abs=1e-3)
    assert body["model"] == "multilingual-e5-small"
    assert body["usage"]["prompt_tokens"] > 4
    assert answer.headers["X-Gifty-Space"] == "multilingual-e5-small-q4"
    assert answer.headers["X-Gifty-Provider"] == "local"
    assert answer.headers["X-Gifty-Attempts"] == "1"


def test_base64_holds_the_same_numbers(client: FlaskClient) -> None:
    as_lists = client.post("/v1/embeddings", json={"input": "чай"}, headers=API).json
    as_bytes = client.post(
        "/v1/embeddings", json={"input": "чай", "encoding_format": "base64"}, headers=API
    ).json

    decoded = np.frombuffer(base64.b64decode(as_bytes["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_array_equal(decoded, np.array(as_lists["data"][0]["embedding"], dtype=np.float32))


def test_a_query_and_a_passage_of_one_text_differ(client: FlaskClient) -> None:
    vectors = [
        client.post("/v1/embeddings", json={"input": "чай", "input_type": kind}, headers=API).json["data"][0]
        for kind in ("query", "passage")
    ]

    assert np.dot(vectors[0]["embedding"], vectors[1]["embedding"]) < 0.999


def test_rerank_finds_the_fishing_rod_for_the_fisherman(client: FlaskClient) -> None:
    documents = ["Набор кистей для акварели", "Спиннинг для рыбалки", "Чайник электрический"]

    answer = client.post(
        "/v1/rerank",
        json={"query": "подарок рыбаку", "documents": documents, "top_n": 2, "return_documents": True},
        headers=API,
    )

    body = answer.json
    assert body["results"][0]["document"] == "Спиннинг для рыбалки"
    assert len(body["results"]) == 2
    assert body["scores"][1] == body["results"][0]["relevance_score"] == max(body["scores"])
    assert body["kind"] == "bi-encoder"


def test_classification_answers_each_name_once_in_order(client: FlaskClient) -> None:
    categories = [{"id": 7, "name": "Рыбалка"}, {"id": "k", "name": "Кухня"}]
    names = ["Кастрюли и сковороды", "Удочки и спиннинги"]

    answer = client.post(
        "/v1/classify/categories",
        json={"external_names": names, "internal_categories": categories},
        headers=API,
    )

    mappings = answer.json["mappings"]
    assert [m["external_name"] for m in mappings] == names
    assert [m["internal_category_id"] for m in mappings] == ["k", 7]
    assert all(0 < m["confidence"] <= 1 for m in mappings)
    assert answer.json["kind"] == "bi-encoder"


def test_without_categories_the_configured_tree_is_used(client: FlaskClient) -> None:
    answer = client.post("/v1/classify/categories", json={"external_names": ["Кофе в зёрнах"]}, headers=API)

    assert answer.json["mappings"][0]["internal_category_id"] == 8


@pytest.mark.parametrize(
    ("path", "body", "payload"),
    [
        ("/v1/embeddings", {"input": "чай"}, {"texts": ["чай"]}),
        ("/v1/rerank", {"query": "q", "documents": ["d"]}, {"query": "q", "documents": ["d"]}),
        ("/v1/classify/categories", {"external_names": ["чай"]}, {"external_names": ["чай"]}),
    ],
)
def test_low_priority_turns_the_body_into_a_task(
    client: FlaskClient, path: str, body: dict[str, object], payload: dict[str, object]
) -> None:
    answer = client.post(path, json={**body, "priority": "low", "metadata": {"n": 1}}, headers=API)

    assert answer.status_code == 202
    task = answer.json
    assert payload.items() <= task["payload"].items()
    assert (task["status"], task["priority"], task["metadata"]) == ("pending", "low", {"n": 1})
    assert client.get(answer.headers["Location"], headers=API).json == task


@pytest.mark.parametrize(
    "fields", [{"priority": "low", "timeout_ms": 5}, {"metadata": {}}, {"callback_url": "https://a.example"}]
)
def test_a_field_of_the_other_priority_is_refused(client: FlaskClient, fields: dict[str, object]) -> None:
    answer = client.post("/v1/embeddings", json={"input": "чай", **fields}, headers=API)

    assert answer.status_code == 422
    assert answer.json["error"]["code"] == "wrong_priority"


def test_an_idempotency_key_goes_with_a_task_alone(client: FlaskClient) -> None:
    keyed = {**API, "Idempotency-Key": "order-1"}

    high = client.post("/v1/embeddings", json={"input": "чай"}, headers=keyed)
    low = client.post("/v1/embeddings", json={"input": "чай", "priority": "low"}, headers=keyed)
    again = client.post("/v1/embeddings", json={"input": "чай", "priority": "low"}, headers=keyed)

    assert (high.status_code, high.json["error"]["param"]) == (422, "Idempotency-Key")
    assert (low.status_code, again.status_code) == (202, 200)
    assert again.json == low.json


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"model": "nonesuch"}, "unknown_model"), ({"model": "bge-m3"}, "not_served")],
)
def test_a_model_that_nobody_serves_is_named(client: FlaskClient, fields: dict[str, str], code: str) -> None:
    answer = client.post("/v1/embeddings", json={"input": "чай", **fields}, headers=API)

    assert answer.status_code == 422
    assert (answer.json["error"]["code"], answer.json["error"]["param"]) == (code, "model")


def test_a_passed_deadline_is_504_and_no_vector(client: FlaskClient) -> None:
    body = {"input": ["длинный текст про рыбалку " * 40] * 64, "timeout_ms": 30}

    answer = client.post("/v1/embeddings", json=body, headers=API)

    assert answer.status_code == 504
    assert set(answer.json) == {"error"}


@pytest.mark.parametrize("count", [100, 300])
def test_many_short_texts_are_answered_without_a_timeout_of_their_own(
    client: FlaskClient, count: int
) -> None:
    """P27: 504 after two seconds; LangChain and `embedMany` of Vercel's `ai` send 300."""
    texts = [f"Чайник электрический 1.7 л, модель {number}" for number in range(count)]

    answer = client.post("/v1/embeddings", json={"input": texts}, headers=API)

    assert answer.status_code == 200, answer.json
    assert len(answer.json["data"]) == count


def test_a_passed_deadline_says_how_to_ask_for_more(client: FlaskClient) -> None:
    body = {"input": ["длинный текст про рыбалку " * 40] * 64, "timeout_ms": 30}

    error = client.post("/v1/embeddings", json=body, headers=API).json["error"]

    assert "the request had 0.03 s. timeout_ms may be up to 60000" in error["message"]


def test_a_timeout_over_the_maximum_is_refused_with_the_maximum(client: FlaskClient) -> None:
    answer = client.post("/v1/embeddings", json={"input": "чай", "timeout_ms": 60_001}, headers=API)

    assert (answer.status_code, answer.json["error"]["param"]) == (422, "timeout_ms")
    assert answer.headers["X-Gifty-Max-Timeout-Ms"] == "60000"


def test_production_logic_without_its_providers_says_not_served(settings: Settings, tmp_path: Path) -> None:
    logic = tmp_path / "logic.yaml"
    logic.write_text('llm:\n  default_provider: "anthropic"\n  embedding_provider: "runpod"\n')
    built: Core = build(
        settings.model_copy(update={"logic_config_path": logic}), Celery("test", set_as_current=False)
    )

    answer = create_app(built).test_client().post("/v1/embeddings", json={"input": "чай"}, headers=API)

    built.close()
    assert answer.status_code == 422
    assert answer.json["error"]["code"] == "not_served"
    assert "runpod" in answer.json["error"]["message"]


def test_a_caller_that_the_model_has_no_time_for_is_told_when_to_come_and_others_are_served(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K8: a refusal of the packaged model's opened its circuit, so all callers were refused."""
    client = create_app(core).test_client()
    embed = core.inference.submit

    def busy(*arguments: Any, **more: Any) -> Any:
        if more["patience"] < 5:
            raise Unavailable("the model is busy", retry_after=4)
        return embed(*arguments, **more)

    monkeypatch.setattr(core.inference, "submit", busy)

    hasty = [client.post("/v1/embeddings", json={"input": f"чай {n}"}, headers=API) for n in range(10)]
    patient = client.post("/v1/embeddings", json={"input": "чай", "timeout_ms": 60_000}, headers=API)

    assert {(answer.status_code, answer.headers["Retry-After"]) for answer in hasty} == {(503, "4")}
    assert patient.status_code == 200
