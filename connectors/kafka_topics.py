"""The topics on a Kafka cluster: made as the streams need them, and checked where they are.

Administration is kafka-python's, whichever client reads and writes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from connectors.kafka_address import KafkaAddress, KafkaSecurity
from connectors.kafka_clients import MAX_RECORD_BYTES, REQUEST_TIMEOUT_MS, unavailable
from connectors.kafka_python import PythonClient
from schemas.errors import UsageError
from schemas.streams import STREAMS

PARTITIONS = 4
"""The usual number: as many tasks can read a stream at once."""
RETENTION_DAYS = 30
DAY_MS = 86_400_000

SINGLE = (
    *("loops", "policies", "alarms", "estimates", "erasures"),
    *("late", "unmatched", "dead-letters"),
)
"""Streams of one partition: a few records a minute, which people and broadcasts read whole and in
order. `outcomes` has as many as the others: a loop's outcomes share a key, so each learner still
sees one order, and several loops learn side by side."""

_LONG_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic as it should be."""

    topic: str
    """Its name."""
    partitions: int
    """How many partitions it gets; an existing topic keeps its own."""
    replication: int
    """How many brokers hold each partition."""
    settings: dict[str, str]
    """Its configuration, by the broker's names."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A setting of an existing topic that is not as planned."""

    topic: str
    """The topic."""
    setting: str
    """``partitions``, ``replication``, or the broker's name of the setting."""
    wanted: str
    """What it should be."""
    found: str
    """What it is."""
    mended: bool = False
    """True: it was changed to what it should be."""


@dataclass(frozen=True, slots=True)
class TopicsReport:
    """What was made, and what is not as planned."""

    created: list[str] = field(default_factory=list)
    """Topics that were made."""
    findings: list[Finding] = field(default_factory=list)
    """What differs in those that were there."""


def plan_topics(
    address: KafkaAddress,
    replication: int,
    partitions: int = PARTITIONS,
    retention_days: int = RETENTION_DAYS,
    *,
    bridged: bool = False,
    streams: Collection[str] = tuple(STREAMS),
) -> list[TopicPlan]:
    """Return the topics of all streams, or of some.

    Parameters
    ----------
    address : KafkaAddress
        Says what their names start with.
    replication : int
        Brokers that hold each partition, 1 or more.
    partitions : int
        Partitions of the streams that need several, 1 or more.
    retention_days : int
        How long records are kept, 1 or more; those of compacted topics are kept by key.
    bridged : bool
        True: the log time is the writer's, one for each partition, who copies another log.
        Nothing is deleted by age then, since what is copied may be older than that already.
    streams : collection of str
        Only these.

    Raises
    ------
    UsageError
        When a number is below 1.
    """
    numbers = {"replication": replication, "partitions": partitions, "days": retention_days}
    for name, number in numbers.items():
        if number < 1:
            problem = f"{name} is {number}"
            raise UsageError(problem, "Give 1 or more")
    common = {
        "message.timestamp.type": "CreateTime" if bridged else "LogAppendTime",
        "min.insync.replicas": str(max(1, replication - 1)),
        "max.message.bytes": str(MAX_RECORD_BYTES),
    }
    if bridged:
        # The broker would refuse what is more than an hour ahead of its clock.
        common["message.timestamp.after.max.ms"] = str(_LONG_MAX)
    kept_ms = -1 if bridged else retention_days * DAY_MS
    by_age = {"cleanup.policy": "delete", "retention.ms": str(kept_ms)}
    # A segment is compacted when it is closed: with the usual week, a policy written every second
    # would stand there 600,000 times.
    by_key = {"cleanup.policy": "compact", "segment.ms": "3600000"}
    return [
        TopicPlan(
            address.topic(name),
            1 if name in SINGLE else partitions,
            replication,
            common | (by_key if stream.compacted else by_age),
        )
        for name, stream in STREAMS.items()
        if name != "ticks" and name in streams
    ]


def create_topics(
    address: KafkaAddress,
    security: KafkaSecurity | None = None,
    partitions: int = PARTITIONS,
    replication: int | None = None,
    retention_days: int = RETENTION_DAYS,
    *,
    bridged: bool = False,
    mend: bool = False,
    streams: Collection[str] = tuple(STREAMS),
) -> TopicsReport:
    """Make the topics that are missing, and compare those that are there.

    Parameters
    ----------
    address : KafkaAddress
        The cluster.
    security : KafkaSecurity, optional
        How to connect.
    partitions, retention_days, bridged, streams
        As in `plan_topics`.
    replication : int, optional
        None: three, or as many as there are brokers.
    mend : bool
        Change settings that differ. Partitions and replication are never changed: another number
        of partitions would put a key's next record elsewhere than its last.

    Raises
    ------
    LogUnavailable
        When the cluster does not do it.
    UsageError
        When a number is below 1.
    """
    client = PythonClient(address, security or KafkaSecurity(), REQUEST_TIMEOUT_MS)
    try:
        admin = client.admin()
        brokers = len(admin.describe_cluster()["brokers"])
        plans = plan_topics(
            address,
            replication if replication is not None else min(3, brokers),
            partitions,
            retention_days,
            bridged=bridged,
            streams=streams,
        )
        return _carry_out(admin, plans, mend=mend)
    except KafkaError as error:
        raise unavailable(address, f"does not make its topics ({error})") from error
    finally:
        client.close()


def _carry_out(admin: KafkaAdminClient, plans: Sequence[TopicPlan], *, mend: bool) -> TopicsReport:
    names = [plan.topic for plan in plans]
    there = {
        topic["name"]: topic["partitions"]
        for topic in admin.describe_topics(names)
        if not topic["error_code"]
    }
    missing = [plan for plan in plans if plan.topic not in there]
    if missing:
        wanted = {
            plan.topic: {
                "num_partitions": plan.partitions,
                "replication_factor": plan.replication,
                "configs": plan.settings,
            }
            for plan in missing
        }
        admin.create_topics(wanted, wait_for_metadata=True)
    report = TopicsReport(created=[plan.topic for plan in missing])
    present = [plan for plan in plans if plan.topic in there]
    settings = _settings(admin, present)
    for plan in present:
        partitions = there[plan.topic]
        replicas = min(len(partition["replica_nodes"]) for partition in partitions)
        for setting, want, found in (
            ("partitions", plan.partitions, len(partitions)),
            ("replication", plan.replication, replicas),
        ):
            if want != found:
                report.findings.append(Finding(plan.topic, setting, str(want), str(found)))
        differing = {
            name: value
            for name, value in plan.settings.items()
            if settings[plan.topic].get(name) != value
        }
        if mend and differing:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, plan.topic, differing)])
        report.findings.extend(
            Finding(plan.topic, name, want, settings[plan.topic].get(name, "unset"), mend)
            for name, want in differing.items()
        )
    return report


def _settings(admin: KafkaAdminClient, plans: Sequence[TopicPlan]) -> dict[str, dict[str, str]]:
    """Return the settings of existing topics, defaults included, by topic."""
    if not plans:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, plan.topic) for plan in plans]
    described = admin.describe_configs(resources, config_filter="all")["topic"]
    return {
        topic: {name: str(entry["value"]) for name, entry in entries.items()}
        for topic, entries in described.items()
    }
