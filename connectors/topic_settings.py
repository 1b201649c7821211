"""How the topics on a cluster are set: read only, for whoever checks them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from connectors.kafka_address import KafkaAddress, KafkaSecurity
from connectors.kafka_clients import REQUEST_TIMEOUT_MS, unavailable
from connectors.kafka_python import PythonClient

TIMESTAMP_TYPE = "message.timestamp.type"
"""``LogAppendTime``: the broker's time; ``CreateTime``: the writer's (bridged)."""


def topic_settings(
    address: KafkaAddress,
    security: KafkaSecurity,
    topics: Iterable[str],
    wait_ms: int = REQUEST_TIMEOUT_MS,
) -> dict[str, Mapping[str, str]]:
    """Return the settings of topics, defaults included, by the broker's names.

    A topic that is missing is left out; ``partitions`` and ``replication`` are among the settings.
    A broker that does not answer is waited for so long, ms.

    Raises
    ------
    LogUnavailable
        When the cluster does not say.
    """
    client = PythonClient(address, security, REQUEST_TIMEOUT_MS)
    try:
        admin = client.admin(wait_ms)
        there = [topic for topic in admin.describe_topics(list(topics)) if not topic["error_code"]]
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic["name"]) for topic in there]
        described = admin.describe_configs(resources, config_filter="all")["topic"] if there else {}
    except KafkaError as error:
        raise unavailable(address, f"does not describe its topics ({error})") from error
    finally:
        client.close()
    found: dict[str, Mapping[str, str]] = {}
    for topic in there:
        settings = {name: str(entry["value"]) for name, entry in described[topic["name"]].items()}
        settings["partitions"] = str(len(topic["partitions"]))
        copies = min(len(part["replica_nodes"]) for part in topic["partitions"])
        found[topic["name"]] = settings | {"replication": str(copies)}
    return found
