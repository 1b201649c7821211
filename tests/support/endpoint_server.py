"""A model behind HTTP that answers as a SageMaker endpoint does, and fails when told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from http_servers import HttpServer, QuietHandler

Model = Callable[[dict[str, Any]], Any]


class EndpointServer(HttpServer):
    """The server; `model` makes the answer of a request."""

    def __init__(self, model: Model) -> None:
        super().__init__(_Handler)
        self.model = model
        self.delay_s = 0.0
        self.status = 200
        self.error = "ModelError"
        self.asked: list[dict[str, Any]] = []
        self.most_at_once = 0
        """The most requests that were answered at the same time."""
        self._at_once = 0
        self._lock = threading.Lock()

    def answer(self, request: dict[str, Any]) -> bytes:
        """Return what is said to a request, after the delay."""
        self.asked.append(request)
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(self.delay_s)
        answer = self.model(request)
        with self._lock:
            self._at_once -= 1
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


class _Handler(QuietHandler):
    server: EndpointServer

    def do_POST(self) -> None:
        server = self.server
        data = server.answer({"path": self.path, **json.loads(self.body())})
        if server.status == 200:
            self.send(200, "application/json", data)
        else:
            self.send(server.status, "application/json", b'{"message": "no"}', server.error)
