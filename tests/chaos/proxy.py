"""A TCP proxy that breaks what passes through it: the network to a store, on a bad day."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

__all__ = ["FaultProxy"]

_CHUNK = 64 * 1024


class FaultProxy:
    """Listens on 127.0.0.1 and passes everything on to a Unix socket, until told otherwise.

    `hanging`: nothing passes in either direction, connections stay open. `lose_replies`: requests pass; the
    next reply to each is swallowed and the connection broken, nobody knows what became of the request;
    `lose_reply_to` chooses it by a word in it. `cut` breaks all connections once. Closing the proxy leaves no
    thread and no socket behind.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._flowing = threading.Event()
        self._flowing.set()
        self._losing = 0
        self._word: bytes | None = None
        self._doomed: set[tuple[socket.socket, socket.socket]] = set()
        self._guard = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def __enter__(self) -> FaultProxy:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections; new ones are refused. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._flowing.set()
        # A blocked accept does not notice that its socket is closed; a connection wakes it.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Nothing passes as long as the block runs; afterwards what waited goes on."""
        self._flowing.clear()
        try:
            yield
        finally:
            self._flowing.set()

    def lose_replies(self, count: int) -> None:
        """The next so many replies are swallowed, each with its connection."""
        with self._guard:
            self._losing += count

    def lose_reply_to(self, word: bytes) -> None:
        """The reply to the next request with this word is swallowed, with its connection."""
        with self._guard:
            self._losing, self._word = self._losing + 1, word

    @property
    def still_to_lose(self) -> int:
        with self._guard:
            return self._losing

    def cut(self) -> None:
        """Breaks every connection that is open now."""
        with self._guard:
            pairs = list(self._pairs)
        for pair in pairs:
            self._break(pair)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._closed:
                client.close()
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._target)
            except OSError:
                client.close()
                server.close()
                continue
            pair = (client, server)
            with self._guard:
                self._pairs.add(pair)
            self._start(lambda pair=pair: self._pump(pair, *pair, reply=False))  # type: ignore[misc]
            self._start(lambda pair=pair: self._pump(pair, *reversed(pair), reply=True))  # type: ignore[misc]

    def _pump(
        self,
        pair: tuple[socket.socket, socket.socket],
        source: socket.socket,
        sink: socket.socket,
        *,
        reply: bool,
    ) -> None:
        try:
            while data := source.recv(_CHUNK):
                self._flowing.wait()
                if self._lose(pair, data, reply=reply):
                    break
                sink.sendall(data)
        except OSError:
            pass  # either side has gone, or the pair was broken: both end here
        finally:
            self._break(pair)

    def _lose(self, pair: tuple[socket.socket, socket.socket], data: bytes, *, reply: bool) -> bool:
        """Whether this is a reply that must be lost; a request may doom the reply to it."""
        with self._guard:
            if not reply:
                if self._word is not None and self._word in data:
                    self._word = None
                    self._doomed.add(pair)
                return False
            if self._losing == 0 or ((self._word is not None or self._doomed) and pair not in self._doomed):
                return False
            self._losing -= 1
            self._doomed.discard(pair)
            return True

    def _break(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._guard:
            self._pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="fault-proxy", daemon=True)
        self._threads.append(thread)
        thread.start()
