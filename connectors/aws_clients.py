"""Clients of AWS, all made here: the same region, time limits and retries, whatever the service.

Credentials are boto3's own affair (variables, profile, role of the machine): they pass through
none of our settings, so none can be printed. A server on this machine gets made-up ones, so that
real ones never travel to it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from schemas.errors import PhoError, ResourceError, UsageError

AWS_CURE = "Install the extra: pip install 'pho[aws]'"
CONNECT_TIMEOUT_MS = 2_000
READ_TIMEOUT_MS = 10_000
TRIES = 3
MAX_CONNECTIONS = 50
_LOCAL_CREDENTIAL = "local"


@dataclass(frozen=True, slots=True)
class AwsAccess:
    """Where AWS is, and how patiently it is spoken to.

    Raises
    ------
    UsageError
        An endpoint is no address of a server.
    """

    region: str = ""
    """Such as ``eu-central-1``; empty: what boto3 finds in the profile or its variables."""
    endpoint: str = ""
    """Address of a server that stands for every service; empty: AWS's own."""
    endpoints: Mapping[str, str] = field(default_factory=dict)
    """Addresses by service (``kinesis``, ``s3`` …), before `endpoint`."""
    profile: str = ""
    """Profile of boto3's files; empty: its own choice."""
    connect_timeout_ms: int = CONNECT_TIMEOUT_MS
    """How long a connection may take to be made."""
    read_timeout_ms: int = READ_TIMEOUT_MS
    """How long an answer may let wait for its next byte."""
    tries: int = TRIES
    """Calls of one request in all, the first included."""
    max_connections: int = MAX_CONNECTIONS
    """Connections of one client; more threads than that wait for each other."""

    def __post_init__(self) -> None:
        for address in (self.endpoint, *self.endpoints.values()):
            if address:
                check_endpoint(address)

    def endpoint_of(self, service: str) -> str:
        """Return the address of a service's server; empty: AWS's own."""
        return self.endpoints.get(service) or self.endpoint


class AwsClients:
    """Makes clients, one for each service, which all threads share.

    A session of boto3 is not safe to share, its clients are: sessions stay in here, and making a
    client takes a lock.

    Parameters
    ----------
    access : AwsAccess
        Where, and how patiently.

    Raises
    ------
    ResourceError
        boto3 is not installed.
    """

    def __init__(self, access: AwsAccess | None = None) -> None:
        try:
            import boto3
        except ImportError as error:
            problem = "the client of AWS, boto3, is not installed"
            raise ResourceError(problem, AWS_CURE) from error
        self.access = access or AwsAccess()
        self._boto3 = boto3
        self._session: Any = None
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def client(self, service: str) -> Any:
        """Return the client of a service (``kinesis``, ``s3`` …), made at its first use.

        Raises
        ------
        UsageError
            boto3 finds no region, profile or such service.
        """
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make(service)
            return self._clients[service]

    def fresh(self, service: str, **options: Any) -> Any:
        """Return a client of its own, whose owner closes it.

        The retry quota is the client's: after some eleven failing calls in a row each call gets
        one try. Who must not be held back by others' failures takes one of its own.

        Parameters
        ----------
        service : str
            As in `client`.
        **options : botocore.config.Config options
            Instead of ours (``read_timeout``, ``retries``, ``max_pool_connections``).
        """
        with self._lock:
            return self._make(service, **options)

    def close(self) -> None:
        """Close the connections of all shared clients."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _make(self, service: str, **options: Any) -> Any:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        access = self.access
        endpoint = access.endpoint_of(service)
        local: dict[str, str] = {}
        if endpoint and is_local(endpoint):
            names = ("aws_access_key_id", "aws_secret_access_key")
            local = dict.fromkeys(names, _LOCAL_CREDENTIAL)
        config: dict[str, Any] = {
            "connect_timeout": access.connect_timeout_ms / 1_000,
            "read_timeout": access.read_timeout_ms / 1_000,
            # Said in full: botocore 1.43 tried five times by default, 1.44 three times.
            "retries": {"mode": "standard", "total_max_attempts": access.tries},
            "max_pool_connections": access.max_connections,
            "user_agent_extra": "pho",
        }
        try:
            if self._session is None:
                self._session = self._boto3.Session(
                    profile_name=access.profile or None, region_name=access.region or None
                )
            return self._session.client(
                service,
                endpoint_url=endpoint or None,
                config=Config(**(config | options)),
                **local,
            )
        except (BotoCoreError, ValueError) as error:
            raise _unusable(service, error) from error


def is_local(endpoint: str) -> bool:
    """Whether an address is one of this machine: ``localhost``, or of the loopback network."""
    host = urlsplit(endpoint).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_endpoint(address: str) -> None:
    """Raise `UsageError` when it is no address of a server, or holds a user or password."""
    parts = urlsplit(address)
    if parts.username or parts.password:
        # Not repeated in the message: it may hold a password.
        problem = "an endpoint of AWS holds no user and no password"
        raise UsageError(problem, "Give credentials as boto3 reads them: a profile, or variables")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        problem = f"{address!r} is no endpoint of AWS"
        raise UsageError(problem, "Write http://HOST:PORT or https://HOST")


def _unusable(service: str, error: Exception) -> PhoError:
    text = str(error)
    if "region" in text.lower():
        problem = f"AWS {service}: no region is named"
        return UsageError(problem, "Set aws.region, such as eu-central-1")
    problem = f"AWS {service} cannot be used: {text}"
    return UsageError(problem, "Check [aws] in pho.toml: region, endpoint, profile")
