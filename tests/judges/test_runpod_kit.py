"""The handler of workers/runpod in RunPod's own program, asked by our provider and in each form."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import requests

from gifty_compute.clock import Deadline
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import Failure, ProviderError
from gifty_compute.logic.file import OfferSection
from gifty_compute.logic.logic import Offer
from gifty_compute.logic.source import DEFAULT_LOGIC, parse_logic
from gifty_compute.providers.base import Ask, Site
from gifty_compute.providers.runpod import RunpodProvider
from gifty_compute.transport.curl import CurlTransport
from tests.conftest import ROOT
from tests.integration.providers.conftest import CLOCK
from tests.judges.upstream import free_port, upstream

MODEL = "multilingual-e5-small"
TEXTS = ["подарок кофеману", "Кофе в зёрнах"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, log = free_port(), tmp_path_factory.mktemp("kit") / "log"
    where = ["--rp_api_host", "127.0.0.1", "--rp_api_port", str(port)]
    with upstream([sys.executable, "-m", "workers.runpod.handler", "--rp_serve_api", *where], port, log):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def inference() -> Iterator[Inference]:
    """The packaged model of this process, to compare with."""
    made = Inference(EngineShelf(), CLOCK)
    yield made
    made.close()


def vectors(inference: Inference, texts: list[str], input_type: str) -> np.ndarray:
    payload = {"texts": texts, "input_type": input_type}
    found: np.ndarray = inference.submit(MODEL, "embedding", payload).result(60)["embeddings"]
    return found


def runsync(server: str, **job: Any) -> Any:
    return requests.post(f"{server}/runsync", json={"input": job}, timeout=60).json()


@pytest.mark.parametrize("form", ["gifty", "infinity", "infinity_openai"])
@pytest.mark.parametrize("input_type", ["query", "passage"])
def test_our_facade_gets_the_models_own_vectors_in_each_form(
    server: str, inference: Inference, form: str, input_type: str
) -> None:
    section = parse_logic(f"providers: {{runpod: {{format: {form}}}}}").file.providers["runpod"]
    offer = Offer("runpod", section, "embedding", MODEL, OfferSection(), MODEL)
    space = DEFAULT_LOGIC.space("multilingual-e5-small-q4")
    # As the facade asks: with the space's prefix before each text.
    texts = [space.prefixes[input_type] + text for text in TEXTS]
    ask = Ask(offer, Site(server, "1", "any-key"), {"texts": texts}, Deadline.after(30, CLOCK))

    reply = RunpodProvider(CurlTransport()).run(ask)

    assert np.allclose(reply.result["embeddings"], vectors(inference, TEXTS, input_type), atol=1e-5)


def test_giftys_form_names_the_space(server: str, inference: Inference) -> None:
    output = runsync(server, texts=TEXTS, model=MODEL, input_type="query", ids=["a", "b"])["output"]

    assert np.allclose(output["embeddings"], vectors(inference, TEXTS, "query"), atol=1e-5)
    assert (output["space"], output["dim"], output["ids"]) == ("multilingual-e5-small-q4", 384, ["a", "b"])


def test_openais_route_answers_as_openai_does(server: str, inference: Inference) -> None:
    body = {"model": MODEL, "input": TEXTS[0], "encoding_format": "base64"}

    [output] = runsync(server, openai_route="/v1/embeddings", openai_input=body)["output"]

    [row] = output["data"]
    assert (output["object"], output["model"], row["index"]) == ("list", MODEL, 0)
    found = np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4")
    assert np.allclose(found, vectors(inference, TEXTS[:1], "passage")[0], atol=1e-5)


def test_documents_are_reranked_in_infinitys_form(server: str) -> None:
    documents = ["Удочка", "Кофе в зёрнах", "Плед"]

    output = runsync(server, query="подарок кофеману", docs=documents, return_docs=False)["output"]

    scores = [row["relevance_score"] for row in output["results"]]
    assert [row["index"] for row in output["results"]] == [0, 1, 2]
    assert scores.index(max(scores)) == 1


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"texts": ["канарейка", ""]}, "texts.1"),
        ({"texts": ["канарейка\ud800"]}, None),
        ({"texts": ["канарейка"], "model": "no-such"}, "no model 'no-such'"),
        ({"texts": ["канарейка"], "model": "bge-m3"}, "not served here"),
        ({"words": ["канарейка"]}, "none of texts"),
        ({"openai_route": "/v1/files", "openai_input": {}}, "no route"),
        ({"query": "канарейка", "docs": []}, "documents"),
        ({"messages": [{"role": "user", "content": "канарейка"}]}, "no model here does llm"),
    ],
)
def test_a_job_that_cannot_be_done_fails_with_the_reason_and_without_the_text(
    server: str, job: Any, said: str | None
) -> None:
    answer = requests.post(f"{server}/runsync", json={"input": job}, timeout=60)

    assert "канарейка" not in answer.text
    if said is not None:
        assert answer.json()["status"] == "FAILED"
        assert said in answer.json()["error"]


def test_our_provider_takes_a_bad_job_for_the_callers_fault(server: str) -> None:
    section = DEFAULT_LOGIC.file.providers["runpod"]
    offer = Offer("runpod", section, "embedding", "bge-m3", OfferSection(), "bge-m3")
    ask = Ask(offer, Site(server, "1", "k"), {"texts": [""]}, Deadline.after(30, CLOCK))

    with pytest.raises(ProviderError) as refused:
        RunpodProvider(CurlTransport()).run(ask)

    assert refused.value.failure is Failure.FATAL


def test_jobs_that_come_together_are_all_answered_with_their_own_vectors(
    server: str, inference: Inference
) -> None:
    texts = [f"товар номер {number}" for number in range(64)]
    expected = vectors(inference, texts, "passage")

    with ThreadPoolExecutor(16) as threads:
        found = list(
            threads.map(lambda text: runsync(server, texts=[text])["output"]["embeddings"][0], texts)
        )

    assert np.allclose(found, expected, atol=1e-4)


def test_a_worker_whose_model_cannot_be_loaded_says_which_and_ends() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "workers.runpod.handler", "--rp_serve_api"],
        cwd=ROOT,
        env={**os.environ, "GIFTY_MODELS": "gift-scorer"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 1
    assert "GIFTY_MODELS=gift-scorer: model 'gift-scorer' has no engine" in ended.stderr


def test_a_shift_without_a_facade_is_refused_with_the_way_out(server: str) -> None:
    answer = runsync(server, shift={"seconds": 5})

    assert answer["status"] == "FAILED"
    assert "GIFTY_COMPUTE_URL and GIFTY_WORKER_TOKEN" in answer["error"]
    assert "shift.seconds" in runsync(server, shift={"seconds": 0})["error"]
