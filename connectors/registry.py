"""The Confluent wire format: records name their schema by an id that a schema registry gave it.

``00``, the id in four bytes (big-endian), then the datum; our own encoding has ``C3 01`` and the
schema's fingerprint before the same datum. So records are turned without being decoded.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.codec import MARKER, released
from schemas.errors import LogUnavailable, UnknownSchema, UsageError

MAGIC = b"\x00"
TIME_LIMIT_S = 10.0
"""How long one question to the registry may take."""
ASK_AGAIN_S = 10.0
"""An id the registry did not know is asked for again after this: it may have been behind."""

_WIRE_HEADER = 5
_OWN_HEADER = 10
_MEDIA = "application/vnd.schemaregistry.v1+json"
_INCOMPATIBLE, _NOT_FOUND = 409, 404
_REFUSED = (401, 403)


class RegistryFormat:
    """Our encoding to the registry's and back.

    A schema is registered when its first record is written, under the subject ``TOPIC-value``
    (TopicNameStrategy). Several records share a topic (Ticks stand among the events), so a subject
    that is not there yet is made with the compatibility ``NONE``; PHO's own tests keep its schemas
    compatible.

    Parameters
    ----------
    url : str
        Address of the registry.
    username, password : str
        Who asks; empty: nobody.
    ca_file : Path, optional
        PEM file of who signs its certificate; None: those the system trusts.

    Raises
    ------
    UsageError
        When the address is none, or holds a password.
    """

    def __init__(
        self, url: str, username: str = "", password: str = "", ca_file: Path | None = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            problem = "the registry's address is no http or https address"
            raise UsageError(problem, "Write http://host:8081")
        if "@" in parts.netloc:
            problem = "the registry's address holds a user"
            raise UsageError(problem, "Give user and password by settings of their own")
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": _MEDIA, "Accept": _MEDIA}
        if username:
            token = base64.b64encode(f"{username}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        self._tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._ids: dict[tuple[str, bytes], bytes] = {}
        self._own_headers: dict[bytes, bytes] = {}
        self._foreign: dict[bytes, tuple[float, UnknownSchema]] = {}
        self._lock = threading.Lock()

    def to_wire(self, topic: str, value: bytes) -> bytes:
        """Return a record of ours as the registry's readers take it.

        Parameters
        ----------
        topic : str
            Where it goes; names the subject.
        value : bytes
            In single-object encoding; bytes that are none of ours stay as they are.

        Raises
        ------
        LogUnavailable
            When the registry cannot be asked, or refuses the schema.
        """
        header = value[:_OWN_HEADER]
        if header not in released():
            return value
        found = self._ids.get((topic, header))
        if found is None:
            with self._lock:
                found = self._register(f"{topic}-value", released()[header].text)
            self._ids[topic, header] = found
        return found + value[_OWN_HEADER:]

    def from_wire(self, value: bytes) -> bytes:
        """Return a record in single-object encoding, whichever of both it came in.

        Raises
        ------
        UnknownSchema
            When its id is unknown to the registry, or its schema is none that PHO released.
        LogUnavailable
            When the registry cannot be asked.
        """
        if value.startswith(MARKER) or not value.startswith(MAGIC):
            return value
        wire = value[:_WIRE_HEADER]
        found = self._own_headers.get(wire)
        if found is None:
            found = self._looked_up(wire)
        return found + value[_WIRE_HEADER:]

    def _register(self, subject: str, schema: str) -> bytes:
        place = f"/subjects/{quote(subject, safe='')}"
        if self._call("GET", f"{place}/versions") is None:
            self._call("PUT", f"/config/{quote(subject, safe='')}", {"compatibility": "NONE"})
        answer = self._call("POST", f"{place}/versions", {"schema": schema, "schemaType": "AVRO"})
        if answer is None:
            problem = f"the registry {self._url} takes no schema for {subject}"
            raise LogUnavailable(problem, "Check that the address is that of a schema registry")
        return MAGIC + int(answer["id"]).to_bytes(4, "big")

    def _looked_up(self, wire: bytes) -> bytes:
        asked_s, error = self._foreign.get(wire, (0.0, None))
        if error is not None and time.monotonic() - asked_s < ASK_AGAIN_S:
            raise error
        try:
            found = self._header_of(wire)
        except UnknownSchema as error:
            # A topic full of foreign records asks once, not once a record.
            self._foreign[wire] = time.monotonic(), error
            raise
        self._own_headers[wire] = found
        return found

    def _header_of(self, wire: bytes) -> bytes:
        number = int.from_bytes(wire[1:], "big")
        answer = self._call("GET", f"/schemas/ids/{number}") if len(wire) == _WIRE_HEADER else None
        if answer is None:
            problem = f"the registry {self._url} knows no schema {number}"
            raise UnknownSchema(problem, "The record was written with another registry, or torn")
        try:
            canonical = to_parsing_canonical_form(json.loads(answer["schema"]))
            header = MARKER + bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))
        except Exception as error:
            problem = f"schema {number} of the registry is no Avro schema"
            raise UnknownSchema(problem, "See what else writes to this topic") from error
        if header not in released():
            problem = f"schema {number} of the registry is none that PHO ever released"
            raise UnknownSchema(problem, "See what else writes to this topic")
        return header

    def _call(self, method: str, path: str, body: dict[str, str] | None = None) -> Any:
        """Return the registry's answer; None: there is no such thing (404)."""
        data = None if body is None else json.dumps(body).encode()
        # The scheme is checked in the constructor.
        request = urllib.request.Request(  # noqa: S310
            f"{self._url}{path}", data=data, headers=self._headers, method=method
        )
        try:
            with urllib.request.urlopen(  # noqa: S310
                request, timeout=TIME_LIMIT_S, context=self._tls
            ) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == _NOT_FOUND:
                    return None
                raise self._refusal(error.code, path, error.read(300)) from error
        except (OSError, ValueError) as error:
            problem = f"the schema registry {self._url} does not answer ({error})"
            raise LogUnavailable(problem, "Check that it runs; nothing was written") from error

    def _refusal(self, status: int, path: str, text: bytes) -> LogUnavailable:
        said = text.decode(errors="replace")
        problem = f"the schema registry {self._url} refuses {path} ({status}: {said})"
        if status in _REFUSED:
            return LogUnavailable(problem, "Check user and password, and what they may do there")
        if status == _INCOMPATIBLE:
            return LogUnavailable(
                problem, "Set that subject's compatibility to NONE: its topic has several records"
            )
        return LogUnavailable(problem, "Look into the registry's own log")
