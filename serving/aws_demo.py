"""`pho demo-aws`: the recorded visitors through S3, SQS, Kinesis, Rekognition and DynamoDB.

Servers on this machine stand for AWS, spoken to by the real boto3 over HTTP. The same seed gives
the same outcomes, to the byte, as `pho demo`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from connectors.aws_clients import AwsClients
from connectors.aws_errors import call
from connectors.dynamodb_feed import DynamoFeed
from connectors.dynamodb_items import KINDS, item_of, plain
from connectors.dynamodb_tables import DynamoTables, first_of
from connectors.embedded_log import EmbeddedLog
from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_log import KinesisLog
from connectors.kinesis_streams import create_streams
from connectors.local_analyser import LocalAnalyser
from connectors.local_aws import REGION, LocalAws
from connectors.local_kinesis import LocalKinesis, fetch_local_kinesis
from connectors.local_rekognition import LocalRekognition
from connectors.pictures import PictureStore
from connectors.s3_pictures import ensure_bucket
from engines.embedded import EmbeddedEngine
from pipelines.analyze import Analyser
from schemas.codec import decode
from serving.cloud_step import READS_PER_SECOND, Cloud, CloudStep, Travelled, by_id
from serving.demo import Demo, Play
from serving.reshaping import Reshaping
from serving.services import aws_clients, make_analyser, open_pictures
from serving.settings import Settings
from serving.settings_aws import aws_access

BUCKET = "pho-demo-pictures"
QUEUE = "pho-demo-pictures"
TABLES = "pho-demo"
PREFIX = "demo"


@dataclass(slots=True)
class CloudReport:
    """What was found on AWS when all was done."""

    travelled: Travelled
    """What went through."""
    pictures_in_bucket: int = 0
    """Pictures left in the bucket."""
    tables_equal: bool = False
    """Whether DynamoDB holds what the log does."""
    items: int = 0
    """Items in the tables."""
    on_kinesis_equal: bool = False
    """Whether Kinesis holds each decision and outcome of the log, and no other."""
    reshaped: list[str] = field(default_factory=list)
    """Shards that were split and merged meanwhile."""
    rekognition_calls: int = 0
    """Pictures that the stand-in for Rekognition looked at in this run; -1: it is elsewhere."""

    @property
    def good(self) -> bool:
        """Whether nothing is missing, doubled or left."""
        return self.tables_equal and self.on_kinesis_equal and not self.pictures_in_bucket

    def document(self) -> dict[str, Any]:
        """Return it for a JSON document."""
        travelled = self.travelled
        return {
            "good": self.good,
            "pictures_in_bucket": self.pictures_in_bucket,
            "tables_equal_the_log": self.tables_equal,
            "items": self.items,
            "kinesis_equals_the_log": self.on_kinesis_equal,
            "notices": travelled.notices,
            "records_sent": travelled.sent,
            "records_read": travelled.read,
            "repeats": travelled.repeats,
            "records_published": travelled.published,
            "shards_of_frames": len(travelled.shards),
            "reshaped": self.reshaped,
            "rekognition_calls": self.rekognition_calls,
        }


class AwsDemo(Demo):
    """One demo folder whose pictures, analyses and records go by way of AWS.

    Parameters
    ----------
    settings : Settings
        As `cloud_settings` makes them: they name every server.
    play : Play
        What to play.
    reshape : bool
        Whether shards are split and merged meanwhile.
    """

    def __init__(self, settings: Settings, play: Play, *, reshape: bool = True) -> None:
        self.clients = aws_clients(settings)
        self.address = KinesisAddress.parse(settings.log.address)
        self.streams = AwsClients(self.address.access(aws_access(settings.aws))).client("kinesis")
        # Its log is in the folder as any demo's; the address is where AWS's part of it stands.
        log = msgspec.structs.replace(settings.log, address="")
        super().__init__(msgspec.structs.replace(settings, log=log), play)
        self._prepare(settings)
        # Three records a visit at least: a third of the way a split, at two thirds a merge.
        self.reshaping = Reshaping(self.streams, self.address, play.visits) if reshape else None
        self.travelled = Travelled()

    def report(self, rekognition: LocalRekognition | None = None) -> CloudReport:
        """Bring the tables up to date, and compare everything with the log.

        Raises
        ------
        ResourceError
            A server does not answer.
        """
        report = CloudReport(self.travelled, pictures_in_bucket=len(self.pictures.ids()))
        report.reshaped = self.reshaping.done if self.reshaping else []
        report.rekognition_calls = rekognition.calls["DetectFaces"] if rekognition else -1
        keep_days = self.settings.aws.keep_days
        tables = DynamoTables(self.clients.client("dynamodb"), self.settings.aws.tables)
        DynamoFeed(self.log, tables, keep_days).run_once()
        rows = list(self.log.scan("decisions", "outcomes"))
        wanted = first_of(
            [item for row in rows if (item := item_of(decode(row.value), keep_days)) is not None]
        )
        held = {
            (kind, item["decision_id"]["S"]): plain(item)
            for kind in KINDS
            for item in tables.items(kind)
        }
        report.items = len(held)
        report.tables_equal = held == {place: plain(item) for place, item in wanted.items()}
        there = KinesisLog(
            self.streams, self.address, self.clock, reads_per_second=READS_PER_SECOND
        )
        report.on_kinesis_equal = all(
            by_id(list(there.scan(kind))) == by_id([row for row in rows if row.stream == kind])
            for kind in KINDS
        )
        return report

    def _prepare(self, settings: Settings) -> None:
        """Make bucket, queue, streams and tables, where they are not there yet."""
        s3, sqs = self.clients.client("s3"), self.clients.client("sqs")
        bucket, prefix = settings.pictures.bucket, settings.pictures.prefix
        ensure_bucket(s3, bucket, REGION, [prefix])
        answer = call(sqs, "sqs", "CreateQueue", QUEUE, QueueName=QUEUE)
        self.queue = str(answer["QueueUrl"])
        told = call(
            sqs,
            "sqs",
            "GetQueueAttributes",
            QUEUE,
            QueueUrl=self.queue,
            AttributeNames=["QueueArn"],
        )
        rules = [{"Name": "prefix", "Value": prefix}]
        notification = {
            "QueueArn": told["Attributes"]["QueueArn"],
            "Events": ["s3:ObjectCreated:*"],
            "Filter": {"Key": {"FilterRules": rules}},
        }
        call(
            s3,
            "s3",
            "PutBucketNotificationConfiguration",
            bucket,
            Bucket=bucket,
            NotificationConfiguration={"QueueConfigurations": [notification]},
        )
        create_streams(self.streams, self.address)
        DynamoTables(self.clients.client("dynamodb"), settings.aws.tables).create()

    def _make_pictures(self) -> PictureStore:
        return open_pictures(self.settings)

    def _make_analyser(self) -> Analyser:
        return make_analyser(self.settings, self.clock)

    def _make_step(self, engine: EmbeddedEngine, tail_ms: int) -> CloudStep:
        cloud = Cloud(
            self.streams,
            self.address,
            self.clients.client("sqs"),
            self.queue,
            self.settings.pictures.prefix,
            self.reshaping or (lambda _sent: None),
        )
        step = CloudStep(self.log, self.clock, engine, tail_ms, self.pictures, cloud)
        self.travelled = step.travelled
        return step


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that stand for AWS here."""

    aws: LocalAws
    """S3, SQS, SNS, DynamoDB."""
    kinesis: LocalKinesis
    """Kinesis."""
    rekognition: LocalRekognition
    """Rekognition; its answers are made from the local analyser."""

    @property
    def endpoints(self) -> dict[str, str]:
        """Where each service is."""
        return {"kinesis": self.kinesis.endpoint, "rekognition": self.rekognition.endpoint}


@contextmanager
def local_servers(settings: Settings) -> Iterator[Servers]:
    """Start the servers; they end with the block, and keep nothing.

    Raises
    ------
    ResourceError
        One cannot be fetched or does not start.
    """
    with ExitStack() as stack:
        aws = stack.enter_context(LocalAws())
        kinesis = stack.enter_context(LocalKinesis(fetch_local_kinesis(settings.cache)))
        looking = LocalRekognition(LocalAnalyser(settings.cache))
        yield Servers(aws, kinesis, stack.enter_context(looking))


def cloud_settings(settings: Settings, endpoint: str, endpoints: dict[str, str]) -> Settings:
    """Return settings that lead everything by way of AWS at these addresses."""
    replace = msgspec.structs.replace
    aws = replace(
        settings.aws, region=REGION, endpoint=endpoint, endpoints=endpoints, tables=TABLES
    )
    kinesis = endpoints.get("kinesis", endpoint)
    address = KinesisAddress(REGION, PREFIX, kinesis)
    # Without a fallback, so that every answer is Rekognition's; as fast as the stand-in is.
    rekognition = replace(settings.rekognition, fallback="none", calls_per_second=1_000.0)
    return replace(
        settings,
        aws=aws,
        log=replace(settings.log, address=str(address)),
        pictures=replace(settings.pictures, store="s3", bucket=BUCKET),
        analysis=replace(settings.analysis, analyser="rekognition"),
        rekognition=rekognition,
    )


def outcomes_of(log: EmbeddedLog) -> set[bytes]:
    """Return every outcome as its bytes: what two demos of one seed must have in common."""
    return {row.value for row in log.scan("outcomes")}
