"""What `pho doctor --aws` looks at: every service that the settings use, as far as it can be tried.

Each try is the call that PHO itself will make, so what is refused here would be refused there. A
picture of a few bytes is put into the bucket and taken out again; Rekognition is asked about bytes
that are no picture, which costs nothing; nothing is sent to a topic or a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from connectors.aws_errors import call
from connectors.aws_failures import MISSING, SERVICES
from connectors.dynamodb_items import KINDS, POSITIONS
from schemas.errors import CloudError, PhoError, ResourceError
from serving.findings import Finding
from serving.kinesis_opening import connect_kinesis, is_on_kinesis
from serving.services import aws_clients
from serving.settings import Settings

if TYPE_CHECKING:
    from connectors.aws_clients import AwsClients

_NO_PICTURE = b"no picture"
_TEMPLATE = "deploy/aws/template.yaml makes it (docs/aws.md)"


def examine(settings: Settings) -> list[Finding]:
    """Look at everything of AWS that these settings use."""
    try:
        clients = aws_clients(settings)
        # STS and S3 go without a region; whoever takes it from there fails at the next service.
        clients.client("sts" if is_on_kinesis(settings) else "dynamodb")
    except ResourceError as error:
        return [Finding("aws", "missing", error.problem, error.cure)]
    except PhoError as error:
        return [Finding("aws", "broken", error.problem, error.cure)]
    who = _who(clients)
    findings = [who]
    if who.state != "ok":
        return findings  # nothing below could be told from this
    for look in (_kinesis, _pictures, _uploads, _rekognition, _tables, _topic, _polly, _endpoint):
        findings += look(settings, clients)
    return findings


def _who(clients: AwsClients) -> Finding:
    """Say who we are: the first call finds a wrong clock, an expired token and a dead network."""
    where = clients.access.endpoint or clients.access.region or "the region of boto3's settings"

    def ask() -> str:
        answer = call(clients.client("sts"), "sts", "GetCallerIdentity")
        return f"{answer.get('Arn', answer['Account'])}, {where}"

    return _tried("aws", ask)


def _kinesis(settings: Settings, _clients: AwsClients) -> Iterator[Finding]:
    if not is_on_kinesis(settings):
        return
    from connectors.kinesis_streams import KINESIS_STREAMS

    client, address = connect_kinesis(settings)
    missing, refused, name = [], [], ""
    for stream in KINESIS_STREAMS:
        name = address.stream_name(stream)
        try:
            call(client, "kinesis", "DescribeStreamSummary", name, StreamName=name)
        except CloudError as error:
            if error.code != "ResourceNotFoundException":
                refused.append(error)
                break
            missing.append(name)
    if refused:
        yield _finding("kinesis", refused[0])
    elif missing:
        text = f"{address}: there is no {', '.join(missing)}"
        yield Finding("kinesis", "missing", text, f"pho topics create --log {address}")
    else:
        yield _tried("kinesis", lambda: _read_a_shard(client, address.stream_name("frames")))


def _read_a_shard(client: Any, name: str) -> str:
    shards = call(client, "kinesis", "ListShards", name, StreamName=name)["Shards"]
    iterator = call(
        client,
        "kinesis",
        "GetShardIterator",
        name,
        StreamName=name,
        ShardId=shards[0]["ShardId"],
        ShardIteratorType="LATEST",
    )["ShardIterator"]
    call(client, "kinesis", "GetRecords", name, ShardIterator=iterator, Limit=1)
    return f"all streams are there, {name} with {len(shards)} shards; writing was not tried"


def _pictures(settings: Settings, clients: AwsClients) -> Iterator[Finding]:
    table = settings.pictures
    if table.store != "s3":
        return
    from connectors.s3_pictures import S3Pictures

    client = clients.client("s3")

    def look() -> str:
        call(client, "s3", "HeadBucket", table.bucket, Bucket=table.bucket)
        store = S3Pictures(client, table.bucket, table.prefix)
        picture_id = store.put(_NO_PICTURE)
        try:
            store.get(picture_id)
        finally:
            key = {"Key": store.prefix + picture_id}
            delete = {"Objects": [key], "Quiet": True}
            answer = call(
                client, "s3", "DeleteObjects", table.bucket, Bucket=table.bucket, Delete=delete
            )
            if failed := answer.get("Errors"):
                problem = f"AWS s3 DeleteObject of {table.bucket}: {failed[0].get('Code')}"
                raise CloudError(problem, "Allow s3:DeleteObject to PHO's role")
        return f"{table.bucket}: written, read and deleted; {len(store.ids())} in flight"

    yield _tried("pictures", look)


def _uploads(settings: Settings, clients: AwsClients) -> Iterator[Finding]:
    queue = settings.uploads.queue
    if not queue:
        return

    def look() -> str:
        name = "ApproximateNumberOfMessages"
        answer = call(
            clients.client("sqs"),
            "sqs",
            "GetQueueAttributes",
            queue,
            QueueUrl=queue,
            AttributeNames=[name],
        )
        return f"{queue}: {answer['Attributes'].get(name, '?')} notices wait"

    yield _tried("uploads", look)


def _rekognition(settings: Settings, clients: AwsClients) -> Iterator[Finding]:
    if settings.analysis.analyser != "rekognition":
        return

    def look() -> str:
        client = clients.client("rekognition")
        image = {"Bytes": _NO_PICTURE}
        try:
            call(client, "rekognition", "DetectFaces", Image=image, Attributes=["ALL"])
        except CloudError as error:
            if error.action != "dead_letter":
                raise
        return "answers"

    yield _tried("rekognition", look)


def _tables(settings: Settings, clients: AwsClients) -> Iterator[Finding]:
    prefix = settings.aws.tables
    if not prefix:
        return

    def look() -> str:
        client = clients.client("dynamodb")
        for kind in (*KINDS, POSITIONS):
            name = f"{prefix}-{kind}"
            call(client, "dynamodb", "DescribeTable", name, TableName=name)
        return f"{prefix}-… are there; writing was not tried"

    yield _tried("tables", look)


def _topic(settings: Settings, clients: AwsClients) -> Iterator[Finding]:
    topic = settings.aws.topic
    if not topic:
        return

    def look() -> str:
        call(clients.client("sns"), "sns", "GetTopicAttributes", topic, TopicArn=topic)
        return f"{topic} is there; nothing was sent"

    yield _tried("alarms", look)


def _polly(settings: Settings, clients: AwsClients) -> Iterator[Finding]:
    if not settings.polly.on or not settings.polly.voices:
        return

    def look() -> str:
        voice = next(iter(settings.polly.voices.values()))
        answer = call(
            clients.client("polly"),
            "polly",
            "SynthesizeSpeech",
            voice,
            Text=".",
            VoiceId=voice,
            Engine=settings.polly.engine,
            OutputFormat="mp3",
        )
        answer["AudioStream"].close()
        return f"{voice} speaks"

    yield _tried("polly", look)


def _endpoint(settings: Settings, _clients: AwsClients) -> Iterator[Finding]:
    if settings.endpoint.name:
        # A call would be a decision of nobody; its model may count it.
        yield Finding("endpoint", "ok", f"{settings.endpoint.name} was not asked")


def _tried(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, "ok", look())
    except CloudError as error:
        return _finding(what, error)
    except PhoError as error:
        return Finding(what, "broken", error.problem, error.cure)


def _finding(what: str, error: CloudError) -> Finding:
    service = error.problem.removeprefix("AWS ").partition(" ")[0]
    known = SERVICES[service].failures.get(error.code) if service in SERVICES else None
    if known is MISSING or error.code == "404":
        return Finding(what, "missing", error.problem, f"{error.cure}; {_TEMPLATE}")
    return Finding(what, "broken", error.problem, error.cure)
