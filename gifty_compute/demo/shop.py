"""The demo's shop: a client of the HTTP API that has its products embedded and asks which ones fit."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

from gifty_compute.arrays import np, npt
from gifty_compute.demo.catalogue import Product
from gifty_compute.errors import GiftyComputeError

__all__ = ["Shop"]

_TIMEOUT = (5, 90)
_ENDS = ("completed", "failed", "cancelled")


class Shop:
    """Speaks HTTP alone, as Gifty's backend does."""

    def __init__(self, api_url: str, api_token: str) -> None:
        self._url = api_url
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {api_token}"

    def submit(self, products: list[Product]) -> Iterator[str]:
        """One low-priority task a product; the ids of the tasks, in the order of the products."""

        def one(product: Product) -> str:
            body = {
                "task_type": "embedding",
                "payload": {"texts": [product.text], "ids": [product.id]},
                "metadata": {"product": product.id},
            }
            key = {"Idempotency-Key": f"demo-{product.id}"}
            return str(self._call("POST", "/v1/tasks", json=body, headers=key)["id"])

        with ThreadPoolExecutor(4) as pool:
            yield from pool.map(one, products)

    def wait(self, task_id: str) -> dict[str, Any] | None:
        """The task at its end, or None when it has not come within a second."""
        task: dict[str, Any] = self._call("GET", f"/v1/tasks/{task_id}?wait=1")
        return task if task["status"] in _ENDS else None

    def embed(self, question: str) -> npt.NDArray[np.float32]:
        """The question's vector, at once."""
        body = {"input": question, "input_type": "query", "timeout_ms": 20_000}
        answer = self._call("POST", "/v1/embeddings", json=body)
        return np.array(answer["data"][0]["embedding"], dtype=np.float32)

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self._session.request(method, self._url + path, timeout=_TIMEOUT, **arguments)
        if not answer.ok:
            raise GiftyComputeError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json()
