"""`gifty-compute demo`: the whole service for a minute, at work on a catalogue of gifts."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gifty_compute.arrays import np
from gifty_compute.clock import SystemClock
from gifty_compute.demo.catalogue import QUESTIONS, Product, read_catalogue
from gifty_compute.demo.shop import Shop
from gifty_compute.stack.interrupts import Interrupts
from gifty_compute.stack.options import Options, find_checkout
from gifty_compute.stack.stack import Stack

__all__ = ["run_demo"]

_BEST = 5


@dataclass(frozen=True)
class Embedded:
    """A product and the task that embedded it."""

    product: Product
    task: dict[str, Any]

    @property
    def vector(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.array(self.task["result"]["embeddings"][0], dtype=np.float32)


def run_demo(*, keep: bool, announce: Callable[[str], None]) -> int:
    """Runs it and gives the exit code: 0 when every product was embedded.

    It uses servers and a data directory of its own, whatever the environment names: a demo has no business
    in anybody's database.
    """
    mine = ("DATABASE_URL", "REDIS_URL")
    environ = {name: value for name, value in os.environ.items() if name not in mine}
    environ.setdefault("LOGIC_CONFIG_PATH", str(find_checkout() / "configs" / "logic.local.yaml"))
    with tempfile.TemporaryDirectory(prefix="gifty-demo-") as directory, Interrupts() as interrupts:
        announce("Starting PostgreSQL, Valkey, the facade, Flower, a Celery worker and a poll worker ...")
        options = Options(Path(directory), port=0)
        with Stack(options, announce, environ=environ, interrupts=interrupts) as stack:
            if not stack.wait_ready():
                return 130
            complete = _show(stack, Console(), interrupts)
            if keep and not interrupts.stop.is_set():
                announce(f"Staying up; tokens are in {directory}/run.json. Ctrl-C stops it.")
                interrupts.stop.wait()
    return 0 if complete else 1


def _show(stack: Stack, console: Console, interrupts: Interrupts) -> bool:
    shop, products = Shop(stack.info.api_url, stack.info.api_token), read_catalogue()
    clock = SystemClock()
    began = clock.monotonic()
    embedded = _embed(shop, products, console, interrupts)
    seconds = clock.monotonic() - began
    if interrupts.stop.is_set():
        return False
    done = [one for one in embedded if one.task["status"] == "completed"]
    for question in QUESTIONS:
        _ask(shop, question, done, console)
    _summarise(embedded, done, seconds, console)
    places = f"API docs {stack.info.api_url}/docs    Flower {stack.info.flower_url}"
    console.print(f"{places}    (they answer while it runs: --keep)", highlight=False)
    return len(done) == len(products)


def _embed(shop: Shop, products: list[Product], console: Console, interrupts: Interrupts) -> list[Embedded]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    embedded: list[Embedded] = []
    with Progress(*columns, console=console) as progress:
        submitting = progress.add_task("Submitting", total=len(products))
        ids = []
        for task_id in shop.submit(products):
            ids.append(task_id)
            progress.advance(submitting)
        embedding = progress.add_task("Embedding ", total=len(products))
        for product, task_id in zip(products, ids, strict=True):
            ended = None
            while ended is None and not interrupts.stop.is_set():
                ended = shop.wait(task_id)
            if ended is None:
                break
            embedded.append(Embedded(product, ended))
            progress.advance(embedding)
    return embedded


def _ask(shop: Shop, question: str, done: list[Embedded], console: Console) -> None:
    scores = np.stack([one.vector for one in done]) @ shop.embed(question)
    table = Table("score", "product", "roubles", "category", title=f"«{question}»", title_justify="left")
    shown: set[str] = set()
    for index in np.argsort(-scores):
        product = done[index].product
        if product.text in shown:
            continue  # Shops list a product twice; a person wants to see it once.
        shown.add(product.text)
        table.add_row(f"{scores[index]:.3f}", product.title, str(product.price), product.category)
        if len(shown) == _BEST:
            break
    console.print(table)


def _summarise(embedded: list[Embedded], done: list[Embedded], seconds: float, console: Console) -> None:
    by_worker = Counter(one.task["worker_id"] for one in done)
    table = Table("", "", title="This run", title_justify="left", show_header=False)
    table.add_row("products embedded", f"{len(done)} of {len(embedded)}")
    for worker, count in sorted(by_worker.items()):
        table.add_row(f"  by {worker}", str(count))
    table.add_row("failed", str(len(embedded) - len(done)))
    table.add_row("begun more than once", str(sum(one.task["attempt"] > 1 for one in embedded)))
    table.add_row("wall time", f"{seconds:.1f} s")
    table.add_row("texts per second", f"{len(done) / seconds:.0f}")
    console.print(table)
