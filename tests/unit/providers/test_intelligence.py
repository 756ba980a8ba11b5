"""Gifty's Intelligence API: what is sent, and what is taken for an answer."""

from __future__ import annotations

from typing import Any

import pytest

from gifty_compute.errors import Failure, ProviderError
from gifty_compute.logic.file import OfferSection
from gifty_compute.providers.base import Usage
from gifty_compute.providers.intelligence import IntelligenceProvider
from tests.unit.providers.scripted import KEY, ScriptedTransport, answered, asking

CATEGORIES = [{"id": 1, "name": "Рыбалка"}, {"id": "b", "name": "Книги"}]


def run(
    kind: str, payload: dict[str, Any], *bodies: Any, flags: OfferSection | None = None
) -> tuple[Any, ScriptedTransport]:
    transport = ScriptedTransport(*(answered(body) for body in bodies))
    ask = asking("intelligence_api", kind, payload, model_id="bge-m3", request_id="req-7", flags=flags)
    return IntelligenceProvider(transport).run(ask), transport


def test_embeddings_are_asked_for_as_gifty_does_and_placed_by_their_index() -> None:
    body = {
        "data": [{"embedding": [0, 2], "index": 1}, {"embedding": [1, 0], "index": 0}],
        "model": "bge-m3",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }

    reply, transport = run("embedding", {"texts": ["a", "b"], "input_type": "passage"}, body)

    assert transport.body == {"input": ["a", "b"], "model": "bge-m3"}
    assert transport.request.url == "http://intelligence_api.test/v1/embeddings"
    assert reply.result["embeddings"].tolist() == [[1, 0], [0, 2]]
    assert reply.usage == Usage(4)


@pytest.mark.parametrize("missing", [{}, {"index": None}])
def test_rows_of_which_none_has_an_index_are_in_the_order_of_the_texts(missing: dict[str, Any]) -> None:
    """F7: a server that answers just what Gifty's client reads, `data[].embedding`."""
    body = {"data": [{"embedding": [1, 0], **missing}, {"embedding": [0, 2], **missing}]}

    reply, _ = run("embedding", {"texts": ["a", "b"], "input_type": "passage"}, body)

    assert reply.result["embeddings"].tolist() == [[1, 0], [0, 2]]


@pytest.mark.parametrize(
    "rows",
    [
        [{"embedding": [1, 0]}],
        [{"embedding": [1, 0]}, {"embedding": [0, 2]}, {"embedding": [3, 3]}],
        [{"embedding": [1, 0], "index": 0}, {"embedding": [0, 2]}],
        [{"embedding": [1, 0]}, [0, 2]],
    ],
    ids=["too few", "too many", "some have an index", "not an object"],
)
def test_an_order_that_is_in_doubt_is_a_bad_answer(rows: list[Any]) -> None:
    """F7: a vector must never be stored for another text."""
    with pytest.raises(ProviderError) as caught:
        run("embedding", {"texts": ["a", "b"], "input_type": "passage"}, {"data": rows})

    assert caught.value.code == "bad_answer"


def test_where_prefixes_are_added_over_there_it_is_told_what_the_texts_are() -> None:
    body = {"data": [{"embedding": [0, 2], "index": 0}]}
    flags = OfferSection(applies_prefixes=True)

    _, transport = run("embedding", {"texts": ["a"], "input_type": "query"}, body, flags=flags)

    assert transport.body == {"input": ["a"], "model": "bge-m3", "input_type": "query"}


def test_every_request_carries_the_key_and_says_that_it_comes_from_a_facade() -> None:
    _, transport = run("rerank", {"query": "q", "documents": ["a"]}, {"scores": [0.5]})

    headers = transport.request.headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["x-gifty-hop"] == "1"
    assert headers["x-request-id"] == "req-7"


def test_scores_come_in_the_order_of_the_documents() -> None:
    reply, transport = run("rerank", {"query": "q", "documents": ["a", "b"]}, {"scores": [0.1, 0.9]})

    assert transport.body == {"query": "q", "documents": ["a", "b"]}
    assert reply.result == {"scores": [0.1, 0.9], "kind": "cross-encoder"}


def test_a_facade_says_itself_how_it_reranks() -> None:
    reply, _ = run("rerank", {"query": "q", "documents": ["a"]}, {"scores": [0.1], "kind": "bi-encoder"})

    assert reply.result["kind"] == "bi-encoder"


def test_a_kind_of_reranker_that_is_not_known_here_is_not_called_a_cross_encoder() -> None:
    """F8."""
    reply, _ = run("rerank", {"query": "q", "documents": ["a"]}, {"scores": [0.1], "kind": "colbert"})

    assert reply.result["kind"] == "unknown"


def test_mappings_are_brought_into_the_order_of_the_names_twins_included() -> None:
    names = ["Удочки", "Романы", "Удочки"]
    mappings = [
        {"external_name": "Романы", "internal_category_id": "b"},
        {"external_name": "Удочки", "internal_category_id": 1, "confidence": 0.9},
        {"external_name": "Удочки", "internal_category_id": None},
    ]

    reply, transport = run(
        "classify", {"external_names": names, "internal_categories": CATEGORIES}, {"mappings": mappings}
    )

    assert transport.body == {"external_names": names, "internal_categories": CATEGORIES}
    assert [row["external_name"] for row in reply.result["mappings"]] == names
    assert [row["internal_category_id"] for row in reply.result["mappings"]] == [1, "b", None]


def test_each_product_is_a_call_with_what_is_known_of_it() -> None:
    products = [{"title": "Удочка", "price": 900, "id": "x"}, {"title": "Роман", "axes": True}]
    score = {"gift_score": 7, "reasoning": "да", "tags": ["рыбалка"], "model": "m"}

    reply, transport = run("score", {"products": products}, score, {**score, "gift_score": 3})

    assert transport.bodies == [{"title": "Удочка", "price": 900}, {"title": "Роман", "axes": True}]
    assert [row["gift_score"] for row in reply.result["scores"]] == [7, 3]
    assert set(reply.result["scores"][0]) == {"gift_score", "reasoning", "tags"}


@pytest.mark.parametrize(
    ("versions", "version"),
    [(("2026-11", "2026-11"), "2026-11"), (("v3", "v4"), None), ((None, None), None), ((5, 5), None)],
)
def test_the_version_of_a_score_is_passed_on(versions: tuple[Any, Any], version: str | None) -> None:
    score = {"gift_score": 7, "reasoning": "да", "tags": []}

    reply, _ = run("score", {"products": [{"title": "a"}] * 2}, *({**score, "version": v} for v in versions))

    assert reply.result["version"] == version


@pytest.mark.parametrize("code", ["not_served", "unknown_model"])
def test_a_facade_without_a_route_is_the_operators_to_mend_and_no_fault_of_the_callers(code: str) -> None:
    error = {"type": "invalid_request_error", "code": code, "message": "canary", "param": "model"}
    transport = ScriptedTransport(answered({"error": error}, 422))

    with pytest.raises(ProviderError) as caught:
        IntelligenceProvider(transport).run(
            asking("intelligence_api", "rerank", {"query": "q", "documents": ["a"]})
        )

    assert (caught.value.failure, caught.value.code) == (Failure.CONFIG, code)
    assert "canary" not in str(caught.value)


NAMES = {"external_names": ["Удочки", "Романы"], "internal_categories": CATEGORIES}
BAD: dict[str, tuple[str, dict[str, Any], Any]] = {
    "fewer vectors": ("embedding", {"texts": ["a", "b"]}, {"data": [{"embedding": [1], "index": 0}]}),
    "an index twice": (
        "embedding",
        {"texts": ["a", "b"]},
        {"data": [{"embedding": [1], "index": 0}, {"embedding": [1], "index": 0}]},
    ),
    "no data": ("embedding", {"texts": ["a"]}, {}),
    "fewer scores": ("rerank", {"query": "q", "documents": ["a", "b"]}, {"scores": [1]}),
    "scores by name": ("rerank", {"query": "q", "documents": ["a"]}, {"scores": {"a": 1}}),
    "a name left out": ("classify", NAMES, {"mappings": [{"external_name": "Удочки"}] * 2}),
    "a name of its own": (
        "classify",
        NAMES,
        {"mappings": [{"external_name": "Удочки"}, {"external_name": "Другое"}]},
    ),
    "one mapping too many": (
        "classify",
        NAMES,
        {"mappings": [{"external_name": n} for n in ("Удочки", "Романы", "Романы")]},
    ),
    "no mappings": ("classify", NAMES, {"mappings": None}),
    "a mapping of nothing": ("classify", NAMES, {"mappings": [7, 8]}),
    "a list": ("score", {"products": [{"title": "a"}]}, []),
}


@pytest.mark.parametrize("name", BAD)
def test_an_answer_that_does_not_fit_is_none(name: str) -> None:
    kind, payload, body = BAD[name]

    with pytest.raises(ProviderError) as caught:
        run(kind, {"input_type": "passage", **payload}, body)

    assert (caught.value.failure, caught.value.code) == (Failure.FAILOVER, "bad_answer")
