"""Where a Kafka cluster is, how its topics are named, and how one shows who one is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from schemas.errors import UsageError

SCHEME = "kafka://"
DEFAULT_PORT = 9092

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_EXAMPLE = "Write kafka://host:9092/prefix, several servers with commas, the prefix as you like"
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
# Kafka takes 249 characters for a topic; the longest of our streams has 12.
_PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """The servers of a cluster, and what the names of our topics start with."""

    servers: tuple[str, ...]
    """``host:port`` of at least one; the client learns the others from it."""
    prefix: str = ""
    """Topics are ``prefix.stream``; empty: ``stream`` alone."""

    @classmethod
    def parse(cls, text: str) -> KafkaAddress:
        """Read ``kafka://host:9092,host2:9092/prefix``.

        Raises
        ------
        UsageError
            When it is no such address; the message says where it is wrong.
        """
        if not text.startswith(SCHEME):
            problem = f"{text!r} is no address of a Kafka cluster"
            raise UsageError(problem, _EXAMPLE)
        if "@" in text:
            # Not repeated in the message: it may hold a password.
            problem = "a Kafka address holds no user and no password"
            raise UsageError(problem, "Give them by the settings [kafka] username and password")
        places, _, prefix = text.removeprefix(SCHEME).partition("/")
        prefix = prefix.removesuffix("/")
        if prefix and not _PREFIX.fullmatch(prefix):
            problem = f"{prefix!r} cannot be the start of a topic's name"
            raise UsageError(problem, "Use up to 200 letters, digits, '.', '_' and '-'")
        return cls(tuple(_server(place.strip()) for place in places.split(",")), prefix)

    def topic(self, stream: str) -> str:
        """Return the topic of a stream."""
        return f"{self.prefix}.{stream}" if self.prefix else stream

    @property
    def bootstrap(self) -> str:
        """The servers as clients take them, with commas."""
        return ",".join(self.servers)

    def __str__(self) -> str:
        return f"{SCHEME}{self.bootstrap}" + (f"/{self.prefix}" if self.prefix else "")


def _server(place: str) -> str:
    if not place:
        problem = "a Kafka address names no server, or one of its servers is empty"
        raise UsageError(problem, _EXAMPLE)
    host, port = place, str(DEFAULT_PORT)
    if not place.endswith("]") and ":" in place:
        host, _, port = place.rpartition(":")
    if not _HOST.fullmatch(host):
        problem = f"{host!r} is no name of a server"
        raise UsageError(problem, f"{_EXAMPLE}; an IPv6 address stands in [brackets]")
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65_536):
        problem = f"{place!r} has no port between 1 and 65535"
        raise UsageError(problem, _EXAMPLE)
    return f"{host}:{int(port)}"


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """How a client proves who it is, and whom it believes.

    Raises
    ------
    UsageError
        When its parts do not belong together.
    """

    protocol: Protocol = "PLAINTEXT"
    """How the connection is made."""
    mechanism: Mechanism = ""
    """How user and password are given; with the SASL protocols only."""
    username: str = ""
    """Who connects."""
    password: str = field(default="", repr=False)
    """Never shown."""
    ca_file: Path | None = None
    """PEM file of who signs the brokers' certificates; None: those the system trusts."""
    certificate_file: Path | None = None
    """PEM file of the client's own certificate, where brokers ask for one."""
    key_file: Path | None = None
    """PEM file of its key, without a password."""

    def __post_init__(self) -> None:
        sasl = self.protocol.startswith("SASL_")
        if sasl and not (self.mechanism and self.username and self.password):
            problem = f"{self.protocol} needs a mechanism, a username and a password"
            raise UsageError(problem, "Set them in [kafka], the password by PHO_KAFKA__PASSWORD")
        if not sasl and (self.mechanism or self.username or self.password):
            problem = f"{self.protocol} takes no mechanism, username or password"
            raise UsageError(problem, "Use SASL_SSL, or leave them out")
        files = [f for f in (self.ca_file, self.certificate_file, self.key_file) if f is not None]
        if files and not self.protocol.endswith("SSL"):
            problem = f"{self.protocol} uses no certificates"
            raise UsageError(problem, "Use SSL or SASL_SSL, or leave the files out")
        if (self.certificate_file is None) != (self.key_file is None):
            problem = "a certificate needs its key, and a key its certificate"
            raise UsageError(problem, "Set both certificate_file and key_file, or none")
        _check_readable(files)

    def for_kafka_python(self) -> dict[str, Any]:
        """Return the options of kafka-python."""
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.mechanism:
            options["sasl_mechanism"] = self.mechanism
            options["sasl_plain_username"] = self.username
            options["sasl_plain_password"] = self.password
        return options | _named(self, "ssl_cafile", "ssl_certfile", "ssl_keyfile")

    def for_confluent(self) -> dict[str, Any]:
        """Return the options of confluent-kafka."""
        options: dict[str, Any] = {"security.protocol": self.protocol}
        if self.mechanism:
            options["sasl.mechanism"] = self.mechanism
            options["sasl.username"] = self.username
            options["sasl.password"] = self.password
        return options | _named(
            self, "ssl.ca.location", "ssl.certificate.location", "ssl.key.location"
        )


def _named(security: KafkaSecurity, ca: str, certificate: str, key: str) -> dict[str, str]:
    files = (
        (ca, security.ca_file),
        (certificate, security.certificate_file),
        (key, security.key_file),
    )
    return {name: str(path) for name, path in files if path is not None}


def _check_readable(files: Iterable[Path]) -> None:
    for path in files:
        if not path.is_file():
            problem = f"the certificate file {path} is missing"
            raise UsageError(problem, "Name PEM files that this user can read, in [kafka]")
