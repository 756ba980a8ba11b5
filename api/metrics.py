"""/metrics for operators: requests, attempts at providers, circuits, spaces, costs and the logic in force."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TypeVar

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector

from api.admission import admission
from api.facade import Facade, this_request
from api.operation import core, operation
from gifty_compute.core import Core
from gifty_compute.errors import StoreUnavailable
from gifty_compute.queue.samples import Sample

__all__ = ["blueprint", "install"]

blueprint = Blueprint("metrics", __name__)
_QUEUE = ("task_type", "model")
_QUEUE_GAUGES = {
    "ready": "Tasks that could be claimed now; 100001 means that many or more",
    "delayed": "Tasks that wait for the end of a backoff",
    "processing": "Tasks that a worker holds",
    "oldest_seconds": "How long the oldest ready task has waited",
    "workers": "Workers that take such tasks and were heard of within 90 seconds",
}
_QUEUE_COUNTERS = {"done": "Tasks that were completed", "failed": "Tasks that failed for good"}
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)


def install(app: Facade, core: Core) -> None:
    """Counts every answer of the application, by the path's pattern and the status, and says what it took."""
    registry, clock = core.high.registry, core.clock
    answers = Counter("gifty_answers", "Answers", ("path", "status"), registry=registry)
    seconds = Histogram(
        "gifty_answer_seconds", "Until an answer begins", ("path",), buckets=_BUCKETS, registry=registry
    )

    # The library's own way to a labelled child costs more than counting.
    of_status = functools.cache(lambda path, status: answers.labels(path, str(status)))
    of_path = functools.cache(seconds.labels)

    def begin() -> None:
        this_request().began = clock.monotonic()

    def count(answer: Response) -> Response:
        asked = this_request()
        path = asked.url_rule.rule if asked.url_rule else "none"
        of_status(path, answer.status_code).inc()
        took = clock.monotonic() - asked.began
        of_path(path).observe(took)
        answer.headers.add("Server-Timing", f"app;dur={took * 1000:.1f}")
        return answer

    app.before_request(begin)
    app.after_request(count)


class _State:
    """What is read off the core at the moment of a look."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def collect(self) -> Iterator[Metric]:
        high, watch = self._core.high, self._core.logic_watch
        circuits = GaugeMetricFamily("gifty_circuit_open", "1: open, 0.5: half-open", labels=("circuit",))
        for name, state in high.breakers.states().items():
            circuits.add_metric((name,), {"closed": 0.0, "half-open": 0.5, "open": 1.0}[state])
        yield circuits
        spaces = GaugeMetricFamily("gifty_provider_drifted", "1: out of its space", labels=("circuit",))
        for name, standing in high.canaries.standings().items():
            spaces.add_metric((name,), 1.0 if standing == "drifted" else 0.0)
        yield spaces
        spent = GaugeMetricFamily("gifty_spent_today_usd", "Known cost of today, UTC", labels=("provider",))
        for provider in watch.current.file.providers:
            spent.add_metric((provider,), high.budgets.spent_usd(provider))
        yield spent
        workers = GaugeMetricFamily(
            "gifty_fleet_workers", "Poll workers, by the numbers they compute in", labels=("precision",)
        )
        for precision, count in self._core.fleet.precisions().items():
            workers.add_metric((precision,), count)
        yield workers
        yield _places()
        rejected = GaugeMetricFamily("gifty_logic_rejected", "Versions of logic.yaml that were refused")
        rejected.add_metric((), watch.rejected)
        yield rejected
        waiting = GaugeMetricFamily(
            "gifty_logic_waiting", "1: a version of logic.yaml waits, it loses something"
        )
        waiting.add_metric((), 0.0 if watch.waiting is None else 1.0)
        yield waiting
        yield from self._queue()
        version = GaugeMetricFamily("gifty_logic", "1 for the version in force", labels=("version",))
        version.add_metric((watch.current.version,), 1.0)
        yield version

    def _queue(self) -> Iterator[Metric]:
        """The newest sample, if it is of now; its age in any case, infinite where none can be read."""
        try:
            sample = self._core.samples.newest()
        except StoreUnavailable:
            sample = Sample(float("inf"))
        age = GaugeMetricFamily("gifty_queue_sampled_seconds", "How old the newest sample of the queue is")
        age.add_metric((), sample.age_seconds)
        yield age
        for name, what in _QUEUE_GAUGES.items():
            family = GaugeMetricFamily(f"gifty_queue_{name}", what, labels=_QUEUE)
            yield _of_each(family, name, sample)
        for name, what in _QUEUE_COUNTERS.items():
            counter = CounterMetricFamily(f"gifty_queue_{name}", what, labels=_QUEUE)
            yield _of_each(counter, f"{name}_total", sample)


_Family = TypeVar("_Family", GaugeMetricFamily, CounterMetricFamily)


def _of_each(family: _Family, field: str, sample: Sample) -> _Family:
    for one in sample.queues if sample.is_fresh else ():
        family.add_metric((one.task_type, one.model), getattr(one, field))
    return family


def _places() -> Metric:
    found = GaugeMetricFamily(
        "gifty_places", "Requests at work and in line, and the places of this kind", labels=("kind", "state")
    )
    for kind, seen in admission().occupancy().items():
        for state, count in (("all", seen.size), ("taken", seen.taken), ("waiting", seen.waiting)):
            found.add_metric((kind, state), count)
    return found


@blueprint.get("/metrics")
@operation(scope="ops", answers={200: None}, errors=(401,), text="text/plain")
def metrics() -> Response:
    """Counts of all processes that share a directory, else of this one; the state as this one knows it."""
    shared = core().settings.prometheus_multiproc_dir
    counts = core().high.registry
    if shared is not None:
        counts = CollectorRegistry(auto_describe=False)
        MultiProcessCollector(counts, str(shared))  # type: ignore[no-untyped-call]
    state = CollectorRegistry(auto_describe=False)
    state.register(_State(core()))
    return Response(generate_latest(counts) + generate_latest(state), content_type=CONTENT_TYPE_LATEST)
