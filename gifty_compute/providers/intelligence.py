"""Gifty's Intelligence API; a facade of this project speaks it, too."""

from __future__ import annotations

from typing import Any

from gifty_compute.errors import Failure, ProviderError
from gifty_compute.providers.base import Ask, Reply
from gifty_compute.providers.chat import usage_of
from gifty_compute.providers.exchange import Exchange, as_object
from gifty_compute.providers.failures import bad_answer, not_served
from gifty_compute.providers.rejection import Rejection
from gifty_compute.providers.rows import by_index_or_in_order, float_rows, reranker_kind
from gifty_compute.transport.base import HttpResponse, Transport

__all__ = ["IntelligenceProvider"]

# Said by a facade that has no route for the work: its operator's to mend, or ours, and never the caller's.
_NOT_ROUTED = frozenset({"not_served", "unknown_model"})
# Of a product these are sent only where the product has them: Gifty's own API knows the first four alone.
_OF_A_PRODUCT = (
    "title",
    "description",
    "price",
    "category",
    "merchant",
    "image_url",
    "content_text",
)
_LONGEST_VERSION = 200
_OF_A_SCORE = ("gift_score", "reasoning", "tags", "gift_vector")


class IntelligenceProvider:
    """Embeddings, reranking, classification and scoring.

    Each request says that it comes from a facade, so that a facade on the other side does not ask back.
    """

    def __init__(self, transport: Transport) -> None:
        self._exchange = Exchange(transport)

    def run(self, ask: Ask) -> Reply:
        match ask.offer.ask_as:
            case "embedding":
                return self._embed(ask)
            case "rerank":
                return self._rerank(ask)
            case "classify":
                return self._classify(ask)
            case "score":
                return self._score(ask)
        raise not_served(ask)

    def _embed(self, ask: Ask) -> Reply:
        told = {"input_type": ask.input_type} if ask.input_type else {}
        body = self._post(ask, "/v1/embeddings", {"input": ask.texts, "model": ask.offer.model_id, **told})
        # Gifty's own client reads the rows in their order, so a server of this API need not number them.
        rows = [row.get("embedding") for row in by_index_or_in_order(body.get("data"), len(ask.texts))]
        return Reply({"embeddings": float_rows(rows)}, usage_of(body))

    def _rerank(self, ask: Ask) -> Reply:
        query, documents = ask.payload["query"], ask.payload["documents"]
        body = self._post(ask, "/v1/rerank", {"query": query, "documents": documents})
        scores = body.get("scores")
        if not isinstance(scores, list) or len(scores) != len(documents):
            raise bad_answer(f"answered no {len(documents)} scores")
        # Gifty's API reranks by bge-reranker-v2-m3 and says no kind; a facade says it.
        kind = reranker_kind(body, silent="cross-encoder")
        return Reply({"scores": scores, "kind": kind}, usage_of(body))

    def _classify(self, ask: Ask) -> Reply:
        names, categories = ask.payload["external_names"], ask.payload["internal_categories"]
        request = {"external_names": names, "internal_categories": categories}
        body = self._post(ask, "/v1/classify/categories", request)
        return Reply({"mappings": _in_order(names, body.get("mappings"))})

    def _score(self, ask: Ask) -> Reply:
        """One call a product: its path takes no more."""
        answers = [self._score_one(ask, product) for product in ask.payload["products"]]
        scores = [
            {field: answer.get(field) for field in _OF_A_SCORE if field in answer} for answer in answers
        ]
        versions = {_version(answer) for answer in answers}
        # Of several versions none is that of all scores.
        return Reply({"scores": scores, "version": versions.pop() if len(versions) == 1 else None})

    def _score_one(self, ask: Ask, product: dict[str, Any]) -> dict[str, Any]:
        request = {field: product[field] for field in _OF_A_PRODUCT if product.get(field) is not None}
        if product.get("axes"):
            request["axes"] = True
        body = self._post(ask, "/v1/products/score", request)
        return {field: value for field, value in body.items() if value is not None}

    def _post(self, ask: Ask, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {ask.site.key}", "x-gifty-hop": "1"}
        response = self._exchange.send(ask, path, body, headers=headers)
        if response.status != 200:
            raise _error(ask, response)
        answer = as_object(response)
        ask.meter.tell(usage_of(answer))
        return answer


def _in_order(names: list[str], mappings: Any) -> list[dict[str, Any]]:
    """The mappings in the order of the names, which each of them must answer once."""
    found: dict[Any, list[dict[str, Any]]] = {}
    for mapping in mappings if isinstance(mappings, list) else ():
        name = mapping.get("external_name") if isinstance(mapping, dict) else None
        if not isinstance(name, str):
            raise bad_answer("answered a mapping without a name")
        found.setdefault(name, []).append(mapping)
    if sum(map(len, found.values())) != len(names):
        raise bad_answer(f"answered no {len(names)} mappings")
    ordered = []
    for name in names:
        if not found.get(name):
            raise bad_answer("left a name unanswered")
        ordered.append(found[name].pop(0))
    return [_mapping(mapping) for mapping in ordered]


def _mapping(mapping: dict[str, Any]) -> dict[str, Any]:
    return {field: mapping.get(field) for field in ("external_name", "internal_category_id", "confidence")}


def _version(answer: dict[str, Any]) -> str | None:
    said = answer.get("version")
    return said if isinstance(said, str) and 0 < len(said) <= _LONGEST_VERSION else None


def _error(ask: Ask, response: HttpResponse) -> ProviderError:
    rejection = Rejection.of(response, ask)
    code = rejection.says("code")
    if code in _NOT_ROUTED:
        return rejection.become(Failure.CONFIG, code)
    return rejection.become()
