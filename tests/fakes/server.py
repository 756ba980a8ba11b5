"""One HTTP server for all fakes, close enough to the socket to fail in every way that sockets can."""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from gifty_compute.logic import defaults
from tests.fakes.fault import BYTES, ROWS, STATUSES, STREAMS, Fault
from tests.fakes.vendor import Refused, Vendor
from tests.fakes.vendors import vendors

__all__ = ["FakeProviders", "Received"]

_PAGE = b"<html><body>502 Bad Gateway</body></html>"
_DRIP_SECONDS = 0.05


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class FakeProviders:
    """`with FakeProviders() as fake`: every provider below its own path, all healthy until told otherwise."""

    def __init__(self) -> None:
        self.vendors = vendors()
        self._faults: dict[str, tuple[Fault, int]] = {}
        self._received: defaultdict[str, list[Received]] = defaultdict(list)
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self.released = threading.Event()
        """What meets Fault.HELD is answered."""
        self.left = threading.Event()
        """Somebody hung up while a stream was being sent."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fakes = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def base_url(self, provider: str) -> str:
        """Without a slash at its end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{provider}"

    def environ(self, *providers: str) -> dict[str, str]:
        """Good keys and the addresses here of these providers, of all if none is named."""
        found: dict[str, str] = {}
        for name, section in defaults.PROVIDERS.items():
            if section.key_variable and section.base_variable and (not providers or name in providers):
                found[section.key_variable] = "good-key"
                found[section.base_variable] = self.base_url(name)
        return found

    def fault(self, provider: str, fault: Fault, *, times: int = 1_000_000) -> None:
        """From now on the provider fails so, that many times."""
        with self._lock:
            self._faults[provider] = fault, times

    def heal(self, provider: str) -> None:
        with self._lock:
            self._faults.pop(provider, None)

    def calls(self, provider: str) -> list[Received]:
        """What has come for this provider, in order."""
        with self._lock:
            return list(self._received[provider])

    def take(self, provider: str, received: Received) -> Fault | None:
        """Notes a request; the fault that it shall meet."""
        with self._lock:
            self._received[provider].append(received)
            fault, times = self._faults.get(provider, (None, 0))
            if fault is None or times <= 0:
                return None
            self._faults[provider] = fault, times - 1
            return fault


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024
    fakes: FakeProviders


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        try:
            while self._one():
                pass
        except (ConnectionError, TimeoutError, OSError):
            return

    def _one(self) -> bool:
        line = self.rfile.readline().decode("latin-1").split()
        if len(line) != 3:
            return False
        headers: dict[str, str] = {}
        while (header := self.rfile.readline()) not in (b"\r\n", b"\n", b""):
            name, _, value = header.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        raw = self.rfile.read(int(headers.get("content-length", 0)))
        provider, _, path = line[1].lstrip("/").partition("/")
        received = Received(line[0], f"/{path}", headers, json.loads(raw) if raw else None)
        fault = self.server.fakes.take(provider, received)
        return self._answer(self.server.fakes.vendors[provider], received, fault)

    def _answer(self, vendor: Vendor, received: Received, fault: Fault | None) -> bool:
        if fault in STATUSES:
            more = {"retry-after": "30"} if fault is Fault.RATE_LIMITED_WAIT else {}
            return self._send(STATUSES[fault], vendor.error(STATUSES[fault], "as scripted"), more)
        if fault is Fault.HELD:
            self.server.fakes.released.wait()
        if fault in BYTES:
            return self._break(fault)
        if fault is Fault.ERROR_INSIDE:
            return self._send(200, vendor.inside)
        try:
            if not vendor.authorize(received.headers):
                raise Refused(401, "bad key")
            if received.method != vendor.method(received.path):
                raise Refused(405, received.method)
            answer = vendor.answer(received.path, received.body or {})
        except Refused as refused:
            return self._send(refused.status, vendor.error(refused.status, refused.why))
        if isinstance(answer, list) and answer and isinstance(answer[0], bytes):
            return self._stream(answer, fault if fault in STREAMS else None)
        if fault in ROWS:
            _spoil(vendor, answer, fault)
        return self._send(200, answer)

    def _send(self, status: int, body: Any, more: dict[str, str] | None = None) -> bool:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._head(status, {"content-length": str(len(raw)), **(more or {})})
        self.wfile.write(raw)
        return True

    def _head(self, status: int, headers: dict[str, str], kind: str = "application/json") -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode())

    def _break(self, fault: Fault) -> bool:
        closing = self.server.fakes.closing
        match fault:
            case Fault.HTML:
                return self._send(200, _PAGE)
            case Fault.HTML_502:
                return self._send(502, _PAGE)
            case Fault.EMPTY:
                return self._send(200, {})
            case Fault.TRUNCATED_JSON:
                return self._send(200, b'{"data": [{"embedding": [0.1, ')
            case Fault.HANG:
                closing.wait()
            case Fault.HEADERS_ONLY:
                self._head(200, {"content-length": "1000"})
                closing.wait()
            case Fault.DRIP:
                self._head(200, {"content-length": "1000000"})
                while not closing.wait(_DRIP_SECONDS):
                    self.wfile.write(b" ")
            case Fault.TRUNCATED:
                self._head(200, {"content-length": "1000"})
                self.wfile.write(b'{"data"')
            case Fault.RESET:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def _stream(self, events: list[bytes], fault: Fault | None) -> bool:
        closing = self.server.fakes.closing
        self._head(200, {"transfer-encoding": "chunked"}, "text/event-stream")
        for number, event in enumerate(events):
            if fault and any(piece in b"".join(events[:number]) for piece in (b"\\u041f", "П".encode())):
                if fault is Fault.HUNG_STREAM:
                    self._until_left(closing)
                return False
            self._chunk(event)
        self._chunk(b"")
        return True

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _until_left(self, closing: threading.Event) -> None:
        """Waits until the other side hangs up."""
        self.connection.settimeout(0.1)
        while not closing.is_set():
            try:
                if not self.connection.recv(1):
                    self.server.fakes.left.set()
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                self.server.fakes.left.set()
                return


def _spoil(vendor: Vendor, answer: Any, fault: Fault) -> None:
    """Changes the rows of an answer as the fault says."""
    rows = vendor.rows(answer)
    assert rows, f"this answer has no rows to spoil: {list(answer)}"
    match fault:
        case Fault.WRONG_COUNT:
            rows.pop()
        case Fault.PERMUTED:
            rows.reverse()
        case _:
            for number, row in enumerate(rows):
                holder, place = vendor.vector_of(row)
                if holder is None:
                    rows[number] = _spoiled(row, fault)
                else:
                    holder[place] = _spoiled(holder[place], fault)


def _spoiled(values: list[float], fault: Fault) -> list[float]:
    match fault:
        case Fault.NAN:
            return [float("nan"), *values[1:]]
        case Fault.ZERO:
            return [0.0] * len(values)
        case Fault.WRONG_DIMENSION:
            return values[: len(values) // 2]
    return [float(x) for x in np.roll(values, 1)]
