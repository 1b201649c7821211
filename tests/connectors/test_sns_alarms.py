"""Alarms to SNS: each once, whole or cut to its head, and dead letters in one message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.aws_clients import AwsAccess, AwsClients
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.letter_hours import HOUR_MS
from connectors.sns_alarms import MESSAGE_MAX_BYTES, SnsAlarms, alarm_notice
from local_aws_fixture import local_clients
from schemas.errors import ResourceError
from schemas.operations import AlarmRaised, SideRecord
from schemas.outcomes import Evidence


@pytest.fixture(scope="module")
def clients() -> Iterator[AwsClients]:
    with local_clients() as (_, made):
        yield made


@pytest.fixture
def topic(clients: AwsClients, request: pytest.FixtureRequest) -> Iterator[tuple[str, Any]]:
    """Return a topic's ARN, and a function that gives the messages its queue got."""
    name = f"t{abs(hash(request.node.name)) % 10**9}"
    sns, sqs = clients.client("sns"), clients.client("sqs")
    arn = sns.create_topic(Name=name)["TopicArn"]
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    where = queue_arn["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=where)

    def received() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while got := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            found += [json.loads(message["Body"]) for message in got]
            for message in got:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return found

    yield arn, received


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    opened = EmbeddedLog(tmp_path / "shop")
    yield opened
    opened.close()


def alarm(number: int, numbers: int = 2) -> AlarmRaised:
    measured = tuple(Evidence(f"n{i:05d}", i / 7) for i in range(numbers))
    at_ms = 1_000 + number
    return AlarmRaised(f"fell-{number}", "greeting", "reward_fell", "adwin", at_ms, measured)


def letter(stream: str, reason: str, offset: int) -> SideRecord:
    return SideRecord(reason, "the error. The cure", stream, 0, offset, 5, "k", b"raw")


def test_each_alarm_is_one_message_and_is_not_sent_again(
    log: EmbeddedLog, topic: tuple[str, Any], clients: AwsClients
) -> None:
    arn, received = topic
    log.append_all([("alarms", alarm(1)), ("alarms", alarm(2))])
    assert SnsAlarms(log, clients.client("sns"), arn).run_once() == 2
    log.append("alarms", alarm(3))
    # A new object, as after a restart: it knows the log's bookmark alone.
    assert SnsAlarms(log, clients.client("sns"), arn).run_once() == 1
    assert SnsAlarms(log, clients.client("sns"), arn).run_once() == 0
    got = received()
    told = [json.loads(message["Message"]) for message in got]
    assert sorted(each["alarm_id"] for each in told) == ["fell-1", "fell-2", "fell-3"]
    assert told[0]["numbers"] == {"n00000": 0.0, "n00001": 1 / 7}
    assert got[0]["Subject"] == "PHO: reward fell in loop greeting"
    assert got[0]["MessageAttributes"]["kind"]["Value"] == "reward_fell"


def test_dead_letters_of_one_kind_are_one_message(
    log: EmbeddedLog, topic: tuple[str, Any], clients: AwsClients
) -> None:
    arn, received = topic
    letters = [letter("frames", "torn", n) for n in range(50)] + [letter("visits", "torn", 9)]
    log.append_all([("dead-letters", each) for each in letters])
    log.append_bytes([("dead-letters", "k", b"no record"), ("alarms", "k", b"none either")])
    assert SnsAlarms(log, clients.client("sns"), arn).run_once() == 2
    told = {each["stream"]: each for each in (json.loads(m["Message"]) for m in received())}
    assert (told["frames"]["count"], told["visits"]["count"]) == (50, 1)
    assert told["frames"]["first"] == {
        "partition": 0,
        "offset": 0,
        "error": "the error. The cure",
    }
    assert SnsAlarms(log, clients.client("sns"), arn).run_once() == 0


class Taking:
    """Takes messages as long as it is told to."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.well = True

    def publish(self, **request: Any) -> Any:
        if not self.well:
            return {}  # a torn 200: boto3 raises nothing
        self.told.append(json.loads(request["Message"]))
        return {"MessageId": "1"}


def test_dead_letters_that_go_on_are_a_message_an_hour(log: EmbeddedLog) -> None:
    clock = SetClock(HOUR_MS * 400_000)
    log.clock, taking, arn = clock, Taking(), "arn:aws:sns:us-east-1:1:x"
    sender = SnsAlarms(log, taking, arn)
    for minute in range(90):
        clock.set(HOUR_MS * 400_000 + minute * 60_000)
        log.append("dead-letters", letter("frames", "torn", minute))
        if minute == 30:  # one that starts again knows what was told
            sender = SnsAlarms(log, taking, arn)
        if minute == 60:  # what the service does not take at first is sent at the next try
            taking.well = False
            with pytest.raises(ResourceError):
                sender.run_once()
            taking.well = True
        sender.run_once()
    assert [(each["count"], each["hour_before"]) for each in taking.told] == [(1, 0), (1, 60)]
    assert len({each["alarm_id"] for each in taking.told}) == 2
    # Killed between message and bookmark: the same alarm again.
    log.set_bookmark("sns", {})
    SnsAlarms(log, taking, arn).run_once()
    assert taking.told[-1]["alarm_id"] == taking.told[-2]["alarm_id"]


def test_of_dead_letters_the_watchers_alarm_is_not_sent_too(log: EmbeddedLog) -> None:
    log.append("alarms", AlarmRaised("d-1", "greeting", "dead_letters", "letters.frames.torn", 5))
    log.append("alarms", AlarmRaised("b-1", "greeting", "budget_used_up", "rekognition", 5))
    taking = Taking()
    assert SnsAlarms(log, taking, "arn:aws:sns:us-east-1:1:x").run_once() == 1
    assert [each["kind"] for each in taking.told] == ["budget_used_up"]


def test_a_failure_loses_nothing_and_repeats_nothing(
    log: EmbeddedLog, topic: tuple[str, Any], clients: AwsClients
) -> None:
    arn, received = topic
    log.append_all([("alarms", alarm(n)) for n in range(1, 5)])

    class Failing:
        """Takes two messages, then the network is away."""

        taken = 0

        def publish(self, **request: Any) -> Any:
            if self.taken == 2:
                return {}  # a torn 200: boto3 raises nothing
            self.taken += 1
            return clients.client("sns").publish(**request)

    with pytest.raises(ResourceError, match="without MessageId"):
        SnsAlarms(log, Failing(), arn).run_once()
    assert SnsAlarms(log, clients.client("sns"), arn).run_once() == 2
    told = [json.loads(message["Message"])["alarm_id"] for message in received()]
    assert sorted(told) == [f"fell-{n}" for n in range(1, 5)]


def test_a_missing_topic_says_what_to_do(log: EmbeddedLog, clients: AwsClients) -> None:
    log.append("alarms", alarm(1))
    nowhere = "arn:aws:sns:us-east-1:123456789012:nowhere"
    with pytest.raises(ResourceError, match="NotFound"):
        SnsAlarms(log, clients.client("sns"), nowhere).run_once()
    assert log.bookmark("sns") == {}


def test_an_endpoint_that_is_away_is_a_resource_error(log: EmbeddedLog) -> None:
    access = AwsAccess("us-east-1", "http://127.0.0.1:1", tries=1, connect_timeout_ms=200)
    away = AwsClients(access)
    log.append("alarms", alarm(1))
    with pytest.raises(ResourceError):
        SnsAlarms(log, away.client("sns"), "arn:aws:sns:us-east-1:1:x").run_once()
    away.close()


def test_a_message_above_the_services_limit_is_cut_to_its_head(
    log: EmbeddedLog, topic: tuple[str, Any], clients: AwsClients
) -> None:
    arn, received = topic
    log.append("alarms", alarm(1, numbers=12_000))
    notice = alarm_notice(next(iter(log.scan("alarms"))))
    assert notice is not None
    assert len(json.dumps(notice.body)) > MESSAGE_MAX_BYTES
    assert SnsAlarms(log, clients.client("sns"), arn).run_once() == 1
    (message,) = received()
    told = json.loads(message["Message"])
    assert (told["alarm_id"], told["cut"]) == ("fell-1", True)


def test_a_fifo_topic_gets_an_id_that_drops_the_repeat(log: EmbeddedLog) -> None:
    requests: list[dict[str, Any]] = []

    class Taking:
        def publish(self, **request: Any) -> Any:
            requests.append(request)
            return {"MessageId": "1"}

    log.append("alarms", alarm(1))
    for _ in range(2):
        SnsAlarms(log, Taking(), "arn:aws:sns:us-east-1:1:a.fifo").run_once()
        log.set_bookmark("sns", {})  # killed before the bookmark
    first, second = requests
    assert first == second
    assert len(first["MessageDeduplicationId"]) <= 128
