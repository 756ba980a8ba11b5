"""Keeps services running, and stops them in order."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from gifty_compute.backoff import Backoff
from gifty_compute.clock import Clock, Deadline, SystemClock
from gifty_compute.embedded.child import Child
from gifty_compute.embedded.errors import ChildFailed

__all__ = ["Service", "Supervisor"]

_RESTART = Backoff(base=1, cap=30)
_HEALTHY_AFTER = 60.0
_READY_PAUSE = 0.1
_STOP_PAUSE = 0.1
# The shim's descriptor closes a moment before its status can be read.
_END_LIMIT = 5.0


@dataclass(frozen=True)
class Service:
    """A child, how it shows that it is ready, and when it is stopped (lower stages first)."""

    child: Child
    ready: Callable[[Child], bool]
    stop_stage: int
    # Servers that write to disk take their time even when the operator is in a hurry.
    may_be_hastened: bool = True

    @property
    def name(self) -> str:
        return self.child.name


@dataclass
class _Watch:
    """What the supervisor knows of one service."""

    service: Service
    started_at: float
    pid: int | None
    failures: int = 0
    restart_at: float | None = None


class Supervisor:
    """Starts services, and from `watch` on starts each one again that ends by itself.

    The first restart comes after 1 s, then 2, 4 and so on up to 30 s; a minute of health makes it
    1 s again. `on_change` is called after each restart, when a pid has changed. It and
    `announce` are called from the watching thread.
    """

    def __init__(
        self,
        announce: Callable[[str], None],
        *,
        on_change: Callable[[], None] = lambda: None,
        backoff: Backoff = _RESTART,
        clock: Clock | None = None,
    ) -> None:
        self._announce = announce
        self._on_change = on_change
        self._backoff = backoff
        self._clock = clock or SystemClock()
        self._watches: list[_Watch] = []
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    @property
    def pids(self) -> dict[str, int]:
        """The pid of each program that runs, by its service's name."""
        return {watch.service.name: watch.pid for watch in self._watches if watch.pid is not None}

    def start(self, service: Service) -> None:
        """Start one more service; only before `watch`."""
        service.child.start()
        self._watches.append(_Watch(service, self._clock.monotonic(), service.child.pid))

    def wait_ready(self, limit: float, stop: threading.Event, *, only: str | None = None) -> bool:
        """Wait until every service, or the one named, is ready; False when `stop` was set first.

        Raises ChildFailed with the end of its log for a service that ends, or that is not
        ready after `limit` seconds.
        """
        deadline = Deadline.after(limit, self._clock)
        waiting = [watch.service for watch in self._watches if only in (None, watch.service.name)]
        while waiting := [service for service in waiting if not _is_ready(service)]:
            if deadline.expired:
                late = waiting[0].child
                raise ChildFailed(
                    f"{late.name} is not ready after {limit:.0f} s; {late.log_path} ends:\n{late.log_tail()}"
                )
            if stop.wait(_READY_PAUSE):
                return False
        return not stop.is_set()

    def watch(self) -> None:
        """From now on, start again what ends."""
        self._thread.start()

    def stop(self, hasten: threading.Event) -> None:
        """Stop all services, stage by stage; once `hasten` is set, kill what may be hastened."""
        if self._thread.is_alive():
            self._wake.send(b"x")
            self._thread.join()
        for stage in sorted({watch.service.stop_stage for watch in self._watches}):
            services = [w.service for w in self._watches if w.service.stop_stage == stage]
            for service in services:
                service.child.request_stop()
            for service in services:
                self._await_end(service, hasten)
        self._watches.clear()
        self._wake.close()
        self._woken.close()

    def _await_end(self, service: Service, hasten: threading.Event) -> None:
        child = service.child
        deadline = Deadline.after(child.stop_limit, self._clock)
        hastened = False
        while child.wait(_STOP_PAUSE) is None and not deadline.expired:
            if hasten.is_set() and service.may_be_hastened and not hastened:
                child.request_stop()
                hastened = True
        child.close()

    def _watch(self) -> None:
        while (ended := self._wait()) is not None:
            for watch in ended:
                self._note_end(watch)
            for watch in self._watches:
                if watch.restart_at is not None and watch.restart_at <= self._clock.monotonic():
                    self._restart(watch)

    def _wait(self) -> list[_Watch] | None:
        """Wait until a service ends or is due again; those that ended, or None to stop watching."""
        due = [watch.restart_at for watch in self._watches if watch.restart_at is not None]
        timeout = max(0.0, min(due) - self._clock.monotonic()) if due else None
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            for watch in self._watches:
                if watch.restart_at is None:
                    selector.register(watch.service.child, selectors.EVENT_READ, watch)
            keys = [key for key, _ in selector.select(timeout)]
        if any(key.fileobj is self._woken for key in keys):
            return None
        return [key.data for key in keys]

    def _note_end(self, watch: _Watch) -> None:
        child = watch.service.child
        status = child.wait(_END_LIMIT)
        watch.pid = None
        now = self._clock.monotonic()
        if now - watch.started_at >= _HEALTHY_AFTER:
            watch.failures = 0
        watch.failures += 1
        delay = self._backoff.ceiling(watch.failures)
        watch.restart_at = now + delay
        self._announce(
            f"{child.name} ended with status {status}; it starts again in {delay:g} s (log: {child.log_path})"
        )

    def _restart(self, watch: _Watch) -> None:
        watch.restart_at = None
        watch.started_at = self._clock.monotonic()
        try:
            watch.service.child.start()
        except ChildFailed:
            self._note_end(watch)
            return
        watch.pid = watch.service.child.pid
        self._announce(f"{watch.service.name} runs again, as process {watch.pid}")
        self._on_change()


def _is_ready(service: Service) -> bool:
    child = service.child
    if (status := child.poll()) is not None:
        raise ChildFailed(
            f"{child.name} ended with status {status} before it was ready;"
            f" {child.log_path} ends:\n{child.log_tail()}"
        )
    return service.ready(child)
