"""A shift: for some minutes a serverless worker does low-priority tasks, as a poll worker does."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import asdict
from random import Random
from uuid import uuid4

from pydantic import Field

from gifty_compute.clock import Clock, Deadline
from gifty_compute.engines.inference import Inference
from gifty_compute.errors import InvalidRequest, Unavailable
from gifty_compute.perform import Tools
from gifty_compute.perform.running import Running
from gifty_compute.poll.client import PollClient
from gifty_compute.poll.loop import PollLoop
from gifty_compute.poll.machine import describe
from gifty_compute.settings import BridgeSettings
from gifty_compute.wire.body import Body
from gifty_compute.wire.kinds import KINDS
from gifty_compute.wire.task import Holder, Want

__all__ = ["ShiftRequest", "Shifts"]

_LOOK_SECONDS = 0.5


class ShiftRequest(Body):
    """What a job says under `shift`. The endpoint's execution timeout must be longer."""

    seconds: float = Field(ge=1, le=86_400)
    idle_seconds: float = Field(default=30, ge=1, description="It ends when nothing came for so long.")


class Shifts:
    """One at a time in a process; its tasks share the model with the jobs that come meanwhile."""

    def __init__(
        self, inference: Inference, models: tuple[str, ...], bridge: BridgeSettings, clock: Clock
    ) -> None:
        self._inference, self._models, self._bridge, self._clock = inference, models, bridge, clock
        self._busy = threading.Lock()

    def run(self, asked: ShiftRequest) -> dict[str, int]:
        """Counts of what was done. Raises Unavailable while another shift lasts, and what a claim raises."""
        if not self._bridge.is_given:
            raise InvalidRequest("a shift needs GIFTY_COMPUTE_URL and GIFTY_WORKER_TOKEN", param="shift")
        if not self._busy.acquire(blocking=False):
            raise Unavailable("this worker has a shift already")
        try:
            return self._run(asked)
        finally:
            self._busy.release()

    def _run(self, asked: ShiftRequest) -> dict[str, int]:
        info = {**describe(self._models), "program": "runpod"}
        client = PollClient(
            self._bridge.gifty_compute_url,
            self._bridge.gifty_worker_token.get_secret_value(),
            info=lambda: info,
        )
        stop = threading.Event()
        loop = PollLoop(
            source=client,
            holder=Holder(worker_id=worker_id(), session=uuid4().hex),
            want=Want(task_types=tuple(KINDS), models=self._models, limit=100),
            performer=Running(self._models).performer(self._inference),
            tools=Tools(stop=stop, rng=Random(), clock=self._clock),  # noqa: S311  # jitter
            session=Deadline.after(asked.seconds, self._clock),
        )
        watch = threading.Thread(
            target=self._end_when_idle, args=(loop, stop, asked.idle_seconds), name="shift", daemon=True
        )
        watch.start()
        try:
            return asdict(loop.run())
        finally:
            stop.set()
            watch.join()

    def _end_when_idle(self, loop: PollLoop, stop: threading.Event, idle_seconds: float) -> None:
        seen, until = loop.line.verdict, Deadline.after(idle_seconds, self._clock)
        while not stop.wait(_LOOK_SECONDS):
            if loop.line.in_hand or loop.line.verdict != seen:
                seen, until = loop.line.verdict, Deadline.after(idle_seconds, self._clock)
            elif until.expired:
                stop.set()


def worker_id() -> str:
    """What operators see: RunPod's own name of this worker."""
    return f"runpod-{os.environ.get('RUNPOD_POD_ID') or socket.gethostname()}"
