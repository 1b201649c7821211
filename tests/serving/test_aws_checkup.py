"""`pho doctor --aws` names what is missing or not allowed, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connectors.aws_clients import AwsClients
from connectors.dynamodb_tables import DynamoTables
from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_streams import create_streams
from connectors.local_aws import REGION
from connectors.s3_pictures import ensure_bucket
from error_server import ErrorServer
from http_servers import serving
from local_aws_fixture import local_clients

USED = {
    "PHO_AWS__REGION": REGION,
    "PHO_AWS__TRIES": "1",
    "PHO_PICTURES__STORE": "s3",
    "PHO_PICTURES__BUCKET": "shop-pictures",
    "PHO_UPLOADS__BUCKET": "shop-pictures",
    "PHO_UPLOADS__QUEUE": "http://127.0.0.1:1/123456789012/shop-uploads",
    "PHO_AWS__TABLES": "shop",
    "PHO_AWS__TOPIC": "arn:aws:sns:us-east-1:123456789012:shop-alarms",
    "PHO_LOG__ADDRESS": f"kinesis://{REGION}/shop",
}


@pytest.fixture(scope="module")
def clients() -> Iterator[AwsClients]:
    with local_clients() as (_, made):
        yield made


@pytest.fixture
def settings(pho: Any, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in USED.items():
        monkeypatch.setenv(name, value)
    # Of a role; boto3 would look for one otherwise, and a test must not leave this machine.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


def by_name(ran: Any) -> dict[str, dict[str, Any]]:
    return {finding["what"]: finding for finding in ran.json}


def test_what_is_not_made_yet_is_missing_and_then_all_is_well(
    pho: Any, settings: pytest.MonkeyPatch, clients: AwsClients
) -> None:
    settings.setenv("PHO_AWS__ENDPOINT", clients.access.endpoint)
    settings.setenv("PHO_UPLOADS__QUEUE", f"{clients.access.endpoint}/123456789012/shop-uploads")
    ran = pho("doctor", "--aws", "--json")
    found = by_name(ran)
    assert ran.status == 3, ran.out
    assert found.pop("aws")["state"] == "ok"
    assert {name: each["state"] for name, each in found.items()} == dict.fromkeys(
        ("kinesis", "pictures", "uploads", "tables", "alarms"), "missing"
    )
    assert "shop-frames" in found["kinesis"]["text"]
    assert "deploy/aws/template.yaml" in found["pictures"]["cure"]

    create_streams(clients.client("kinesis"), KinesisAddress(REGION, "shop"))
    ensure_bucket(clients.client("s3"), "shop-pictures", REGION, ["pictures/"])
    clients.client("sqs").create_queue(QueueName="shop-uploads")
    clients.client("sns").create_topic(Name="shop-alarms")
    DynamoTables(clients.client("dynamodb"), "shop").create()
    ran = pho("doctor", "--aws", "--json")
    assert ran.status == 0, ran.out
    assert {each["state"] for each in ran.json} == {"ok"}
    # What was put there to try is gone.
    assert "Contents" not in clients.client("s3").list_objects_v2(Bucket="shop-pictures")


ACTIONS = {
    "kinesis": "kinesis:DescribeStreamSummary",
    "pictures": "s3:ListBucket",
    "uploads": "sqs:GetQueueAttributes",
    "rekognition": "rekognition:DetectFaces",
    "tables": "dynamodb:DescribeTable",
    "alarms": "sns:GetTopicAttributes",
    "polly": "polly:SynthesizeSpeech",
}


def test_a_missing_permission_is_named(pho: Any, settings: pytest.MonkeyPatch) -> None:
    settings.setenv("PHO_ANALYSIS__ANALYSER", "rekognition")
    settings.setenv("PHO_POLLY__ON", "true")
    with serving(ErrorServer("AccessDeniedException", 403)) as server:
        settings.setenv("PHO_AWS__ENDPOINT", server.endpoint)
        settings.setenv("PHO_UPLOADS__QUEUE", f"{server.endpoint}/123456789012/shop-uploads")
        ran = pho("doctor", "--aws", "--json")
    found = by_name(ran)
    assert ran.status == 1
    assert found.pop("aws")["state"] == "ok"
    assert {name: each["state"] for name, each in found.items()} == dict.fromkeys(ACTIONS, "broken")
    for name, action in ACTIONS.items():
        assert action in found[name]["cure"], found[name]


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("ExpiredToken", 403, "Sign in again"),
        ("ExpiredTokenException", 400, "Sign in again"),
        ("InvalidClientTokenId", 403, "Sign in again"),
        ("SignatureDoesNotMatch", 403, "Sign in again"),
        ("RequestExpired", 400, "clock"),
        ("Throttling", 400, "slower"),
        ("InternalFailure", 500, "asked again"),
    ],
)
def test_whoever_cannot_say_who_they_are_is_told_that_alone(
    pho: Any, settings: pytest.MonkeyPatch, code: str, status: int, told: str
) -> None:
    with serving(ErrorServer(code, status)) as server:
        server.knows_us = False
        settings.setenv("PHO_AWS__ENDPOINT", server.endpoint)
        ran = pho("doctor", "--aws", "--json")
    (finding,) = ran.json
    assert (ran.status, finding["what"], finding["state"]) == (1, "aws", "broken")
    assert code in finding["text"]
    assert told in finding["cure"]


def test_a_bucket_in_another_region_is_told(pho: Any, settings: pytest.MonkeyPatch) -> None:
    for name in ("PHO_LOG__ADDRESS", "PHO_AWS__TABLES", "PHO_AWS__TOPIC", "PHO_UPLOADS__QUEUE"):
        settings.delenv(name)
    with serving(ErrorServer("IllegalLocationConstraintException")) as server:
        settings.setenv("PHO_AWS__ENDPOINT", server.endpoint)
        ran = pho("doctor", "--aws")
    assert ran.status == 1
    assert "Set aws.region" in ran.out


def test_an_endpoint_that_nobody_listens_at_is_told(pho: Any, settings: pytest.MonkeyPatch) -> None:
    settings.setenv("PHO_AWS__ENDPOINT", "http://127.0.0.1:1")
    ran = pho("doctor", "--aws", "--json")
    (finding,) = ran.json
    assert (ran.status, finding["state"]) == (1, "broken")
    assert "127.0.0.1:1" in finding["text"]


def test_where_nothing_of_aws_is_used_only_the_credentials_are_tried(
    pho: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(ErrorServer("Unused")) as server:
        monkeypatch.setenv("PHO_AWS__ENDPOINT", server.endpoint)
        monkeypatch.setenv("PHO_AWS__REGION", REGION)
        ran = pho("doctor", "--aws", "--json")
    assert (ran.status, len(ran.json)) == (0, 1)


def test_without_a_region_it_says_which_setting(pho: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("PHO_PICTURES__STORE", "s3")
    monkeypatch.setenv("PHO_PICTURES__BUCKET", "shop-pictures")
    monkeypatch.setenv("PHO_AWS__TABLES", "shop")
    ran = pho("doctor", "--aws", "--json")
    assert ran.status == 1
    assert any("Set aws.region" in finding["cure"] for finding in ran.json), ran.out
