"""logic.yaml of the day, and an operator that edits it badly."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np

from gifty_compute.logic.reference import CANARY_TEXTS, Reference, write_reference
from tests.day.vendors import PRICE_INPUT, PRICE_OUTPUT, Vendors
from tests.fakes.vectors import vector

__all__ = ["BUDGETS_USD", "CLIENT_REQUESTS_PER_MINUTE", "REQUESTS_PER_MINUTE", "Operator", "write_files"]

BUDGETS_USD = {"deep": 0.25, "greedy": 0.9}
"""Of the whole day, for each unit of its length."""
REQUESTS_PER_MINUTE = {"busy": 12}
CLIENT_REQUESTS_PER_MINUTE = 150


def write_files(folder: Path, vendors: Vendors, length: float) -> Path:
    """logic.yaml with everything that it names; its path."""
    vectors = np.stack([vector("bge-m3", text) for text in CANARY_TEXTS]).astype("<f4")
    reference = Reference("bge-m3", CANARY_TEXTS, 1024, vectors.tobytes())
    write_reference(folder / "reference.json", reference, provider="calm", recorded_at="2026-11-29")
    path = folder / "logic.yaml"
    path.write_text(_text(vendors, length), encoding="utf-8")
    return path


def _text(vendors: Vendors, length: float) -> str:
    price = {"input_per_million": PRICE_INPUT, "output_per_million": PRICE_OUTPUT}
    providers = {}
    for name in vendors.NAMES:
        providers[name] = {
            "adapter": "openai_like",
            "kinds": ["llm", "embedding"],
            "base_url": vendors.base_url(name),
            "models": {"m1": {"price": price}, "bge-m3": {"price": price}},
        }
        if name in BUDGETS_USD:
            providers[name]["budget_usd_per_day"] = BUDGETS_USD[name] * length
        if name in REQUESTS_PER_MINUTE:
            providers[name]["limits"] = {"requests_per_minute": REQUESTS_PER_MINUTE[name]}
    sections = {
        "llm": {
            "default_provider": "deep",
            "fallbacks": ["busy", "moody", "liar", "greedy", "calm"],
            "model_embedding": "bge-m3",
            "embedding_provider": "liar",
            "timeout_ms": 8000,
        },
        "embedding": {"providers": ["liar", "moody", "calm"], "timeout_ms": 4000},
        "providers": providers,
        "models": {
            "fast": {"providers": dict.fromkeys(vendors.NAMES, "m1")},
            "bge-m3": {"providers": dict.fromkeys(("liar", "moody", "calm"), "bge-m3")},
        },
        "spaces": {"bge-m3": {"reference": "reference.json"}},
        "routing": {"canary_seconds": 20},
        "callbacks": {"allow_hosts": ["backend.example.org"]},
        "limits": {"requests_per_minute": CLIENT_REQUESTS_PER_MINUTE},
    }
    # JSON values are YAML: a line a section, so that a cut between two lines loses sections.
    return "".join(f"{name}: {json.dumps(said)}\n" for name, said in sections.items())


class Operator:
    """Edits the file again and again, each time in another way; after each one the good file is there again.

    No edit that loses something stays for as long as such an edit must lie untouched before it counts.
    """

    def __init__(self, path: Path, *, every: float) -> None:
        self._path, self._every = path, every
        self._good = path.read_text(encoding="utf-8")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="operator", daemon=True)
        self.edits = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends after the edit under way; the good file is in its place."""
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        edits: list[Callable[[], None]] = [
            self._replace_whole,
            self._cut_between_sections,
            self._write_slowly,
            self._empty,
            self._say_twice,
            self._cut_in_a_section,
            self._put_a_pipe_there,
            self._break_the_reference,
        ]
        for edit in cycle(edits):
            if self._stop.wait(self._every):
                return
            edit()
            self.edits += 1
            self._put(self._good)

    def _replace_whole(self) -> None:
        self._good = self._good.rpartition("# edit")[0].rstrip("\n") or self._good.rstrip("\n")
        self._good += f"\n# edit {self.edits}\n"
        self._put(self._good)

    def _cut_between_sections(self) -> None:
        self._path.write_text("".join(self._good.splitlines(keepends=True)[:3]), encoding="utf-8")
        self._stop.wait(3)

    def _cut_in_a_section(self) -> None:
        self._path.write_text(self._good[: len(self._good) * 2 // 3], encoding="utf-8")
        self._stop.wait(3)

    def _write_slowly(self) -> None:
        lines = self._good.splitlines(keepends=True)
        with self._path.open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(line)
                file.flush()
                self._stop.wait(0.4)

    def _empty(self) -> None:
        self._path.write_text("", encoding="utf-8")
        self._stop.wait(3)

    def _say_twice(self) -> None:
        self._path.write_text(self._good + 'callbacks: {"allow_hosts": []}\n', encoding="utf-8")
        self._stop.wait(3)

    def _put_a_pipe_there(self) -> None:
        pipe = self._path.with_suffix(".pipe")
        os.mkfifo(pipe)
        pipe.replace(self._path)
        self._stop.wait(3)

    def _break_the_reference(self) -> None:
        reference = self._path.with_name("reference.json")
        good = reference.read_text(encoding="utf-8")
        reference.write_text("{}", encoding="utf-8")
        self._stop.wait(3)
        reference.write_text(good, encoding="utf-8")

    def _put(self, text: str) -> None:
        draft = self._path.with_suffix(".new")
        draft.write_text(text, encoding="utf-8")
        draft.replace(self._path)
