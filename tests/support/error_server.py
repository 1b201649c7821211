"""A server that answers every call of AWS with one error, in the form the caller understands."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ErrorServer(ThreadingHTTPServer):
    """Answers with an error, but for what it lets through.

    Parameters
    ----------
    code : str
        The error's name.
    status : int
        HTTP status.
    """

    daemon_threads = True

    def __init__(self, code: str, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.code, self.status = code, status
        self.knows_us = True
        """Whether GetCallerIdentity is answered well."""

    @property
    def endpoint(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: ErrorServer

    def _answer(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server = self.server
        code, status = server.code, server.status
        if b"Action=GetCallerIdentity" in asked and server.knows_us:
            arn = "arn:aws:sts::123456789012:assumed-role/pho/1"
            text = (
                '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
                f"<GetCallerIdentityResult><Arn>{arn}</Arn><UserId>A</UserId>"
                "<Account>123456789012</Account></GetCallerIdentityResult>"
                "</GetCallerIdentityResponse>"
            )
            self._send(200, "text/xml", text)
        elif self.headers.get("X-Amz-Target"):
            body = json.dumps({"__type": code, "message": "refused"})
            self._send(status, "application/x-amz-json-1.1", body)
        elif self.path.startswith("/v1/"):  # Polly
            self._send(status, "application/json", '{"message": "refused"}')
        elif b"Action=" in asked:
            error = (
                f"<Error><Type>Sender</Type><Code>{code}</Code><Message>refused</Message></Error>"
            )
            self._send(status, "text/xml", f"<ErrorResponse>{error}</ErrorResponse>")
        else:  # S3
            error = f"<Error><Code>{code}</Code><Message>refused</Message></Error>"
            self._send(status, "application/xml", error)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _answer

    def _send(self, status: int, kind: str, text: str) -> None:
        data = b"" if self.command == "HEAD" else text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if status >= 400 and self.path.startswith("/v1/"):
            self.send_header("x-amzn-ErrorType", self.server.code)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def error_server(code: str, status: int = 400) -> Iterator[ErrorServer]:
    """Yield a server that ends with the block."""
    server = ErrorServer(code, status)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
