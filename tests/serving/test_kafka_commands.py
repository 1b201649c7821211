"""Every command on a log on Kafka: as on a folder, and what wrong input gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import worlds
from brokers import fresh_address, fresh_topics, shared_broker
from connectors.kafka_address import KafkaAddress
from connectors.kafka_clients import Outgoing, connect
from connectors.kafka_log import TOPIC_STREAMS, KafkaLog
from engines.job import configure, hashes_in_force
from schemas.codec import decode
from schemas.errors import ResourceError, UsageError
from schemas.operations import SideRecord
from schemas.outcomes import OutcomeClosed
from serving import kafka_checkup, opening
from serving.job_topics import FILLED, filled_by_a_bridge, partitions_of
from serving.report import document, read_report
from serving.settings import load

LOOKING = (
    ("ledger", "--json"),
    ("topics",),
    ("topics", "decisions", "--last", "3"),
    ("topics", "frames", "--json"),
    ("topics", "loops", "--json"),
    ("loops", "--json"),
    ("dead-letters",),
    ("dead-letters", "--json"),
    ("dead-letters", "--side", "late"),
    ("doctor", "--json"),
)


@pytest.fixture
def address() -> Iterator[KafkaAddress]:
    with fresh_topics(shared_broker().bootstrap) as address:
        yield address


@pytest.fixture
def log(address: KafkaAddress) -> Iterator[KafkaLog]:
    log = KafkaLog(connect(address, client="confluent", delivery_timeout_ms=20_000))
    yield log
    log.close()


def told(ran: Any, status: int, *words: str) -> None:
    """Check that an error leaves with this status, says what to do, and no more."""
    assert ran.status == status, ran.err
    for word in ("error:", "do:", *words):
        assert word in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.slow
def test_a_bridged_shop_looks_the_same_on_kafka_as_in_its_folder(
    pho: Any, demo_folder: Path
) -> None:
    address = fresh_address(shared_broker().bootstrap)
    made = pho("topics", "create", "--bridged", "--log", address, "--json")
    assert (made.status, len(made.json["created"])) == (0, len(TOPIC_STREAMS))
    copied = pho("bridge", "--from", demo_folder, "--log", address, "--json")
    assert copied.status == 0, copied.err
    assert copied.json["copied"] > copied.json["read"] > 0
    assert pho("bridge", "--from", demo_folder, "--log", address, "--json").json["copied"] == 0

    here, there = ("--data", demo_folder, "--json"), ("--log", address, "--json")
    assert pho("ledger", *there).json == pho("ledger", *here).json
    assert pho("loops", *there).json == pho("loops", *here).json
    assert pho("dead-letters", *there).json == []
    for stream in ("decisions", "outcomes", "policies"):
        on_kafka = pho("topics", stream, "--last", 2, *there).json
        in_folder = pho("topics", stream, "--last", 2, *here).json
        for kafka, file in zip(on_kafka, in_folder, strict=True):
            assert kafka["record"] == file["record"]
            assert (kafka["key"], kafka["log_time_ms"]) == (file["key"], file["log_time_ms"])
    counts = {each["stream"]: each["records"] for each in pho("topics", *there).json}
    in_folder = {each["stream"]: each["records"] for each in pho("topics", *here).json}
    assert counts["greetings"] == in_folder["greetings"] == 6
    examined = pho("doctor", *there)
    assert examined.status == 0, examined.out
    assert [f["text"] for f in examined.json if f["what"] == "ledger"] == ["6 decisions, balanced"]
    # A bridged log has the Ticks of its source: a ticker would be a second writer.
    told(pho("ticks", "--log", address, "--seconds", 5), 2, "CreateTime")


def test_the_report_of_a_log_on_kafka_counts_each_outcome_once(log: KafkaLog) -> None:
    outcome = worlds.outcome(worlds.decided("v", worlds.START_MS), 0.5)
    log.append("decisions", worlds.decided("v", worlds.START_MS))
    log.append_all([("outcomes", outcome), ("outcomes", outcome)])
    report = document(read_report(log, 0))
    assert report["data"] == log.name
    assert report["frame_to_greeting_ms"]["p50"] is None
    assert report["reward_mean"]["learned"] or report["reward_mean"]["control"]
    assert len(read_report(log, 0).outcomes) == 1


def test_topics_are_made_once_and_what_differs_is_told(pho: Any, address: KafkaAddress) -> None:
    there = ("topics", "create", "--log", address)
    same = pho(*there, "--json", "--config", _settings("partitions = 2"))
    assert (same.status, same.json) == (0, {"created": [], "findings": []})
    differs = pho(*there, "--config", _settings("partitions = 3\nretention_days = 7"))
    assert differs.status == 1
    assert "partitions is 2, wanted 3" in differs.out
    assert "--mend" in differs.err
    mended = pho(*there, "--mend", "--config", _settings("partitions = 2\nretention_days = 7"))
    assert (mended.status, "mended" in mended.out) == (0, True)
    again = pho(*there, "--json", "--config", _settings("partitions = 2\nretention_days = 7"))
    assert (again.status, again.json["findings"]) == (0, [])


def _settings(lines: str) -> Path:
    path = Path("mine.toml")
    path.write_text(f"[kafka]\n{lines}\n")
    return path


def test_a_bridge_refuses_topics_with_the_brokers_time(
    pho: Any, address: KafkaAddress, demo_folder: Path
) -> None:
    ran = pho("bridge", "--from", demo_folder, "--log", address)
    told(ran, 2, "LogAppendTime", "--bridged")


def test_jobs_are_not_submitted_to_topics_with_their_writers_time(pho: Any) -> None:
    broker = shared_broker().bootstrap
    with fresh_topics(broker, bridged=True) as address:
        settings = load(None, {"log.address": str(address)})
        with pytest.raises(UsageError, match=r"^frames, .*outcomes: the log time") as refused:
            partitions_of(settings)
        # In what the jobs write themselves a bridge would be one writer of several.
        assert "--bridged" not in refused.value.cure
        with pytest.raises(UsageError, match="analyses, decisions, outcomes: the log time") as own:
            partitions_of(settings, FILLED)
        mend = own.value.cure.partition("pho ")[2].split()
        assert pho(*mend, "--config", _settings("partitions = 2")).status == 0

        # Now a bridge may go on in front of the jobs, in what they only read.
        with pytest.raises(UsageError, match="frames, impressions, rewards, visits:") as left:
            partitions_of(settings)
        flag, named = left.value.cure.split()[-2:]
        assert (flag, filled_by_a_bridge(named)) == ("--bridged", FILLED)
        with pytest.raises(UsageError, match="visits: the log time"):
            partitions_of(settings, FILLED[:-1])
        assert partitions_of(settings, FILLED) == 2
    with pytest.raises(ResourceError, match="has no topic for loops"):
        partitions_of(load(None, {"log.address": str(fresh_address(broker))}), FILLED)


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        (("ledger", "--log", "http://shop"), 2, ("no address of a Kafka cluster",)),
        (("ledger", "--log", "kafka://"), 2, ("no server",)),
        (("ticks", "--log", "kafka://u:secret@host/x"), 2, ("no password",)),
        (("ticks",), 2, ("needs a log on Kafka", "--log")),
        (("topics", "create"), 2, ("needs a log on Kafka",)),
        (("topics", "--mend"), 2, ("pho topics create",)),
        (("topics", "create", "--streams", "frames"), 2, ("needs a log on Kafka",)),
        (("bridge", "--from", ".", "--streams", "nothing"), 2, ("no stream 'nothing'",)),
        (("demo", "--log", "kafka://host:1/x"), 2, ("works on a folder",)),
        (("run", "--log", "kafka://host:1/x"), 2, ("pho submit",)),
        (("submit", "--bridged", ","), 2, ("--bridged names none",)),
        (("submit", "--bridged", "nothing"), 2, ("no stream 'nothing'",)),
        (("submit", "--bridged", "frames,decisions"), 2, ("names decisions", "the jobs' own")),
        (("bridge", "--from", ".", "--log", "kafka://host:1/x"), 2, ("neither a log nor",)),
    ],
)
def test_wrong_usage_leaves_with_2_and_says_what_to_do(
    pho: Any, line: tuple[str, ...], status: int, words: tuple[str, ...]
) -> None:
    ran = pho(*line)
    told(ran, status, *words)
    assert "secret" not in ran.err


def test_topics_that_are_missing_leave_with_3(pho: Any) -> None:
    address = fresh_address(shared_broker().bootstrap)
    for line in (("ledger",), ("topics", "frames"), ("loops",), ("ticks",), ("dead-letters",)):
        told(pho(*line, "--log", address), 3, "has no topic", "pho topics create")
    examined = pho("doctor", "--log", address, "--json")
    assert examined.status == 3
    assert ["topics"] == [f["what"] for f in examined.json if f["state"] == "missing"]


@pytest.mark.slow
def test_no_broker_leaves_with_3(pho: Any) -> None:
    nowhere = "kafka://127.0.0.1:9/x"
    for line in (("ledger",), ("topics", "create")):
        told(pho(*line, "--log", nowhere), 3, nowhere)
    examined = pho("doctor", "--log", nowhere, "--json")
    assert examined.status == 1
    assert "broker" in [f["what"] for f in examined.json if f["state"] == "broken"]


def test_a_client_that_is_not_installed_leaves_with_3(
    pho: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (opening, kafka_checkup):
        monkeypatch.setattr(module, "find_spec", lambda _name: None)
    for line in (("ledger",), ("ticks",), ("topics", "create")):
        told(pho(*line, "--log", "kafka://127.0.0.1:9/x"), 3, "pip install 'pho[kafka]'")
    assert pho("doctor", "--log", "kafka://127.0.0.1:9/x").status == 3


def test_a_password_is_never_printed(
    pho: Any, monkeypatch: pytest.MonkeyPatch, address: KafkaAddress
) -> None:
    monkeypatch.setenv("PHO_KAFKA__PASSWORD", "12345hush")
    told(pho("ledger", "--log", address, "--config", _settings('protocol = "SASL_SSL"')), 2)
    lines = 'protocol = "SASL_PLAINTEXT"\nmechanism = "PLAIN"\nusername = "me"'
    ran = pho("--debug", "ledger", "--log", address, "--config", _settings(lines))
    assert ran.status == 3
    assert "12345hush" not in ran.err + ran.out


def test_poison_in_every_topic_stops_no_command_that_looks(
    pho: Any, address: KafkaAddress, log: KafkaLog
) -> None:
    decision = worlds.decided("v", log.clock())
    log.append("loops", worlds.loop())
    log.append("decisions", decision)
    log.append("outcomes", worlds.outcome(decision, 0.5))
    client = connect(address, client="confluent", delivery_timeout_ms=20_000)
    foreign = [
        b"",
        b"none of ours",
        b"\x00\x00\x00\x00\x07of a registry",
        b"\xc3\x01" + b"\xff" * 9,
    ]
    whole = log.last("decisions", 1)[0].value
    poison = [*foreign, whole[:-3], whole]
    client.produce(
        [
            Outgoing(address.topic(stream), key, value)
            for stream in TOPIC_STREAMS
            for value in poison
            for key in (b"\xff\xfe no text", b"k")
        ]
    )
    client.close()
    for line in LOOKING:
        ran = pho(*line, "--log", address)
        assert ran.status in (0, 1), (line, ran.err)
        assert "Traceback" not in ran.err
    book = pho("ledger", "--log", address, "--json").json
    assert (book["decisions"], book["rewarded"], book["balanced"]) == (1, 1, True)
    assert hashes_in_force(log) == {"greeting": worlds.loop().config_hash}
    replayed = pho("dead-letters", "--replay", "--log", address, "--json").json
    assert replayed == {"replayed": 0, "unreadable": 2 * len(poison)}


def test_dead_letters_on_kafka_are_replayed_once(
    pho: Any, address: KafkaAddress, log: KafkaLog
) -> None:
    frame = worlds.captured("v", "pre", 0, worlds.START_MS, 0.1)
    log.append("frames", frame)
    (row,) = log.last("frames", 1)
    place = ("frames", row.partition, row.position, row.log_time_ms, row.key)
    letter = SideRecord("unknown_loop", "configure it", *place, row.value)
    log.append("dead-letters", letter)
    log.append("dead-letters", SideRecord("torn", "", "no-stream-of-ours", 0, 0, 0, "k", b"raw"))
    there = ("--log", address, "--json")
    assert [each["replayed"] for each in pho("dead-letters", *there).json] == [False, False]
    replay = ("dead-letters", "--replay", *there)
    assert pho(*replay).json == {"replayed": 1, "unreadable": 1}
    assert pho(*replay).json == {"replayed": 0, "unreadable": 0}
    assert [each["replayed"] for each in pho("dead-letters", *there).json] == [True, True]
    assert [decode(again.value) for again in log.scan("frames")] == [frame, frame]
    log.append("dead-letters", letter)
    assert pho(*replay).json == {"replayed": 1, "unreadable": 0}


def test_a_configuration_stands_where_learn_reads_before_all_others_see_it(log: KafkaLog) -> None:
    loop = worlds.loop()
    assert configure(log, (loop,)) == ["greeting"]
    assert configure(log, (loop,)) == []
    (first,) = log.scan("outcomes")
    (second,) = log.scan("loops")
    assert first.log_time_ms <= second.log_time_ms
    assert first.key == "greeting"
    assert not isinstance(decode(first.value), OutcomeClosed)
    assert configure(log, (worlds.loop(actions=4),)) == ["greeting"]
