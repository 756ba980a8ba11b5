"""OpenAI's own Python client, pointed at our /v1, must find what it knows."""

from __future__ import annotations

import numpy as np
import openai
import pytest
from openai import OpenAI

from tests.e2e.service import service


def test_the_official_client_gets_embeddings(tmp_path_factory: pytest.TempPathFactory) -> None:
    with service(tmp_path_factory.mktemp("up"), "--poll-workers", "0", "--celery-workers", "0") as up:
        client = OpenAI(base_url=up.run["api_url"] + "/v1", api_key=up.run["api_token"], max_retries=0)

        texts = ["Спиннинг для ловли щуки", "Удочка и снасти для рыбалки", "Рецепт борща со сметаной"]
        answer = client.embeddings.create(model="default", input=texts)
        floats = client.embeddings.create(model="default", input=texts[0], encoding_format="float")
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            client.embeddings.create(model="nonesuch", input="удочка")
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").embeddings.create(model="default", input="удочка")
        client.close()

    vectors = np.array([item.embedding for item in answer.data])
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert answer.model == "multilingual-e5-small"
    assert answer.usage.prompt_tokens > 0
    np.testing.assert_allclose(floats.data[0].embedding, vectors[0], atol=1e-3)
    assert refused.value.code == "unknown_model"
    assert refused.value.param == "model"
