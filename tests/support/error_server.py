"""A server that answers every call of AWS with one error, in the form the caller understands."""

from __future__ import annotations

import json

from http_servers import HttpServer, QuietHandler


class ErrorServer(HttpServer):
    """Answers with an error, but for what it lets through.

    Parameters
    ----------
    code : str
        The error's name.
    status : int
        HTTP status.
    """

    def __init__(self, code: str, status: int = 400) -> None:
        super().__init__(_Handler)
        self.code, self.status = code, status
        self.knows_us = True
        """Whether GetCallerIdentity is answered well."""


class _Handler(QuietHandler):
    server: ErrorServer

    def _answer(self) -> None:
        asked = self.body()
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
            self.send(200, "text/xml", text.encode())
        elif self.headers.get("X-Amz-Target"):
            body = json.dumps({"__type": code, "message": "refused"})
            self.send(status, "application/x-amz-json-1.1", body.encode())
        elif self.path.startswith("/v1/"):  # Polly
            self.send(status, "application/json", b'{"message": "refused"}', code)
        elif b"Action=" in asked:
            error = (
                f"<Error><Type>Sender</Type><Code>{code}</Code><Message>refused</Message></Error>"
            )
            self.send(status, "text/xml", f"<ErrorResponse>{error}</ErrorResponse>".encode())
        else:  # S3
            error = f"<Error><Code>{code}</Code><Message>refused</Message></Error>"
            self.send(status, "application/xml", error.encode())

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _answer
