"""What the facade makes of Flask: answers whole, bodies read once, bounds kept."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from api import create_app
from gifty_compute.core import Core
from tests.integration.conftest import API

JSON = {**API, "Content-Type": "application/json"}


def test_an_answer_says_how_long_it_is_and_is_one_piece(client: FlaskClient) -> None:
    answer = client.get("/healthz", buffered=False)

    assert answer.headers["Content-Length"] == str(len(b'{"status":"ok"}'))
    assert list(answer.response) == [b'{"status":"ok"}']


def test_head_has_the_headers_and_no_body(client: FlaskClient) -> None:
    answer = client.head("/healthz")

    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(b'{"status":"ok"}'))


@pytest.mark.parametrize("length", ["-5", "five", "+5", ""])
def test_a_length_that_is_none_is_no_reason_to_read_on(client: FlaskClient, length: str) -> None:
    answer = client.post(
        "/v1/embeddings", data=b'{"input": "x"}', headers=JSON, environ_overrides={"CONTENT_LENGTH": length}
    )

    assert (answer.status_code, answer.json["error"]["code"]) == (400, "malformed_body")


def test_a_body_that_is_said_to_be_too_long_is_refused_unread(core: Core) -> None:
    class Unread:
        def read(self, size: int = -1) -> bytes:
            raise AssertionError("it was read")

    answer = (
        create_app(core)
        .test_client()
        .post(
            "/v1/embeddings",
            headers=JSON,
            environ_overrides={
                "CONTENT_LENGTH": str(core.settings.max_body_bytes + 1),
                "wsgi.input": Unread(),
            },
        )
    )

    assert (answer.status_code, answer.json["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize("host", ["127.0.0.1", "bad host", "[::1", "x" * 300])
def test_the_host_that_a_request_names_decides_nothing(client: FlaskClient, host: str) -> None:
    answer = client.get("/healthz", environ_overrides={"HTTP_HOST": host})

    assert answer.status_code == 200


def test_a_request_id_is_made_anew_for_each_request(client: FlaskClient) -> None:
    ids = {client.get("/healthz").headers["X-Request-Id"] for _ in range(5)}

    assert len(ids) == 5
    assert all(len(made) == 32 for made in ids)
