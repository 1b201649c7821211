"""What the tests of AWS share: one moto server for a module, and clients that speak to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from connectors.aws_clients import AwsAccess, AwsClients
from connectors.local_aws import REGION, LocalAws


@contextmanager
def local_clients() -> Iterator[tuple[LocalAws, AwsClients]]:
    """Yield a server and clients; both end with the block."""
    with LocalAws() as server:
        clients = AwsClients(AwsAccess(region=REGION, endpoint=server.endpoint))
        try:
            yield server, clients
        finally:
            clients.close()
