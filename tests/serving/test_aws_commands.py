"""Alarms and tables by way of AWS, as their users meet them; and what happens with wrong input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.aws_clients import AwsClients
from connectors.dynamodb_tables import DynamoTables
from connectors.embedded_log import EmbeddedLog
from local_aws_fixture import local_clients
from schemas.operations import AlarmRaised


@pytest.fixture(scope="module")
def clients() -> Iterator[AwsClients]:
    with local_clients() as (_, made):
        yield made


@pytest.fixture
def aws(clients: AwsClients, pho: Any, monkeypatch: pytest.MonkeyPatch) -> AwsClients:
    monkeypatch.setenv("PHO_AWS__ENDPOINT", clients.access.endpoint)
    monkeypatch.setenv("PHO_AWS__REGION", clients.access.region)
    return clients


def test_alarms_go_to_the_topic_once(
    pho: Any, aws: AwsClients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EmbeddedLog(tmp_path / "shop")
    log.append("alarms", AlarmRaised("fell-1", "greeting", "reward_fell", "adwin", 5))
    log.close()
    arn = aws.client("sns").create_topic(Name="alarms")["TopicArn"]
    monkeypatch.setenv("PHO_AWS__TOPIC", arn)
    ran = pho("alarms", "--to", "sns", "--once", "--data", tmp_path / "shop", "--json")
    assert ran.status == 0, ran.err
    assert [each["alarm_id"] for each in ran.json] == ["fell-1"]
    again = pho("alarms", "--to", "sns", "--once", "--data", tmp_path / "shop")
    assert (again.status, again.out.strip()) == (0, "nothing new")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--to", "mail"), "--to sns"),
        (("--to", "sns"), "aws.topic"),
        (("--to", "sns", "--log", "kinesis://us-east-1/shop"), "--data DIR"),
    ],
)
def test_alarms_to_nowhere_are_refused(
    pho: Any, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], told: str
) -> None:
    if "--log" in arguments:
        monkeypatch.setenv("PHO_AWS__TOPIC", "arn:aws:sns:us-east-1:123456789012:alarms")
    ran = pho("alarms", *arguments)
    assert ran.status == 2
    assert told in ran.err


@pytest.mark.parametrize(
    ("name", "value"),
    [("TOPIC", "alarms"), ("TABLES", "a/b"), ("KEEP_DAYS", "-1")],
)
def test_a_setting_that_cannot_be_is_refused(
    pho: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"PHO_AWS__{name}", value)
    ran = pho("loops")
    assert ran.status == 2
    assert f"aws.{name.lower()}" in ran.err


def test_a_demo_is_not_played_into_a_log_that_is_there(pho: Any, demo_folder: Path) -> None:
    ran = pho("demo-aws", "--data", demo_folder)
    assert ran.status == 2
    assert "Name a new folder" in ran.err


def test_tables_go_to_dynamodb(
    pho: Any, aws: AwsClients, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHO_AWS__TABLES", "shop")
    arguments = ("tables", "--to", "dynamodb", "--data", demo_folder)
    missing = pho(*arguments)
    assert missing.status == 3
    assert "Make it" in missing.err
    tables = DynamoTables(aws.client("dynamodb"), "shop")
    tables.create()
    ran = pho(*arguments, "--json")
    assert ran.status == 0, ran.err
    assert (ran.json["new"], ran.json["held"]) == (12, 0)
    assert len(list(tables.items("outcomes"))) == 6
    again = pho(*arguments)
    assert "0 new items" in again.out
    visit = json.loads(pho("topics", "decisions", "--last", 1, "--data", demo_folder, "--json").out)
    assert visit
    # Who is forgotten goes from there too, with the next run.
    gone = next(iter(tables.items("decisions")))["decision_id"]["S"]
    assert pho("forget", gone, "--data", demo_folder).status == 0
    assert pho(*arguments).status == 0
    assert len(list(tables.items("decisions"))) == 5
    assert pho(*arguments, "--out", "x.db").status == 2
