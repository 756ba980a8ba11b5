"""Whatever a provider answers, an attempt ends in a checked answer or in an error of the provider's."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

import pytest

from gifty_compute.clock import Deadline
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import GiftyComputeError, ProviderError
from gifty_compute.high import HighRoad, build_high_road
from gifty_compute.logic import defaults
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import parse_logic
from gifty_compute.routing.call import Call
from gifty_compute.transport.base import HttpRequest, HttpResponse, HttpStream
from tests.fakes.vendor import Refused
from tests.fakes.vendors import vendors
from tests.unit.conftest import HandClock

ROUNDS = 60
ODD: list[Any] = [
    *(None, True, -1, 1.5, 1e308, 10**400, 2**63, float("nan"), float("inf"), "", "x", "ключ", "\x00"),
    *([], {}, [[]], [None], {"a": 1}, {"error": {"code": 429, "message": 5}}, {"error": ["x"]}, [[1, "a"]]),
]
WAITS = ["", "1", "x", "-1", "1e9", "99999999999", "Wed, 99 Xxx 9999 07:28:00 GMT", "inf", "nan", "١"]
BODIES = [b"", b"null", b"[]", b"\xff", b"<html>", b"[" * 2000 + b"]" * 2000, b'{"a": 1e999}', b'"x"']
STATUSES = [204, 302, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 498, 500, 503, 524, 529, 999]
WORK: dict[str, dict[str, Any]] = {
    "embedding": {"texts": ["чайник", "мяч"]},
    "rerank": {"query": "q", "documents": ["a", "b"]},
    "classify": {"external_names": ["Удочки"], "internal_categories": [{"id": 7, "name": "Рыбалка"}]},
    "score": {"products": [{"title": "Удочка"}]},
    "llm": {"messages": [{"role": "user", "content": "Что подарить?"}], "json_mode": False},
}
EMBEDDERS = {"together": "multilingual-e5-large-instruct", "gemini": "gemini-embedding-001"}
CASES = [
    (name, kind, form)
    for name, section in defaults.PROVIDERS.items()
    for kind in ("embedding", "rerank", "classify", "score", "llm")
    for form in (("gifty", "infinity", "infinity_openai") if name == "runpod" else ("gifty",))
    if kind in section.kinds or (kind in ("classify", "score") and "llm" in section.kinds)
    if name != "local"
]


def logic_of(provider: str, kind: str, form: str) -> Logic:
    ids = f"{{bge-reranker-v2-m3: {{providers: {{{provider}: r}}}}, fast: {{providers: {{runpod: l}}}}}}"
    route = f"providers: [{provider}], model: {EMBEDDERS.get(provider, 'bge-m3')}"
    told = {"llm": f"llm: {{default_provider: {provider}}}", "embedding": f"embedding: {{{route}}}"}
    text = told.get(kind, f"{kind}: {{providers: [{provider}]}}")
    return parse_logic(f"{text}\nmodels: {ids}\nproviders: {{runpod: {{format: {form}}}}}")


class OddTransport:
    """Answers as the vendor does, with something in it changed."""

    def __init__(self, rng: Random) -> None:
        self._rng, self._vendors = rng, vendors()

    def send(self, request: HttpRequest, deadline: Deadline) -> HttpResponse:
        rng, (name, _, path) = self._rng, request.url.removeprefix("http://fakes/").partition("/")
        try:
            answer = self._vendors[name].answer(f"/{path}", json.loads(request.body) if request.body else {})
        except Refused as refused:
            answer = self._vendors[name].error(refused.status, refused.why)
        if rng.random() < 0.3:
            status = rng.choice(STATUSES)
            body = self._changed(self._vendors[name].error(400, "canary"))
            return HttpResponse(status, {"retry-after": rng.choice(WAITS)}, _dumped(body))
        raw = b"".join(answer) if _is_stream(answer) else _dumped(self._changed(answer))
        if rng.random() < 0.1:
            raw = rng.choice([*BODIES, raw[: rng.randrange(len(raw) + 1)]])
        return HttpResponse(200, {}, raw)

    def stream(self, request: HttpRequest, deadline: Deadline) -> HttpStream:
        response = self.send(request, deadline)
        lines = response.body.split(b"\n")
        if response.status == 200:
            lines = [self._changed_line(line) for line in lines]
        return _Pieces(response, b"\n".join(lines))

    def close(self) -> None: ...

    def _changed(self, answer: Any) -> Any:
        """With one place of it replaced or left out."""
        answer, rng = copy.deepcopy(answer), self._rng
        holder, place = rng.choice(_places(answer) or [({}, "")])
        if rng.random() < 0.2:
            holder.pop(place) if isinstance(holder, list) else holder.pop(place, None)
        else:
            holder[place] = copy.deepcopy(rng.choice(ODD))
        return answer

    def _changed_line(self, line: bytes) -> bytes:
        if self._rng.random() < 0.9 or not line.startswith(b"data: {"):
            return line
        return b"data: " + _dumped(self._changed(json.loads(line.removeprefix(b"data: "))))


class _Pieces:
    def __init__(self, response: HttpResponse, body: bytes) -> None:
        self.status, self.headers, self._body = response.status, response.headers, body

    def __iter__(self) -> Any:
        return (self._body[at : at + 97] for at in range(0, len(self._body), 97))

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None: ...


def _places(value: Any) -> list[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in items for place in [(value, key), *_places(inner)[:200]]]


def _is_stream(answer: Any) -> bool:
    return isinstance(answer, list) and bool(answer) and isinstance(answer[0], bytes)


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def road_of(rng: Random) -> HighRoad:
    environ = {
        variable: value
        for name, section in defaults.PROVIDERS.items()
        for variable, value in (
            (section.key_variable, "good-key"),
            (section.base_variable, f"http://fakes/{name}"),
        )
        if variable is not None
    }
    nowhere = "redis://127.0.0.1:1/0"
    return build_high_road(
        environ,
        nowhere,
        Inference(EngineShelf(), HandClock()),
        HandClock(),
        rng,
        transport=OddTransport(rng),
    )


@pytest.mark.parametrize(("provider", "kind", "form"), CASES)
def test_an_odd_answer_is_an_error_of_the_providers_and_is_not_quoted(
    provider: str, kind: str, form: str
) -> None:
    rng = Random(f"{provider} {kind} {form}")
    high, logic = road_of(rng), logic_of(provider, kind, form)
    placed = logic.place(kind, WORK[kind])
    errors: list[ProviderError] = []
    good = 0

    for _ in range(ROUNDS):
        deadline = Deadline.after(2, HandClock())
        call = Call(logic, kind, logic.model(kind, placed["model"]), placed, deadline)
        [candidate] = high.router.candidates(call)
        try:
            high.router.attempt(call, candidate, deadline)
            good += 1
        except ProviderError as error:
            errors.append(error)

    # The fakes' language models neither classify nor score.
    assert good or kind not in defaults.PROVIDERS[provider].kinds
    assert errors
    assert "canary" not in "".join(map(str, errors))
    assert all(error.retry_after is None or error.retry_after >= 0 for error in errors)


@pytest.mark.parametrize("provider", [name for name, kind, form in CASES if (kind, form) == ("llm", "gifty")])
def test_an_odd_stream_ends_in_an_error_that_is_ours(provider: str) -> None:
    rng = Random(provider)
    logic = logic_of(provider, "llm", "gifty")
    placed = logic.place("llm", WORK["llm"])
    errors: list[GiftyComputeError] = []
    good = 0

    for _ in range(ROUNDS):
        deadline = Deadline.after(2, HandClock())
        call = Call(logic, "llm", logic.model("llm", None), placed, deadline)
        try:
            list(road_of(rng).router.stream(call).deltas)
            good += 1
        except GiftyComputeError as error:
            errors.append(error)

    assert good
    assert errors
    assert "canary" not in "".join(map(str, errors))
