"""Lock-step with AWS in between: what a kiosk sends goes through S3, SQS and Kinesis and back.

Nothing is taken for granted on the way: a frame's picture must have been told of by the bucket's
queue, each record is read back from its stream before the log takes it, and a greeting is the one
that stands on Kinesis. The log's clock is still the recording's, so the outcomes are those of the
plain demo.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

from connectors.aws_errors import call
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_log import KinesisLog
from connectors.kinesis_source import KinesisSource
from connectors.logs import Row
from engines.embedded import EmbeddedEngine
from pipelines.analyze import Pictures
from schemas.codec import decode
from schemas.decisions import GreetingIssued
from schemas.errors import CloudError, ResourceError
from serving.lockstep import LockStep

SENT = ("frames", "impressions", "visits")
"""Streams that a kiosk writes."""
MADE = (
    "loops analyses decisions greetings outcomes policies alarms late unmatched dead-letters"
).split()
"""Streams that the job writes."""
READS_PER_SECOND = 200.0
"""A server on this machine has no limit of 5."""
PUBLISHED = "demo.published"
WAIT_S = 30.0
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Cloud:
    """What of AWS a demo uses."""

    kinesis: Any
    """Client of Kinesis."""
    address: KinesisAddress
    """The log there."""
    sqs: Any
    """Client of SQS."""
    queue: str
    """URL of the queue that the bucket tells of new objects."""
    prefix: str
    """What pictures' keys begin with."""
    between: Callable[[int], None] = lambda _sent: None
    """Called with the number of records sent: a demo splits and merges shards there."""


@dataclass(slots=True)
class Travelled:
    """What went through."""

    notices: int = 0
    """Notices of new pictures."""
    sent: int = 0
    """Records sent to Kinesis by the kiosk."""
    read: int = 0
    """Records read from it."""
    repeats: int = 0
    """Of those, records that had come before: sent again after a failure or a kill."""
    published: int = 0
    """Records of the job on Kinesis."""
    shards: set[str] = field(default_factory=set)
    """Shards of `frames` that records came from."""


class CloudStep(LockStep):
    """The log as a kiosk in lock-step sees it, behind AWS.

    Parameters
    ----------
    log, clock, engine, tail_ms, pictures
        As for `LockStep`.
    cloud : Cloud
        What stands in between.
    """

    def __init__(
        self,
        log: EmbeddedLog,
        clock: SetClock,
        engine: EmbeddedEngine,
        tail_ms: int,
        pictures: Pictures,
        cloud: Cloud,
    ) -> None:
        super().__init__(log, clock, engine, tail_ms, pictures)
        self.travelled = Travelled()
        self._cloud = cloud
        self._kinesis = KinesisLog(
            cloud.kinesis, cloud.address, clock, reads_per_second=READS_PER_SECOND
        )
        places = log.fact("demo.places", "")
        begin = json.loads(places) if places else {name: {} for name in SENT}
        # From the beginning, always: a demo played again asks for greetings that it read before.
        begin["greetings"] = {}
        # All streams by one source: where each is read to is one fact in the log's file.
        self._source = KinesisSource(cloud.kinesis, cloud.address, begin, READS_PER_SECOND)
        self._come: dict[str, bytes] = {}
        self._greeted: dict[tuple[str, str], GreetingIssued] = {}

    def append(self, stream: str, value: Any) -> None:
        """Send a record, read it back, and let the log take what came."""
        record_id = str(getattr(value, "frame_id", None) or value.event_id)
        if self.holds(value):
            super().append(stream, value)
            return
        picture_id = getattr(value, "picture_id", None)
        if picture_id:
            self._wait_for_notice(picture_id)
        self._kinesis.append(stream, value)
        self.travelled.sent += 1
        self._cloud.between(self.travelled.sent)
        what = f"record {record_id} of {stream}"
        wait_until(lambda: self._came(record_id), what, lambda: self._read(stream))
        super().append(stream, decode(self._come.pop(record_id)))
        # Behind the record: read again after a kill, it is a repeat that the log holds.
        with self.log.transaction():
            self.log.set_fact("demo.places", json.dumps(self._source.places))

    def greeting(self, kiosk_id: str, visit_id: str) -> GreetingIssued | None:
        """Return the greeting of a visit as it stands on Kinesis; None: none was issued."""
        if super().greeting(kiosk_id, visit_id) is None:
            return None
        self.publish()
        key = (kiosk_id, visit_id)
        what = f"the greeting of {visit_id}"
        wait_until(lambda: key in self._greeted, what, lambda: self._read("greetings"))
        return self._greeted[key]

    def finish(self) -> None:
        """Let time pass until nothing can happen any more, and publish all of it."""
        super().finish()
        self.publish()
        self._source.close()

    def publish(self) -> None:
        """Send what the job wrote since the last time, in the log's order, at least once."""
        through = int(self.log.fact(PUBLISHED))
        while rows := self.log.read(through, streams=MADE):
            self._kinesis.append_bytes([(row.stream, row.key, row.value) for row in rows])
            through = rows[-1].position
            self.travelled.published += len(rows)
            with self.log.transaction():
                self.log.set_fact(PUBLISHED, through)

    def _came(self, record_id: str) -> bool:
        return record_id in self._come

    def _read(self, stream: str) -> None:
        among = {place for place in self._source.reading if place[0] == stream}
        for batch in self._source.poll(_POLL_S, among):
            for record in batch.records:
                self._take(record.stream, record.data)
                if record.stream == "frames":
                    self.travelled.shards.add(batch.shard_id)

    def _take(self, stream: str, data: bytes) -> None:
        self.travelled.read += 1
        value = decode(data)
        if isinstance(value, GreetingIssued):
            self._greeted.setdefault((value.kiosk_id, value.visit_id), value)
            return
        record_id = str(getattr(value, "frame_id", None) or value.event_id)
        if record_id in self._come or self.holds(value):
            self.travelled.repeats += 1
            return
        self._come[record_id] = data

    def _wait_for_notice(self, picture_id: str) -> None:
        """Wait until the queue tells of the picture; what it tells of others is past."""
        wanted = self._cloud.prefix + picture_id
        told: set[str] = set()
        wait_until(
            lambda: wanted in told,
            f"the notice of {wanted}",
            lambda: told.update(self._notices()),
        )

    def _notices(self) -> set[str]:
        sqs, queue = self._cloud.sqs, self._cloud.queue
        answer = call(
            sqs,
            "sqs",
            "ReceiveMessage",
            queue,
            QueueUrl=queue,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=1,
        )
        told = set()
        for message in answer.get("Messages", ()):
            for record in json.loads(message["Body"]).get("Records", ()):
                # Keys come as in a form's address: a blank is a plus sign.
                told.add(unquote_plus(record["s3"]["object"]["key"]))
                self.travelled.notices += 1
            call(
                sqs,
                "sqs",
                "DeleteMessage",
                queue,
                QueueUrl=queue,
                ReceiptHandle=message["ReceiptHandle"],
            )
        return told


def wait_until(done: Callable[[], bool], what: str, look: Callable[[], None]) -> None:
    """Look again and again until it is there.

    Raises
    ------
    ResourceError
        It does not come.
    """
    until_s = time.monotonic() + WAIT_S
    while not done():
        if time.monotonic() > until_s:
            problem = f"{what} did not come within {WAIT_S:.0f} s"
            raise ResourceError(problem, "Start the demo again; it goes on where it stopped")
        try:
            look()
        except CloudError as error:
            if error.action != "retry":
                raise


def by_id(rows: list[Row]) -> dict[str, set[bytes]]:
    """Return the distinct bytes of each decision's records: more than one would be a fault."""
    found: dict[str, set[bytes]] = {}
    for row in rows:
        value = decode(row.value)
        choice = getattr(value, "choice", None)
        if choice is not None:
            found.setdefault(choice.decision_id, set()).add(row.value)
    return found
