"""The worker's doctor: what a worker needs, one check after the other, each failure with its fix."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import uuid4

import requests

from gifty_compute.arrays import np
from gifty_compute.clock import Clock
from gifty_compute.door import innermost
from gifty_compute.engines.inference import Inference
from gifty_compute.errors import EngineError, GiftyComputeError, InvalidConfig, Unauthorized
from gifty_compute.logic.recipe import Recipe
from gifty_compute.logic.source import DEFAULT_LOGIC
from gifty_compute.perform import TaskSource
from gifty_compute.perform.pace import WINDOW_SECONDS
from gifty_compute.poll.machine import describe
from gifty_compute.wire.kinds import KINDS
from gifty_compute.wire.task import Holder, Want

__all__ = ["Doctor", "Finding"]

_TIMEOUT = (5.0, 15.0)
# Leases are told as durations, so a wrong clock spoils certificates and logs alone.
_MOST_SKEW_SECONDS = 60.0
_MEASURE_SECONDS = 2.0
_MEASURED_TEXTS = 32
_TITLES = ("Набор блёсен в деревянной коробке", "Чайник со свистком", "Плед из шерсти мериноса")
# Two that are alike and one that is not: a model that finds otherwise is not itself on this machine.
_THREE = ("удочка для рыбалки", "спиннинг рыбаку", "губная помада")


@dataclass(frozen=True)
class Finding:
    """One check: what was found, and if that is bad, what to do about it."""

    check: str
    said: str
    fix: str | None = None

    @property
    def ok(self) -> bool:
        return self.fix is None


@dataclass(frozen=True)
class Doctor:
    """Looks at everything between this machine and its first task; it claims none."""

    api: str
    source: TaskSource
    models: tuple[str, ...]
    inference: Inference
    clock: Clock
    recipe: Callable[[str], Recipe] = DEFAULT_LOGIC.recipe
    """How each of the models is run here, and so what kinds of work it does."""

    def findings(self) -> Iterator[Finding]:
        """Each as soon as it is there. What cannot be looked at without the one before is left out."""
        reached = list(self._facade())
        yield from reached
        if all(finding.ok for finding in reached):
            yield from self._token()
        yield Finding("machine", ", ".join(describe(self.models)["gpu"]))
        for model in self.models:
            yield from self._model(model)

    def _facade(self) -> Iterator[Finding]:
        try:
            answer = requests.get(f"{self.api}/healthz", timeout=_TIMEOUT, allow_redirects=False)
        except requests.RequestException as error:
            fix = "check the address and this machine's way to it: name, port, proxy, certificate"
            yield Finding("facade", f"{self.api} gives no answer: {innermost(error)}", fix)
            return
        if answer.status_code != 200:
            said = f"{self.api}/healthz was answered {answer.status_code}"
            yield Finding("facade", said, "give --api the address of a facade, without a path behind it")
            return
        yield Finding("facade", f"{self.api} answers in {answer.elapsed.total_seconds() * 1000:.0f} ms")
        yield self._clock(answer.headers.get("Date"))

    def _clock(self, date: str | None) -> Finding:
        if date is None:
            return Finding("clock", "the server does not say its time")
        skew = (self.clock.now() - parsedate_to_datetime(date)).total_seconds()
        said = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server"
        fix = "set this machine's clock (NTP)" if abs(skew) > _MOST_SKEW_SECONDS else None
        return Finding("clock", said, fix)

    def _token(self) -> Iterator[Finding]:
        """Asks for a task that does not exist, once for each type: so it learns what the token may do."""
        allowed, able = [], self._kinds()
        holder = Holder(worker_id="doctor", session=uuid4().hex)
        try:
            for kind in (*KINDS, *sorted(able - set(KINDS))):
                if self._may(holder, kind):
                    allowed.append(kind)
            drain = self.source.extend(holder, []).drain
        except Unauthorized as error:
            fix = "set GIFTY_WORKER_TOKEN to a token of `gifty-compute tokens create`, or ask for a new one"
            yield Finding("token", error.message, fix)
            return
        except GiftyComputeError as error:
            yield Finding("token", error.message, "try again; if it stays so, tell who runs the facade")
            return
        if not allowed:
            yield Finding("token", "it may claim nothing", "ask for a token that is valid and has a scope")
            return
        yield Finding("token", "valid")
        both = [kind for kind in allowed if kind in able]
        said = f"tasks of {', '.join(both)} by {', '.join(self.models)}"
        if not both:
            fix = "give a --model that does such work, or ask for a token that is for the model's"
            does = ", ".join(sorted(able)) or "no known work"
            token_for = f"the token is for {', '.join(allowed)}"
            yield Finding("claims", f"nothing: {token_for}; {', '.join(self.models)} does {does}", fix)
        elif drain:
            fix = "ask who runs the facade: workers are switched off, or this token is in quarantine"
            yield Finding("claims", f"nothing now, though the token is for {said}", fix)
        else:
            yield Finding("claims", said)

    def _kinds(self) -> set[str]:
        """What the models do. One that is unknown here has a finding of its own."""
        found: set[str] = set()
        for model in self.models:
            with contextlib.suppress(InvalidConfig):
                found |= self.recipe(model).kinds
        return found

    def _may(self, holder: Holder, kind: str) -> bool:
        nothing = (uuid4(),)
        want = Want(task_types=(kind,), models=self.models, ids=nothing, limit=1, claim_id=uuid4())
        try:
            self.source.claim(holder, want)
        except Unauthorized:
            return False
        return True

    def _model(self, model: str) -> Iterator[Finding]:
        began = self.clock.monotonic()
        try:
            engine = self.inference.load(model)
            yield Finding(f"model {model}", f"loaded in {self.clock.monotonic() - began:.1f} s")
            if "embedding" in engine.kinds:
                yield self._self_test(model)
                yield self._rate(model)
            else:
                yield Finding(f"rate {model}", "not measured: it makes no embeddings")
        except EngineError as error:
            yield Finding(f"model {model}", error.message, "mend what it names, or give another --model")

    def _self_test(self, model: str) -> Finding:
        rows = np.asarray(self._embedded(model, list(_THREE)), dtype=np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        like, unlike = float(rows[0] @ rows[1]), float(rows[0] @ rows[2])
        said = f"two texts that are alike {like:.3f}, two that are not {unlike:.3f}"
        fix = "install the package anew: this model is damaged, or wrong for this machine"
        return Finding(f"self-test {model}", said, None if np.isfinite(rows).all() and like > unlike else fix)

    def _rate(self, model: str) -> Finding:
        texts = [f"{_TITLES[n % len(_TITLES)]} {n}" for n in range(_MEASURED_TEXTS)]
        began, count = self.clock.monotonic(), 0
        while (seconds := self.clock.monotonic() - began) < _MEASURE_SECONDS:
            self._embedded(model, texts)
            count += len(texts)
        rate = count / seconds
        ahead = f"so it will hold up to {rate * WINDOW_SECONDS:.0f} texts of work"
        return Finding(f"rate {model}", f"{rate:.0f} short texts a second; {ahead}")

    def _embedded(self, model: str, texts: list[str]) -> Any:
        payload = {"texts": texts, "input_type": "query"}
        return self.inference.submit(model, "embedding", payload).result()["embeddings"]
