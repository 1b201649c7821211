"""What the tests of AWS share: one moto server for a module, and clients that speak to it.

With `PHO_TESTS_DYNAMODB` set to the address of a DynamoDB Local, DynamoDB is that one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from connectors.aws_clients import AwsAccess, AwsClients
from connectors.local_aws import REGION, LocalAws


@contextmanager
def local_clients() -> Iterator[tuple[LocalAws, AwsClients]]:
    """Yield a server and clients; both end with the block."""
    beside = os.environ.get("PHO_TESTS_DYNAMODB", "")
    with LocalAws() as server:
        endpoints = {"dynamodb": beside} if beside else {}
        access = AwsAccess(region=REGION, endpoint=server.endpoint, endpoints=endpoints)
        clients = AwsClients(access)
        try:
            yield server, clients
        finally:
            clients.close()
