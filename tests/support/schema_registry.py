"""A schema registry for tests: the part of Confluent's REST contract that PHO uses.

Apicurio Registry 3.3.3 (160 MB, Java 21) answered the same calls the same way under
``/apis/ccompat/v7``; it is too large to be fetched by every run of the tests.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote

_MEDIA = "application/vnd.schemaregistry.v1+json"


class SchemaRegistry(BaseHTTPRequestHandler):
    """Ids are counted from 1 over all subjects; a schema has one id wherever it is registered."""

    schemas: ClassVar[dict[int, str]]
    subjects: ClassVar[dict[str, list[int]]]
    levels: ClassVar[dict[str, str]]
    asked: ClassVar[list[str]]
    password: ClassVar[str]

    def do_GET(self) -> None:
        parts = self._parts()
        match parts:
            case ["subjects", subject, "versions"] if subject in self.subjects:
                self._answer(200, list(range(1, len(self.subjects[subject]) + 1)))
            case ["schemas", "ids", number] if int(number) in self.schemas:
                self._answer(200, {"schema": self.schemas[int(number)]})
            case _:
                self._answer(404, {"error_code": 40403, "message": "not found"})

    def do_PUT(self) -> None:
        _, subject = self._parts()
        self.levels[subject] = self._body()["compatibility"]
        self._answer(200, {"compatibility": self.levels[subject]})

    def do_POST(self) -> None:
        _, subject, _ = self._parts()
        schema = self._body()["schema"]
        names = [json.loads(self.schemas[n])["name"] for n in self.subjects.get(subject, [])]
        other = any(name != json.loads(schema)["name"] for name in names)
        if other and self.levels.get(subject, "BACKWARD") != "NONE":
            self._answer(409, {"error_code": 409, "message": "incompatible"})
            return
        known = [number for number, text in self.schemas.items() if text == schema]
        number = known[0] if known else len(self.schemas) + 1
        self.schemas[number] = schema
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        self._answer(200, {"id": number})

    def _parts(self) -> list[str]:
        self.asked.append(f"{self.command} {self.path}")
        return [unquote(part) for part in self.path.strip("/").split("/")]

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, status: int, body: Any) -> None:
        if self.password and self.headers.get("Authorization") != self.password:
            status, body = 401, {"error_code": 401, "message": "who are you"}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", _MEDIA)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def schema_registry(password: str = "") -> Iterator[tuple[str, type[SchemaRegistry]]]:
    """Run a registry; yield its address, and the class that holds what it knows."""
    empty: dict[str, Any] = {"schemas": {}, "subjects": {}, "levels": {}, "asked": []}
    handler = type("Fresh", (SchemaRegistry,), {**empty, "password": password})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
