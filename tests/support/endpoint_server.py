"""A model behind HTTP that answers as a SageMaker endpoint does, and fails when told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Model = Callable[[dict[str, Any]], Any]


class EndpointServer:
    """The server; `model` makes the answer of a request."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.delay_s = 0.0
        self.status = 200
        self.error = "ModelError"
        self.asked: list[dict[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def endpoint(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        told = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                told.asked.append({"path": self.path, **request})
                time.sleep(told.delay_s)
                answer = told.model(request)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                if told.status != 200:
                    data = json.dumps({"message": "no"}).encode()
                self.send_response(told.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if told.status != 200:
                    self.send_header("x-amzn-ErrorType", told.error)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler

    def serve(self) -> threading.Thread:
        """Begin to answer."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving_endpoint(model: Model) -> Iterator[EndpointServer]:
    """Yield a server that runs until the block ends."""
    server = EndpointServer(model)
    thread = server.serve()
    try:
        yield server
    finally:
        server.stop()
        thread.join()
