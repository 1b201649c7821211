"""Topics: made as the streams need them, checked where they are, mended only when told."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from brokers import drop_topics, fresh_address, open_log
from connectors.kafka_address import KafkaAddress
from connectors.kafka_clients import connect
from connectors.kafka_log import TOPIC_STREAMS
from connectors.kafka_topics import Finding, create_topics, plan_topics
from connectors.local_kafka import LocalKafka
from connectors.logs import Row
from schemas.codec import encode
from schemas.errors import LogUnavailable, UsageError
from schemas.streams import STREAMS
from worlds import START_MS, rewarded


@pytest.fixture
def address(broker: LocalKafka) -> Iterator[KafkaAddress]:
    address = fresh_address(broker.bootstrap)
    yield address
    drop_topics(address)


def settings_of(address: KafkaAddress, stream: str) -> dict[str, str]:
    admin = KafkaAdminClient(bootstrap_servers=list(address.servers))
    resource = ConfigResource(ConfigResourceType.TOPIC, address.topic(stream))
    found = admin.describe_configs([resource], config_filter="all")["topic"]
    admin.close()
    return {name: entry["value"] for name, entry in found[address.topic(stream)].items()}


def test_every_stream_but_ticks_gets_its_topic(address: KafkaAddress) -> None:
    report = create_topics(address, partitions=3)
    assert report.findings == []
    assert sorted(report.created) == sorted(address.topic(name) for name in TOPIC_STREAMS)
    client = connect(address)
    counts = client.partitions([*report.created, address.topic("ticks")])
    client.close()
    assert {name for name in STREAMS if counts.get(address.topic(name)) == 3} == {
        *("frames", "analyses", "decisions", "greetings", "impressions", "rewards", "visits"),
        "outcomes",
    }
    assert address.topic("ticks") not in counts
    assert counts[address.topic("policies")] == 1


def test_the_broker_has_the_settings_of_the_plan(address: KafkaAddress) -> None:
    create_topics(address, partitions=1, retention_days=2)
    frames = settings_of(address, "frames")
    assert frames["message.timestamp.type"] == "LogAppendTime"
    assert frames["retention.ms"] == "172800000"
    assert frames["cleanup.policy"] == "delete"
    for stream in ("loops", "policies", "erasures"):
        assert settings_of(address, stream)["cleanup.policy"] == "compact"


def test_a_second_time_nothing_is_made_and_nothing_found(address: KafkaAddress) -> None:
    create_topics(address, partitions=2)
    again = create_topics(address, partitions=2)
    assert again.created == []
    assert again.findings == []


def test_a_missing_topic_among_the_others_is_made(address: KafkaAddress) -> None:
    create_topics(address, partitions=1)
    admin = KafkaAdminClient(bootstrap_servers=list(address.servers))
    gone = address.topic("late")
    admin.delete_topics([gone])
    # The broker forgets it some milliseconds after it said so.
    until_s = time.monotonic() + 20.0
    while not admin.describe_topics([gone])[0]["error_code"] and time.monotonic() < until_s:
        time.sleep(0.05)
    admin.close()
    assert create_topics(address, partitions=1).created == [address.topic("late")]


def test_another_number_of_partitions_is_found_and_never_changed(address: KafkaAddress) -> None:
    create_topics(address, partitions=2)
    for mend in (False, True):
        report = create_topics(address, partitions=3, mend=mend)
        assert Finding(address.topic("frames"), "partitions", "3", "2") in report.findings
        assert {finding.setting for finding in report.findings} == {"partitions"}
    client = connect(address)
    assert client.partitions([address.topic("frames")]) == {address.topic("frames"): 2}
    client.close()


def test_a_differing_setting_is_changed_only_when_told(address: KafkaAddress) -> None:
    create_topics(address, partitions=1, retention_days=2)
    found = create_topics(address, partitions=1, retention_days=3).findings
    wanted = Finding(address.topic("frames"), "retention.ms", "259200000", "172800000")
    assert wanted in found
    assert settings_of(address, "frames")["retention.ms"] == "172800000"
    found = create_topics(address, partitions=1, retention_days=3, mend=True).findings
    assert all(finding.mended for finding in found)
    assert settings_of(address, "frames")["retention.ms"] == "259200000"
    assert create_topics(address, partitions=1, retention_days=3).findings == []


def test_bridged_topics_keep_the_writers_times_however_old_or_new(address: KafkaAddress) -> None:
    create_topics(address, partitions=1, bridged=True)
    times = [86_400_000, START_MS, 4_102_444_800_000]
    rows = [
        Row(0, "rewards", "v", at, encode(rewarded("v", n, 0.5, START_MS)))
        for n, at in enumerate(times)
    ]
    with open_log(address) as log:
        log.append_at(rows)
        assert [row.log_time_ms for row in log.scan("rewards")] == times
    assert settings_of(address, "rewards")["retention.ms"] == "-1"


def test_replication_leaves_one_broker_to_spare() -> None:
    address = KafkaAddress.parse("kafka://h/x")
    for replication, in_sync in ((1, "1"), (2, "1"), (3, "2")):
        plan = plan_topics(address, replication)[0]
        assert plan.replication == replication
        assert plan.settings["min.insync.replicas"] == in_sync


@pytest.mark.parametrize("wrong", [{"partitions": 0}, {"retention_days": 0}, {"replication": 0}])
def test_impossible_numbers_are_refused(wrong: dict[str, int], broker: LocalKafka) -> None:
    with pytest.raises(UsageError):
        create_topics(fresh_address(broker.bootstrap), **wrong)  # type: ignore[arg-type]


def test_a_cluster_that_cannot_hold_so_many_copies_says_so(broker: LocalKafka) -> None:
    with pytest.raises(LogUnavailable, match="replication"):
        create_topics(fresh_address(broker.bootstrap), replication=3)
