"""The log on Kafka as the jobs see it: the options of Java's client, and Python's beside it."""

from __future__ import annotations

from connectors.kafka_address import KafkaAddress, KafkaSecurity
from connectors.kafka_clients import connect
from connectors.kafka_log import KafkaLog
from engines.flink.settings import JobSettings
from engines.flink.wire import registry_of

_DELIVERY_TIMEOUT_MS = 30_000
# The SQL connector carries Kafka's client under names of its own.
_SHADED = "org.apache.flink.kafka.shaded.org.apache.kafka"
_LOGINS = {
    "PLAIN": f"{_SHADED}.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": f"{_SHADED}.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": f"{_SHADED}.common.security.scram.ScramLoginModule",
}


def open_log(settings: JobSettings) -> KafkaLog:
    """Open the job's own log with a client in Python: for a look beside the stream."""
    address = KafkaAddress(tuple(settings.servers.split(",")), settings.prefix)
    security = settings.security or KafkaSecurity()
    client = connect(address, security, "kafka-python", _DELIVERY_TIMEOUT_MS)
    return KafkaLog(client, registry=registry_of(settings))


def java_options(security: KafkaSecurity | None) -> dict[str, str]:
    """Return how Kafka's Java client proves who it is (KIP-651: certificates as PEM)."""
    if security is None:
        return {}
    options: dict[str, str] = {"security.protocol": security.protocol}
    if security.mechanism:
        user, password = _quoted(security.username), _quoted(security.password)
        login = _LOGINS[security.mechanism]
        options["sasl.mechanism"] = security.mechanism
        options["sasl.jaas.config"] = f"{login} required username={user} password={password};"
    if security.ca_file is not None:
        options["ssl.truststore.type"] = "PEM"
        options["ssl.truststore.certificates"] = security.ca_file.read_text(encoding="ascii")
    if security.certificate_file is not None and security.key_file is not None:
        options["ssl.keystore.type"] = "PEM"
        chain = security.certificate_file.read_text(encoding="ascii")
        options["ssl.keystore.certificate.chain"] = chain
        options["ssl.keystore.key"] = security.key_file.read_text(encoding="ascii")
    return options


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
