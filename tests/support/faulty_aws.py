"""A server that stands before one of AWS and fails as AWS may: by seed, in shares of calls."""

from __future__ import annotations

import http.client
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

THROTTLED = "ProvisionedThroughputExceededException"


@dataclass(frozen=True, slots=True)
class Faults:
    """In which share of calls, 0..1, what happens; the first that does, in this order."""

    throttled: float = 0.0
    """Refused: too much was asked."""
    failed: float = 0.0
    """HTTP 500."""
    reset: float = 0.0
    """The connection breaks before the call reaches the service."""
    lost: float = 0.0
    """The service does it, and the connection breaks before the answer comes."""
    slow: float = 0.0
    """The answer comes late."""
    slow_s: float = 0.3
    """So late, s."""
    refused_records: float = 0.0
    """Of PutRecords: the share of records in a call that are refused, the others not."""


class FaultyAws:
    """A proxy on loopback.

    Parameters
    ----------
    endpoint : str
        Address of the server behind it.
    faults : Faults
        What happens.
    seed : int
        Of the draws.
    """

    def __init__(self, endpoint: str, faults: Faults, seed: int = 1) -> None:
        self.faults = faults
        self.throttle_all = False
        """While it is True every call is refused."""
        self.done: Counter[str] = Counter()
        """What happened, and how often; ``passed``: nothing."""
        self.targets: Counter[str] = Counter()
        """The operations asked for (header X-Amz-Target), and how often."""
        self._chance = random.Random(seed)  # noqa: S311
        self._lock = threading.Lock()
        self._upstream = urlsplit(endpoint).netloc
        self._local = threading.local()
        self._opened: list[http.client.HTTPConnection] = []
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self})
        )
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def endpoint(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultyAws:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in self._opened:
            connection.close()

    def fault(self, target: str) -> str:
        """Draw what happens to a call."""
        with self._lock:
            draw = self._chance.random()
            self.targets[target.rpartition(".")[2]] += 1
            name = "passed"
            if self.throttle_all:
                name = "throttled"
            else:
                for kind in ("throttled", "failed", "reset", "lost", "slow"):
                    draw -= getattr(self.faults, kind)
                    if draw < 0:
                        name = kind
                        break
            self.done[name] += 1
            return name

    def chosen(self, count: int) -> list[bool]:
        """Draw which of so many records are refused."""
        with self._lock:
            return [self._chance.random() < self.faults.refused_records for _ in range(count)]

    def ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask the server behind."""
        for fresh in (False, True):
            connection = getattr(self._local, "connection", None)
            if connection is None or fresh:
                connection = http.client.HTTPConnection(self._upstream, timeout=30)
                self._local.connection = connection
                with self._lock:
                    self._opened.append(connection)
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                return answer.status, dict(answer.getheaders()), answer.read()
            except (http.client.HTTPException, OSError):
                connection.close()
                if fresh:
                    raise
        raise AssertionError


class _Handler(BaseHTTPRequestHandler):
    """Serves one connection; its class in use has the proxy."""

    proxy: FaultyAws
    protocol_version = "HTTP/1.1"
    # Without these two each answer takes 44 ms instead of one.
    wbufsize = -1
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        target = self.headers.get("X-Amz-Target") or self.command
        name = self.proxy.fault(target)
        if name == "throttled":
            self._error(400, THROTTLED)
        elif name == "failed":
            self._error(500, "InternalFailureException")
        elif name == "reset":
            self._break()
        else:
            status, headers, told = self._pass_on(target, body)
            if name == "slow":
                time.sleep(self.proxy.faults.slow_s)
            if name == "lost":
                self._break()
            else:
                self._answer(status, headers, told)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve

    def _pass_on(self, target: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {k: v for k, v in self.headers.items() if k.lower() != "content-length"}
        if not (self.proxy.faults.refused_records and target.endswith(".PutRecords")):
            return self.proxy.ask(self.command, self.path, headers, body)
        asked = json.loads(body)
        refused = self.proxy.chosen(len(asked["Records"]))
        kept = [r for r, no in zip(asked["Records"], refused, strict=True) if not no]
        told: dict[str, Any] = {"Records": []}
        status, answered = 200, {"Content-Type": "application/x-amz-json-1.1"}
        if kept:
            text = json.dumps(asked | {"Records": kept}).encode()
            status, answered, raw = self.proxy.ask(self.command, self.path, headers, text)
            if status != 200:
                return status, answered, raw
            told = json.loads(raw)
        taken = iter(told["Records"])
        told["Records"] = [
            {"ErrorCode": THROTTLED, "ErrorMessage": "Slower"} if no else next(taken)
            for no in refused
        ]
        told["FailedRecordCount"] = sum(refused)
        with self.proxy._lock:
            self.proxy.done["records refused"] += sum(refused)
        return status, answered, json.dumps(told).encode()

    def _error(self, status: int, code: str) -> None:
        text = json.dumps({"__type": code, "message": "made up by a test"}).encode()
        self._answer(status, {"Content-Type": "application/x-amz-json-1.1"}, text)

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        left_out = ("content-length", "connection", "transfer-encoding", "date", "server")
        for name, value in headers.items():
            if name.lower() not in left_out:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _break(self) -> None:
        # With no time to linger the other side gets a reset, not an end.
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_told: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, ValueError, OSError):
            return

    def finish(self) -> None:
        try:
            super().finish()
        except (ConnectionError, ValueError, OSError):
            return
