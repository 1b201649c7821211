"""The broker that the Kafka tests share."""

from __future__ import annotations

import pytest

from brokers import CLIENTS, shared_broker
from connectors.kafka_clients import ClientName
from connectors.local_kafka import LocalKafka


@pytest.fixture
def broker() -> LocalKafka:
    """Return the run's broker, started at its first use."""
    return shared_broker()


@pytest.fixture(params=CLIENTS)
def client_name(request: pytest.FixtureRequest) -> ClientName:
    """Return the name of each client in turn."""
    name: ClientName = request.param
    return name
