"""The table [kafka]: how Kafka is spoken to, and how topics are made."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.errors import SettingsError


class KafkaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [kafka]."""

    client: Literal["kafka-python", "confluent"]
    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
    mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    username: str
    password: str
    ca_file: str
    certificate_file: str
    key_file: str
    registry: str
    registry_username: str
    registry_password: str
    delivery_timeout_ms: int
    partitions: int
    replication: int
    retention_days: int

    def __repr__(self) -> str:
        # A settings object stands in tracebacks and logs; the password must not.
        return f"KafkaSettings(client={self.client!r}, protocol={self.protocol!r}, ...)"


def check_kafka(kafka: KafkaSettings) -> None:
    """Refuse what no broker could be reached with, and topics that cannot be.

    Raises
    ------
    SettingsError
        Names the setting.
    """
    limits = {"delivery_timeout_ms": 3_600_000, "partitions": 10_000, "retention_days": 36_500}
    for name, most in limits.items():
        value = getattr(kafka, name)
        if not 0 < value <= most:
            problem = f"kafka.{name} is {value!r}"
            raise SettingsError(problem, f"It must be above 0 and at most {most}")
    if not 0 <= kafka.replication <= 9:
        problem = f"kafka.replication is {kafka.replication}"
        raise SettingsError(problem, "It must be 1 to 9, or 0: three, or as many as brokers")
    if kafka.protocol.startswith("SASL") != bool(kafka.mechanism):
        problem = f"kafka.protocol is {kafka.protocol!r} and kafka.mechanism {kafka.mechanism!r}"
        cure = "SASL takes a mechanism, such as SCRAM-SHA-512; without SASL there is none"
        raise SettingsError(problem, cure)
    if kafka.mechanism and not (kafka.username and kafka.password):
        problem = f"kafka.mechanism {kafka.mechanism} needs a user and a password"
        raise SettingsError(problem, "Set kafka.username, and the variable PHO_KAFKA__PASSWORD")
    if bool(kafka.certificate_file) != bool(kafka.key_file):
        problem = "kafka.certificate_file and kafka.key_file belong together"
        raise SettingsError(problem, "Give both, or neither")
