"""Gifty's older notebooks against the facade: loops as the published ones run them, over a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.serving import make_server

from api import create_app
from gifty_compute.core import Core
from gifty_compute.queue.sql import QUERIES
from gifty_compute.wire.score import AXES
from tests.integration.conftest import API, OPS, WORKER

GIFTS = [
    {"id": "p40", "title": "Кофемолка", "category": "Кухня", "merchant": "shop", "price": 2490.0},
    {"id": "p41", "title": "Плед", "image_url": "https://shop.example/p.jpg", "content_text": "Тёплый"},
]
TREE = [{"id": 1, "name": "Кухня"}, {"id": 2, "name": "Дом"}]
# What the published notebook of the ten axes sends as the vector: its model's whole answer.
MATRIX = {
    "reasoning": "Уютный подарок.",
    "scores": {**dict.fromkeys(AXES[:8], 0.5), "giftability_total": 0.8},
    "demographics": {"gender": "unisex", "age_min": 6, "age_max": 99},
}


class ScoringNotebook:
    """The calls of the published scorer: fetch a bare list, score each, post all that could be scored."""

    def __init__(self, base: str, score: Callable[[Any], dict[str, Any] | None], query: str = "") -> None:
        self._base, self._score, self._query = base, score, query
        self._headers = {"X-Internal-Token": WORKER["X-Internal-Token"]}

    def round(self, limit: int = 5) -> tuple[list[Any], Any]:
        claim = f"{self._base}/internal/scoring/tasks{self._query or '?'}&limit={limit}"
        fetched = requests.get(claim, headers=self._headers, timeout=30)
        gifts = fetched.json()
        if fetched.status_code != 200:
            return [], fetched
        results = []
        for gift in gifts:
            scored = self._score(gift)
            if scored is not None:
                model = {"llm_scoring_model": "Qwen/Qwen2-VL-7B-Instruct", "llm_scoring_version": "v3.0"}
                results.append({"gift_id": gift["gift_id"], **scored, **model})
        if not results:
            return gifts, None
        url = f"{self._base}/internal/scoring/submit{self._query}"
        return gifts, requests.post(url, json={"results": results}, headers=self._headers, timeout=30)


def scored(score: float, **more: Any) -> dict[str, Any]:
    return {"llm_gift_score": score, "llm_gift_reasoning": "Уютный подарок.", **more}


@pytest.fixture
def facade_url(client: FlaskClient) -> Iterator[str]:
    """The client's own application on a socket."""
    server = make_server("127.0.0.1", 0, client.application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def submit_score(client: FlaskClient) -> Callable[..., str]:
    def submit(*products: dict[str, Any]) -> str:
        body = {"task_type": "score", "payload": {"products": list(products)}}
        answer = client.post("/v1/tasks", json=body, headers=API)
        assert answer.status_code == 202, answer.json
        return str(answer.json["id"])

    return submit


def task(client: FlaskClient, task_id: str) -> Any:
    return client.get(f"/v1/tasks/{task_id}", headers=API).json


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_the_published_loop_of_the_ten_axes_scores_every_gift(
    client: FlaskClient, facade_url: str, submit_score: Any, prefix: str
) -> None:
    ids = [submit_score({**gift, "axes": True}) for gift in GIFTS]
    notebook = ScoringNotebook(
        facade_url + prefix, lambda gift: scored(0.8, llm_gift_vector=MATRIX), "?score_scale=0-1"
    )

    gifts, answer = notebook.round()

    assert gifts == [
        {
            "gift_id": gift["id"],
            **{
                name: gift.get(name)
                for name in ("title", "category", "merchant", "price", "image_url", "content_text")
            },
        }
        for gift in GIFTS
    ]
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "updated": 2})
    [score] = task(client, ids[0])["result"]["scores"]
    assert (score["id"], score["gift_score"], score["reasoning"]) == ("p40", 8.0, "Уютный подарок.")
    assert score["gift_vector"] == {
        **dict.fromkeys(AXES[:8], 0.5),
        "age_suitability": {"age_min": 6, "age_max": 99},
        "gender_bias": None,
    }
    assert task(client, ids[1])["result"]["model"] == "Qwen/Qwen2-VL-7B-Instruct"
    assert task(client, ids[1])["worker_id"] == "notebook-scoring"


def test_the_published_loop_of_one_number_scores_on_its_own_scale(
    client: FlaskClient, facade_url: str, submit_score: Any
) -> None:
    task_id = submit_score(GIFTS[0])

    _, answer = ScoringNotebook(facade_url, lambda gift: scored(7.5), "?score_scale=10").round()

    assert answer.json() == {"status": "ok", "updated": 1}
    assert task(client, task_id)["result"]["scores"][0]["gift_score"] == 7.5


@pytest.mark.parametrize(
    ("sent", "status"), [("7.5", 200), ("７", 422), ("ten", 422), (True, 422), (None, 422)]
)
def test_a_number_in_quotes_is_a_number_and_nothing_else_is(
    client: FlaskClient, facade_url: str, submit_score: Any, sent: Any, status: int
) -> None:
    submit_score(GIFTS[0])

    _, answer = ScoringNotebook(facade_url, lambda gift: scored(sent), "?score_scale=10").round()

    assert answer.status_code == status


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_a_scale_that_nothing_states_is_422_at_the_claim_before_anything_is_computed(
    client: FlaskClient, facade_url: str, submit_score: Any, prefix: str
) -> None:
    """F6: the notebook was told at the submit, after its GPU had worked, and its tasks stayed leased."""
    task_id = submit_score(GIFTS[0])
    computed: list[Any] = []

    def score(gift: Any) -> dict[str, Any]:
        computed.append(gift)
        return scored(0.8)

    _, answer = ScoringNotebook(facade_url + prefix, score).round()

    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "score_scale")
    assert "/scale/0-1" in answer.json()["detail"]
    assert computed == []
    assert (task(client, task_id)["status"], task(client, task_id)["attempt"]) == ("pending", 0)


def test_scores_of_a_scale_that_nothing_states_are_422_at_the_submit_too(
    client: FlaskClient, submit_score: Any
) -> None:
    task_id = submit_score(GIFTS[0])
    client.get("/internal/scoring/tasks?score_scale=10", headers=WORKER)

    answer = client.post("/internal/scoring/submit", json=results(0.8), headers=WORKER)

    assert (answer.status_code, answer.json["error"]["param"]) == (422, "score_scale")
    assert task(client, task_id)["status"] == "processing"


def results(score: float, gift_id: str = "p40") -> Any:
    model = {"llm_scoring_model": "m", "llm_scoring_version": "1"}
    return {"results": [{"gift_id": gift_id, **scored(score), **model}]}


@pytest.mark.parametrize("path", ["/internal", "/api/v1/internal"])
@pytest.mark.parametrize(("scale", "stored"), [("0-1", 8.0), ("0-10", 0.8)])
def test_the_address_may_state_the_scale_where_a_notebook_appends_its_paths(
    client: FlaskClient, facade_url: str, submit_score: Any, path: str, scale: str, stored: float
) -> None:
    """F6: two notebooks of different scales on one service, neither of them edited but for its address."""
    task_id = submit_score(GIFTS[0])
    base = facade_url + f"/scale/{scale}" + path.removesuffix("/internal")

    gifts, answer = ScoringNotebook(base, lambda gift: scored(0.8)).round()

    assert (len(gifts), answer.json()) == (1, {"status": "ok", "updated": 1})
    assert task(client, task_id)["result"]["scores"][0]["gift_score"] == stored


def test_an_address_with_a_scale_that_is_none_is_404_and_says_which_there_are(client: FlaskClient) -> None:
    for path in ("/internal/scoring/tasks", "/internal/categories/tasks", "/api/v1/internal/scoring/tasks"):
        answer = client.get(f"/scale/0-5{path}", headers=WORKER)
        assert answer.status_code == 404
        assert "0-10" in answer.json["detail"]
    assert client.get("/scale/0-5/internal/scoring/tasks").status_code == 401


def test_an_address_with_a_scale_serves_the_other_loop_of_the_same_notebook(client: FlaskClient) -> None:
    classify(client, "Кофемолки")

    names = client.get("/scale/0-1/internal/categories/tasks", headers=WORKER)

    assert names.json == [{"external_name": "Кофемолки"}]


def test_a_tokens_own_scale_is_that_of_its_notebook(client: FlaskClient, submit_score: Any) -> None:
    """F6."""
    task_id = submit_score(GIFTS[0])
    body = {"name": "kaggle", "score_scale": "0-1"}
    minted = client.post("/ops/tokens", json=body, headers=OPS).json
    mine = {"Authorization": f"Bearer {minted['token']}"}

    assert minted["score_scale"] == "0-1"
    assert len(client.get("/internal/scoring/tasks", headers=mine).json) == 1
    assert client.post("/internal/scoring/submit", json=results(0.3), headers=mine).json["updated"] == 1
    assert task(client, task_id)["result"]["scores"][0]["gift_score"] == 3.0
    [listed] = client.get("/ops/tokens", headers=OPS).json["tokens"]
    assert listed["score_scale"] == "0-1"


def test_a_task_may_state_the_scale_that_it_is_scored_on(client: FlaskClient) -> None:
    """F6: those that do are handed out, those that do not stay where they are."""
    ids = []
    for gift, scale in zip(GIFTS, ({}, {"notebook_scale": "0-1"}), strict=True):
        body = {"task_type": "score", "payload": {"products": [gift], **scale}}
        ids.append(client.post("/v1/tasks", json=body, headers=API).json["id"])

    gifts = client.get("/internal/scoring/tasks", headers=WORKER).json
    again = client.get("/internal/scoring/tasks", headers=WORKER)
    answer = client.post("/internal/scoring/submit", json=results(0.3, "p41"), headers=WORKER)

    assert [gift["gift_id"] for gift in gifts] == ["p41"]
    assert again.status_code == 422
    assert answer.json == {"status": "ok", "updated": 1}
    assert task(client, ids[1])["result"]["scores"][0]["gift_score"] == 3.0
    assert (task(client, ids[0])["status"], task(client, ids[0])["attempt"]) == ("pending", 0)


def test_what_the_notebooks_address_says_comes_before_token_task_and_file(
    core_with: Callable[..., Core],
) -> None:
    client = create_app(core_with("score: {notebook_scale: 0-10}")).test_client()
    body = {"name": "kaggle", "score_scale": "0-1"}
    token = client.post("/ops/tokens", json=body, headers=OPS).json["token"]
    own = {"Authorization": f"Bearer {token}"}
    stored = []
    for path, headers, of_the_task in (
        ("/scale/0-10/internal/scoring/submit?score_scale=0-1", own, "0-10"),
        ("/scale/0-10/internal/scoring/submit", own, "0-1"),
        ("/internal/scoring/submit", own, "0-10"),
        ("/internal/scoring/submit", WORKER, "0-1"),
        ("/internal/scoring/submit", WORKER, None),
    ):
        payload = {"products": [GIFTS[0]], **({"notebook_scale": of_the_task} if of_the_task else {})}
        sent = client.post("/v1/tasks", json={"task_type": "score", "payload": payload}, headers=API).json
        client.get("/internal/scoring/tasks", headers=headers)
        assert client.post(path, json=results(0.5), headers=headers).json["updated"] == 1
        stored.append(task(client, sent["id"])["result"]["scores"][0]["gift_score"])

    assert stored == [5.0, 0.5, 5.0, 5.0, 0.5]


def test_the_search_for_tasks_with_a_scale_of_their_own_is_bounded(core: Core) -> None:
    with core.database.connection() as connection:
        connection.execute(
            text(
                "INSERT INTO compute_tasks (task_type, model, payload, lane) "
                "SELECT 'score', 'gift-scorer', '{\"products\": []}', 'a' FROM generate_series(1, 20000)"
            )
        )
        connection.execute(text("ANALYZE compute_tasks"))
        statement = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {QUERIES['ready_scaled'].text}")
        [plan] = connection.execute(
            statement, {"model": "gift-scorer", "most": 1000, "limit": 50}
        ).scalar_one()

    scans: list[Any] = [plan["Plan"]]
    read = []
    while scans:
        node = scans.pop()
        scans += node.get("Plans", ())
        if "Index Name" in node or "Relation Name" in node:
            read.append((node.get("Index Name"), node["Actual Rows"]))
    assert read == [("ix_compute_tasks_ready", 1000)]


def test_the_scale_may_be_configured(core_with: Callable[..., Core]) -> None:
    client = create_app(core_with("score: {notebook_scale: 0-1}")).test_client()
    body = {"task_type": "score", "payload": {"products": [GIFTS[0]]}}
    task_id = client.post("/v1/tasks", json=body, headers=API).json["id"]
    client.get("/internal/scoring/tasks", headers=WORKER)

    results = [{"gift_id": "p40", **scored(0.3), "llm_scoring_model": "m", "llm_scoring_version": "1"}]
    answer = client.post("/internal/scoring/submit", json={"results": results}, headers=WORKER)

    assert answer.json == {"status": "ok", "updated": 1}
    assert task(client, task_id)["result"]["scores"][0]["gift_score"] == 3.0


def test_a_score_off_the_stated_scale_is_422(client: FlaskClient, facade_url: str, submit_score: Any) -> None:
    submit_score(GIFTS[0])

    _, answer = ScoringNotebook(facade_url, lambda gift: scored(7.5), "?score_scale=0-1").round()

    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "results.0.llm_gift_score")


def test_the_made_up_score_of_a_failed_analysis_is_not_taken(
    client: FlaskClient, facade_url: str, submit_score: Any
) -> None:
    ids = [submit_score(gift) for gift in GIFTS]

    def fails_once(gift: Any) -> dict[str, Any]:
        failed = {"llm_gift_score": 5.0, "llm_gift_reasoning": "Ошибка анализа"}
        return failed if gift["gift_id"] == "p40" else scored(6.0)

    _, answer = ScoringNotebook(facade_url, fails_once, "?score_scale=10").round()

    assert answer.json() == {"status": "ok", "updated": 1}
    assert [task(client, one)["status"] for one in ids] == ["processing", "completed"]


def test_gifts_without_an_id_and_tasks_of_several_are_found_again(
    client: FlaskClient, facade_url: str, submit_score: Any
) -> None:
    whole = submit_score({"title": "Чай"}, {"title": "Мёд"})
    partly = submit_score({"title": "Нож"}, {"title": "Вилка"})

    gifts, answer = ScoringNotebook(
        facade_url, lambda gift: None if gift["title"] == "Вилка" else scored(6.0), "?score_scale=10"
    ).round()

    assert [gift["title"] for gift in gifts] == ["Чай", "Мёд", "Нож", "Вилка"]
    assert answer.json()["updated"] == 2
    assert [task(client, one)["status"] for one in (whole, partly)] == ["completed", "processing"]


def test_what_one_notebook_holds_another_is_not_handed(
    client: FlaskClient, facade_url: str, submit_score: Any
) -> None:
    submit_score(GIFTS[0])
    notebook = ScoringNotebook(facade_url, lambda gift: None, "?score_scale=10")

    assert [len(notebook.round()[0]) for _ in range(2)] == [1, 0]


def test_a_worker_token_reports_only_what_it_was_handed(client: FlaskClient, submit_score: Any) -> None:
    tokens = [
        client.post("/ops/tokens", json={"name": name, "task_types": ["score"]}, headers=OPS).json["token"]
        for name in ("one", "two")
    ]
    mine, others = ({"Authorization": f"Bearer {token}"} for token in tokens)
    submit_score(GIFTS[0])
    [gift] = client.get("/internal/scoring/tasks?score_scale=10", headers=mine).json
    model = {"llm_scoring_model": "m", "llm_scoring_version": "1"}
    body = {"results": [{"gift_id": gift["gift_id"], **scored(5), **model}]}

    def submit(headers: Any) -> Any:
        return client.post("/internal/scoring/submit?score_scale=10", json=body, headers=headers).json

    assert submit(others) == {"status": "ok", "updated": 0}
    assert submit(mine) == {"status": "ok", "updated": 1}
    assert client.get("/internal/categories/tasks", headers=mine).status_code == 401


def classify(client: FlaskClient, *names: str) -> str:
    payload = {"external_names": list(names), "internal_categories": TREE}
    answer = client.post("/v1/tasks", json={"task_type": "classify", "payload": payload}, headers=API)
    return str(answer.json["id"])


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_the_published_loop_of_categories_maps_what_it_can(
    client: FlaskClient, facade_url: str, prefix: str
) -> None:
    task_id = classify(client, "Кофемолки", "Пледы", "Разное")
    headers = {"X-Internal-Token": "internal-token"}
    chosen = {"Кофемолки": 1, "Пледы": 2}

    tasks = requests.get(
        f"{facade_url}{prefix}/internal/categories/tasks?limit=50", headers=headers, timeout=30
    ).json()
    results = [
        {"external_name": one["external_name"], "internal_category_id": chosen[one["external_name"]]}
        for one in tasks
        if one["external_name"] in chosen
    ]
    answer = requests.post(
        f"{facade_url}{prefix}/internal/categories/submit",
        json={"results": results},
        headers=headers,
        timeout=30,
    )

    assert tasks == [{"external_name": name} for name in ("Кофемолки", "Пледы", "Разное")]
    assert answer.json() == {"status": "ok", "updated": 2}
    ids = [one["internal_category_id"] for one in task(client, task_id)["result"]["mappings"]]
    assert ids == [1, 2, None]


def test_a_category_that_the_task_does_not_have_is_422(client: FlaskClient) -> None:
    task_id = classify(client, "Кофемолки")
    client.get("/internal/categories/tasks", headers=WORKER)

    body = {"results": [{"external_name": "Кофемолки", "internal_category_id": 77}]}
    answer = client.post("/internal/categories/submit", json=body, headers=WORKER)

    assert answer.status_code == 422
    assert task(client, task_id)["status"] == "processing"


@pytest.mark.parametrize("path", ["/internal/scoring/submit", "/internal/categories/submit"])
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_hostile_bodies_are_4xx_in_the_contracts_shape(client: FlaskClient, path: str, prefix: str) -> None:
    for body in ("[]", '{"results": null}', '{"results": [{"gift_id": 1}]}', '{"results": [null]}', "nope"):
        answer = client.post(prefix + path, data=body, content_type="application/json", headers=WORKER)
        assert answer.status_code in (400, 422), body
        assert answer.json["detail"] == answer.json["error"]["message"]
    assert client.post(prefix + path, data=json.dumps({}), headers=API).status_code == 401


def test_nothing_is_handed_out_while_external_workers_are_switched_off(
    core_with: Callable[..., Core],
) -> None:
    client = create_app(core_with("features: {enable_external_workers: false}")).test_client()
    body = {"task_type": "score", "payload": {"products": [GIFTS[0]]}}
    client.post("/v1/tasks", json=body, headers=API)

    assert client.get("/internal/scoring/tasks", headers=WORKER).json == []
