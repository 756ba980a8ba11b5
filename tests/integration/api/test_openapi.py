"""The served OpenAPI document against what the high-priority paths really answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from flask.testing import FlaskClient

from api import create_app
from gifty_compute.core import Core
from tests.fakes.fault import Fault
from tests.fakes.server import FakeProviders
from tests.integration.conftest import API

BODIES: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": ["чай", "мяч"]},
    "/v1/rerank": {"query": "чай", "documents": ["мёд", "кружка"], "return_documents": True},
    "/v1/classify/categories": {
        "external_names": ["Удочки"],
        "internal_categories": [{"id": 7, "name": "Рыбалка"}],
    },
    "/v1/products/score": {"title": "Удочка"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Что подарить?"}]},
}
LOW = {path: {k: v for k, v in body.items() if k != "return_documents"} for path, body in BODIES.items()}


@pytest.fixture
def client(core_with: Callable[..., Core]) -> FlaskClient:
    return create_app(core_with("llm: {embedding_provider: openrouter}")).test_client()


def refuse_undocumented(client: FlaskClient, path: str, answer: Any) -> None:
    """Fails unless status, headers and body of the answer are as the document has them."""
    document = client.get("/openapi.json").json
    described = document["paths"][path]["post"]["responses"][str(answer.status_code)]
    content = described["content"][answer.mimetype]
    jsonschema.validate(
        answer.json,
        {**content["schema"], "components": document["components"]},
        jsonschema.Draft202012Validator,
    )
    said = set(described["headers"])
    given = {name for name in dict(answer.headers) if name.startswith("X-") or name == "Server-Timing"}
    # A refusal names the version only when one had been chosen.
    assert given - {"X-Gifty-Config"} <= said <= given | {"Retry-After"}


@pytest.mark.parametrize("path", BODIES)
def test_an_answer_is_as_documented(client: FlaskClient, path: str) -> None:
    answer = client.post(path, json=BODIES[path], headers=API)

    assert answer.status_code == 200, answer.json
    refuse_undocumented(client, path, answer)


def test_an_answer_in_base64_is_as_documented(client: FlaskClient) -> None:
    body = {**BODIES["/v1/embeddings"], "encoding_format": "base64"}

    refuse_undocumented(client, "/v1/embeddings", client.post("/v1/embeddings", json=body, headers=API))


@pytest.mark.parametrize("path", BODIES)
def test_a_task_and_its_repetition_are_as_documented(client: FlaskClient, path: str) -> None:
    body, keyed = {**LOW[path], "priority": "low"}, {**API, "Idempotency-Key": path}

    first, again = (client.post(path, json=body, headers=keyed) for _ in range(2))

    assert (first.status_code, again.status_code) == (202, 200)
    document = client.get("/openapi.json").json
    for answer in (first, again):
        described = document["paths"][path]["post"]["responses"][str(answer.status_code)]
        schema = described["content"]["application/json"]["schema"]
        jsonschema.validate(
            answer.json, {**schema, "components": document["components"]}, jsonschema.Draft202012Validator
        )


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(("fault", "status"), [(Fault.ERROR, 502), (Fault.RATE_LIMITED_WAIT, 429)])
def test_a_failure_is_as_documented_and_names_the_version_it_went_by(
    client: FlaskClient, fake: FakeProviders, path: str, fault: Fault, status: int
) -> None:
    for provider in ("openrouter", "intelligence_api", "runpod", "anthropic"):
        fake.fault(provider, fault)

    answer = client.post(path, json={**BODIES[path], "timeout_ms": 5000}, headers=API)

    assert answer.status_code == status, answer.json
    assert answer.headers["X-Gifty-Config"]
    assert ("Retry-After" in answer.headers) == (status == 429)
    refuse_undocumented(client, path, answer)


@pytest.mark.parametrize("path", BODIES)
def test_a_refused_body_and_a_missing_token_are_as_documented(client: FlaskClient, path: str) -> None:
    for answer in (client.post(path, json={}, headers=API), client.post(path, json=BODIES[path])):
        assert answer.status_code in (401, 422)
        refuse_undocumented(client, path, answer)


@pytest.mark.parametrize("path", BODIES)
def test_both_headers_for_a_token_are_documented_and_work(client: FlaskClient, path: str) -> None:
    document = client.get("/openapi.json").json
    security = document["paths"][path]["post"]["security"]

    answer = client.post(path, json=BODIES[path], headers={"X-Internal-Token": "api-token"})

    assert answer.status_code == 200
    schemes = document["components"]["securitySchemes"]
    assert [schemes[name].get("name", "Authorization") for one in security for name in one] == [
        "Authorization",
        "X-Internal-Token",
    ]
