"""`gifty_compute.poll.run`: the poll worker as a function, for a notebook's cell."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from gifty_compute.perform import Verdict
from gifty_compute.perform.running import Running
from gifty_compute.poll.worker import DEFAULT_MODEL, PollWorker, WorkerOptions

__all__ = ["run"]


def run(
    api: str,
    token: str,
    *,
    worker_id: str | None = None,
    models: Sequence[str] = (DEFAULT_MODEL,),
    limit: int = 100,
    deadline: str | None = None,
    spool: str | Path | None = None,
    stop: threading.Event | None = None,
) -> Verdict:
    """Does tasks until the cell is interrupted, `stop` is set, or the session's `deadline` (11h30m) has come.

    The first interrupt drains: what the model has begun is finished, the rest goes back; a second one ends
    the cell at once, and the drain goes on behind it. It installs no signal handler. Raises InvalidConfig,
    EngineError, and Unauthorized for a wrong token.
    """
    options = WorkerOptions(
        api=api,
        token=token,
        worker_id=worker_id,
        running=Running(tuple(models)),
        limit=limit,
        deadline=deadline,
        spool=Path(spool) if spool is not None else None,
    )
    stop = stop or threading.Event()
    verdict = _begun(PollWorker(options, stop))
    try:
        return verdict.result()
    except KeyboardInterrupt:
        if stop.is_set():
            raise
        stop.set()
    return verdict.result()


def _begun(worker: PollWorker) -> Future[Verdict]:
    """The worker at work in a thread of its own.

    An interrupt strikes between any two steps of the main thread, with a lock in hand, say. It only waits.
    """
    verdict: Future[Verdict] = Future()

    def work() -> None:
        try:
            verdict.set_result(worker.run())
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is the caller's
            verdict.set_exception(error)

    threading.Thread(target=work, name="worker", daemon=True).start()
    return verdict
