"""What `pho doctor` looks at where the log is on Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec

from connectors.clocks import WallClock
from connectors.kafka_address import KafkaAddress
from schemas.errors import PhoError, UnknownSchema
from serving.findings import Finding, ledger_finding
from serving.ledger import read_ledger
from serving.opening import (
    KAFKA_CURE,
    KAFKA_PACKAGES,
    connect_kafka,
    hasty,
    open_log,
    registry_format,
    security,
)
from serving.settings import Settings

_WRONG_BY_MS = 1_000
"""From so many ms on a clock is told to be wrong: a greeting would be shown for shorter."""
_NO_SCHEMA = b"\x00\x7f\xff\xff\xff"
"""A record of the schema with the highest number: a registry that answers says it has none."""
# What can be otherwise with good reason.
_MAY_DIFFER = ("partitions", "replication", "retention.ms", "min.insync.replicas")


def examine(settings: Settings) -> list[Finding]:
    """Look at clients, brokers, topics, registry, clocks and ledger, as far as they can be reached.

    One Tick is appended, where the topics are as wanted, to measure the clocks.
    """
    clients = _clients()
    findings = [clients]
    if clients.state != "ok":
        return findings
    settings = hasty(settings)
    try:
        findings += _cluster(settings)
    except PhoError as error:
        findings.append(Finding("broker", "broken", error.problem, error.cure))
    findings += _registry(settings)
    return findings


def _clients() -> Finding:
    missing = [name for name, package in KAFKA_PACKAGES.items() if find_spec(package) is None]
    if missing:
        return Finding("kafka", "missing", f"no client {', '.join(missing)} here", KAFKA_CURE)
    return Finding("kafka", "ok", f"clients {' and '.join(KAFKA_PACKAGES)}")


def _cluster(settings: Settings) -> Iterator[Finding]:
    from connectors.kafka_topics import plan_topics
    from connectors.topic_settings import TIMESTAMP_TYPE, topic_settings

    address = KafkaAddress.parse(settings.log.address)
    kafka = settings.kafka
    plans = plan_topics(address, kafka.replication or 1, kafka.partitions, kafka.retention_days)
    found = topic_settings(address, security(settings), [plan.topic for plan in plans])
    yield Finding("broker", "ok", f"{address} answers")
    types = {topic: each[TIMESTAMP_TYPE] for topic, each in found.items()}
    cure = f"pho topics create --log {address}"
    if missing := [plan.topic for plan in plans if plan.topic not in found]:
        yield Finding("topics", "missing", f"there is no {', '.join(missing)}", cure)
        return
    different = [
        f"{plan.topic}: {name} is {found[plan.topic].get(name)}, not {value}"
        for plan in plans
        for name, value in plan.settings.items()
        if name not in (*_MAY_DIFFER, TIMESTAMP_TYPE) and found[plan.topic].get(name) != value
    ]
    if different:
        yield Finding("topics", "broken", "; ".join(different), f"{cure} --mend")
    elif len(set(types.values())) > 1:
        bridged = [topic for topic, kind in types.items() if kind == "CreateTime"]
        text = f"{len(found)}, of which a bridge fills {', '.join(bridged)}"
        yield Finding("topics", "ok", text)
    else:
        yield Finding("topics", "ok", f"{len(found)}, {next(iter(types.values()))}")
    yield from _inside(settings, is_ours=types[address.topic("frames")] == "LogAppendTime")


def _inside(settings: Settings, *, is_ours: bool) -> Iterator[Finding]:
    from connectors.kafka_clock import measure_skew

    if is_ours:
        with closing(connect_kafka(settings)) as client:
            skew = measure_skew(client, WallClock(), registry_format(settings))
        text = f"{skew.ahead_ms:+d} ms from the broker's, within {skew.within_ms} ms"
        is_wrong = abs(skew.ahead_ms) > _WRONG_BY_MS + skew.within_ms
        cure = "Set this machine's clock, or the broker's, by NTP" if is_wrong else ""
        yield Finding("clock", "broken" if is_wrong else "ok", text, cure)
    with closing(open_log(settings)) as log:
        yield ledger_finding(read_ledger(log))


def _registry(settings: Settings) -> Iterator[Finding]:
    registry = registry_format(settings)
    if registry is None:
        return
    try:
        registry.from_wire(_NO_SCHEMA)
    except UnknownSchema:
        yield Finding("registry", "ok", f"{settings.kafka.registry} answers")
    except PhoError as error:
        yield Finding("registry", "broken", error.problem, error.cure)
