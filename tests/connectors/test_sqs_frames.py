"""What a dumb camera uploads becomes a frame, once; what is none touches nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.aws_clients import AwsClients
from connectors.embedded_log import EmbeddedLog
from connectors.s3_pictures import S3Pictures, ensure_bucket
from connectors.sqs_frames import SqsFrames, UploadSettings
from connectors.upload_notes import Note, read_note
from faulty_aws import Faults, FaultyAws
from local_aws_fixture import local_clients
from schemas.codec import decode
from schemas.errors import CloudError, LogUnavailable
from schemas.frames import FrameCaptured
from schemas.operations import SideRecord

UPLOADS, OTHER, KEPT = "shop-uploads", "other-uploads", "shop-kept"
JPEG = bytes(cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes())
AT = "2026-01-05T09:15:00.250Z"
AT_MS = 1_767_604_500_250


def event(key: str, bucket: str = UPLOADS, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    s3 = {"bucket": {"name": bucket}, "object": {"key": key, "size": 10, "sequencer": "0A"}}
    record = {"eventVersion": "2.1", "eventSource": "aws:s3", "eventTime": AT, "eventName": name}
    return {"Records": [{**record, "s3": s3}]}


def read(document: Any) -> Note:
    return read_note(json.dumps(document), UPLOADS, "uploads/")


def test_a_key_says_kiosk_session_place_and_phase() -> None:
    (upload,) = read(event("uploads/door-1/20260105-0915/3-post.jpg")).uploads
    assert (upload.kiosk_id, upload.visit_id) == ("door-1", "door-1.20260105-0915")
    assert (upload.sequence, upload.phase, upload.at_ms) == (3, "post", AT_MS)
    assert upload.frame_id == "door-1.20260105-0915.post.3"


def test_two_doors_with_one_session_name_are_two_visits() -> None:
    keys = ("uploads/a-b/c/0-pre.jpg", "uploads/a/b-c/0-pre.jpg")
    ids = {upload.visit_id for key in keys for upload in read(event(key)).uploads}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (event("uploads/d/s/0-pre.jpg", OTHER), "foreign_bucket"),
        (event("elsewhere/d/s/0-pre.jpg"), "foreign_key"),
        (event("uploads/" + "x" * 1_100), "foreign_key"),
        (event("uploads/d/s/0-pre.gif"), "bad_key"),
        (event("uploads/d/s/0-mid.jpg"), "bad_key"),
        (event("uploads/d/s/-1-pre.jpg"), "bad_key"),
        (event("uploads/d/../0-pre.jpg"), "bad_key"),
        (event("uploads/d/s/t/0-pre.jpg"), "bad_key"),
        (event("uploads/d/s%2F..%2F/0-pre.jpg"), "bad_key"),
        (event("uploads/d/s/%D9%A0-pre.jpg"), "bad_key"),
        (event("uploads/d%FF/s/0-pre.jpg"), "no_event"),
        (event("uploads/d/s/0-pre.jpg", name="ObjectRemoved:Delete"), "other_event"),
        ({}, "no_event"),
        ([], "no_event"),
        ({"Records": []}, "no_event"),
        ({"Records": [{}]}, "no_event"),
        ({"Records": [None]}, "no_event"),
        ({"Type": "Notification", "Message": "{}"}, "no_event"),
    ],
)
def test_what_is_no_upload_of_ours_is_put_aside(document: Any, reason: str) -> None:
    note = read(document)
    assert [each.reason for each in note.refused] == [reason]
    assert not note.uploads


def test_a_time_that_is_none_is_put_aside() -> None:
    for at in ("yesterday", "", 3, None, "2026-01-05T09:15:00", "0001-01-01T00:00:00Z"):
        told = event("uploads/d/s/0-pre.jpg")
        told["Records"][0]["eventTime"] = at
        assert [each.reason for each in read(told).refused] == ["no_event"], at


def test_the_test_event_is_no_upload_and_no_error() -> None:
    assert read({"Service": "Amazon S3", "Event": "s3:TestEvent"}) == Note(is_test=True)


@given(
    st.text(),
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["Records", "s3", "object", "bucket", "key", "eventName", "eventTime"]
                ),
                inner,
            )
        ),
    ),
)
def test_no_text_breaks_the_reading(text: str, document: Any) -> None:
    for body in (text, json.dumps(document)):
        assert not read_note(body, UPLOADS, "uploads/").uploads


def test_brackets_without_end_are_no_json() -> None:
    assert read_note("[" * 100_000, UPLOADS, "uploads/").refused[0].reason == "no_json"


# Against a queue and buckets


@pytest.fixture(scope="module")
def clients() -> Iterator[AwsClients]:
    with local_clients() as (_, made):
        yield made


@dataclass
class Shop:
    """A bucket that tells a queue, and a log."""

    clients: AwsClients
    log: EmbeddedLog
    queue: str

    @property
    def s3(self) -> Any:
        return self.clients.client("s3")

    @property
    def sqs(self) -> Any:
        return self.clients.client("sqs")

    def source(self, **told: Any) -> SqsFrames:
        base = UploadSettings(self.queue, UPLOADS, "uploads/", "greeting", "posted")
        pictures = S3Pictures(self.s3, KEPT)
        return SqsFrames(self.sqs, self.s3, pictures, self.log, replace(base, **told))

    def upload(self, name: str, body: bytes = JPEG, bucket: str = UPLOADS) -> None:
        self.s3.put_object(Bucket=bucket, Key=f"uploads/{name}", Body=body)

    def send(self, document: Any) -> None:
        body = document if isinstance(document, str) else json.dumps(document)
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=body)

    def frames(self) -> list[FrameCaptured]:
        return [decode(row.value) for row in self.log.scan("frames")]

    def letters(self) -> list[SideRecord]:
        return [decode(row.value) for row in self.log.scan("dead-letters")]

    def keys(self, bucket: str) -> list[str]:
        return [e["Key"] for e in self.s3.list_objects_v2(Bucket=bucket).get("Contents", ())]

    def waiting(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=names)
        return sum(int(value) for value in told["Attributes"].values())


@pytest.fixture
def shop(clients: AwsClients, tmp_path: Path) -> Iterator[Shop]:
    s3, sqs = clients.client("s3"), clients.client("sqs")
    for bucket in (UPLOADS, OTHER, KEPT):
        ensure_bucket(s3, bucket, clients.access.region, ("pictures/", "uploads/"))
        for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
            s3.delete_object(Bucket=bucket, Key=each["Key"])
    queue = sqs.create_queue(QueueName=f"q{tmp_path.name[-30:]}")["QueueUrl"]
    (arn,) = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])[
        "Attributes"
    ].values()
    told = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket=UPLOADS, NotificationConfiguration=told)
    for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]:
        assert "s3:TestEvent" in message["Body"], "S3 tries the queue when it is told of it"
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    log = EmbeddedLog(tmp_path / "shop")
    made = Shop(clients, log, queue)
    yield made
    log.close()
    sqs.delete_queue(QueueUrl=queue)


def drain(shop: Shop, source: SqsFrames) -> SqsFrames:
    while shop.waiting():
        source.step(1)
    source.close()
    return source


def test_an_upload_becomes_a_frame_and_is_gone(shop: Shop) -> None:
    before_ms = time.time_ns() // 1_000_000
    shop.upload("door-1/s1/0-pre.jpg")
    drain(shop, shop.source(language="de", utc_offset_minutes=60))
    (frame,) = shop.frames()
    assert (frame.frame_id, frame.decision_id, frame.kiosk_id) == (
        "door-1.s1.pre.0",
        "door-1.s1",
        "door-1",
    )
    assert (frame.width, frame.height, frame.language) == (64, 48, "de")
    assert before_ms - 2_000 <= frame.captured_at_ms <= time.time_ns() // 1_000_000 + 2_000
    assert S3Pictures(shop.s3, KEPT).get(frame.picture_id or "") == JPEG
    assert "door" not in (frame.picture_id or "")
    assert shop.keys(UPLOADS) == []
    assert shop.waiting() == 0
    tags = shop.s3.get_object_tagging(Bucket=KEPT, Key=f"pictures/{frame.picture_id}")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags}["session"] == "door-1.s1"


def test_repeats_and_any_order_make_each_frame_once(shop: Shop) -> None:
    names = [
        f"door-1/s{n}/{place}-{phase}.jpg"
        for n in range(4)
        for place, phase in ((1, "post"), (0, "pre"))
    ]
    for name in names:
        shop.upload(name)
        shop.send(event(f"uploads/{name}"))
    source = drain(shop, shop.source())
    assert len(shop.frames()) == len({f.frame_id for f in shop.frames()}) == 8
    assert source.counters.repeats == 8
    assert shop.keys(UPLOADS) == []
    for name in names:  # and by a process that remembers nothing
        shop.send(event(f"uploads/{name}"))
    again = drain(shop, shop.source())
    assert (again.counters.frames, again.counters.repeats, again.counters.dead_letters) == (0, 8, 0)
    assert shop.waiting() == 0


def test_a_foreign_object_is_a_dead_letter_and_nothing_is_touched(shop: Shop) -> None:
    shop.upload("door-1/s1/0-pre.jpg", bucket=OTHER)
    shop.s3.put_object(Bucket=UPLOADS, Key="private/secret.jpg", Body=JPEG)
    drain(shop, shop.source())
    asked: list[str] = []

    def note(model: Any, params: Any, **_: Any) -> None:
        asked.append(model.name)

    shop.s3.meta.events.register("before-call.s3", note)
    try:
        shop.send(event("uploads/door-1/s1/0-pre.jpg", OTHER))
        shop.send(event("private/secret.jpg"))
        shop.send("not json")
        source = drain(shop, shop.source())
    finally:
        shop.s3.meta.events.unregister("before-call.s3", note)
    assert asked == []
    letters = shop.letters()[-3:]
    assert sorted(each.reason for each in letters) == ["foreign_bucket", "foreign_key", "no_json"]
    assert {each.stream for each in letters} == {"uploads"}
    assert b"not json" in {each.raw for each in letters}
    assert source.counters.dead_letters == 3
    assert shop.keys(OTHER) == ["uploads/door-1/s1/0-pre.jpg"]
    assert shop.keys(UPLOADS) == ["private/secret.jpg"]
    assert shop.waiting() == 0
    assert not shop.frames()


def test_what_is_no_picture_is_a_dead_letter_without_the_picture(shop: Shop) -> None:
    shop.upload("door-1/s1/0-pre.jpg", b"no picture at all")
    shop.upload("door-1/s1/1-post.jpg", JPEG[:-10])
    drain(shop, shop.source())
    assert [each.reason for each in shop.letters()] == ["unreadable_picture"] * 2
    assert all(b"no picture" not in each.raw for each in shop.letters())
    assert shop.keys(UPLOADS) == shop.keys(KEPT) == []
    assert shop.waiting() == 0


def test_a_key_that_says_nothing_is_a_dead_letter_and_its_object_goes(shop: Shop) -> None:
    shop.upload("door-1/portrait.jpg")
    drain(shop, shop.source())
    assert [each.reason for each in shop.letters()] == ["bad_key"]
    assert shop.keys(UPLOADS) == []


def test_without_a_notice_no_picture_is_read_or_kept(shop: Shop) -> None:
    shop.upload("door-1/s1/0-pre.jpg")
    drain(shop, shop.source(notice="none"))
    (frame,) = shop.frames()
    assert (frame.notice, frame.width) == ("none", 0)
    assert shop.keys(UPLOADS) == shop.keys(KEPT) == []


def test_a_log_that_takes_nothing_leaves_the_message_and_no_picture(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.upload("door-1/s1/0-pre.jpg")
    source = shop.source(visibility_s=1)

    def refuse(_records: Any) -> None:
        problem = "nobody is there"
        raise LogUnavailable(problem)

    with monkeypatch.context() as patch:
        patch.setattr(shop.log, "append_all", refuse)
        with pytest.raises(LogUnavailable):
            source.step()
    source._pictures.flush()  # type: ignore[attr-defined]
    assert shop.keys(KEPT) == []
    assert shop.keys(UPLOADS) == ["uploads/door-1/s1/0-pre.jpg"]
    time.sleep(1.1)
    drain(shop, source)
    assert len(shop.frames()) == 1
    assert shop.waiting() == 0


def test_a_kill_between_log_and_deletion_makes_a_repeat(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.upload("door-1/s1/0-pre.jpg")
    source = shop.source(visibility_s=1)

    class Killed(BaseException):
        pass

    def die(_taken: Any) -> None:
        raise Killed

    monkeypatch.setattr(source, "_finish", die)
    with pytest.raises(Killed):
        source.step()
    source.close()
    assert shop.waiting() == 1
    time.sleep(1.1)
    drain(shop, shop.source())
    frames = shop.frames()
    assert {frame.frame_id for frame in frames} == {"door-1.s1.pre.0"}
    assert len(frames) <= 2, "the very same frame once more: engines take it for a repeat"
    assert shop.waiting() == 0


def test_a_bucket_that_is_slow_now_leaves_the_message_for_soon(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.upload("door-1/s1/0-pre.jpg")
    source = shop.source()

    def slow(_key: str) -> bytes:
        problem = "AWS s3 GetObject: SlowDown"
        raise CloudError(problem, "", "retry", "SlowDown")

    with monkeypatch.context() as patch:
        patch.setattr(source, "_object", slow)
        while not source.counters.put_back:
            source.step()
    assert shop.waiting() >= 1
    assert not shop.frames()
    time.sleep(2.1)
    drain(shop, source)
    assert len(shop.frames()) == 1


def test_a_queue_that_is_not_there_says_so(shop: Shop) -> None:
    source = shop.source(queue_url=shop.queue + "-not")
    with pytest.raises(CloudError, match="QueueDoesNotExist") as caught:
        source.step()
    source.close()
    assert caught.value.action == "stop"


def test_through_a_faulty_network_nothing_is_lost_and_nothing_stays(shop: Shop) -> None:
    names = [f"door-{n % 3}/s{n}/0-pre.jpg" for n in range(24)]
    for name in names:
        shop.upload(name)
    faults = Faults(throttled=0.05, failed=0.01, reset=0.02, lost=0.03, slow=0.02, slow_s=0.2)
    with FaultyAws(shop.clients.access.endpoint, faults, seed=4) as proxy:
        far = AwsClients(replace(shop.clients.access, endpoint=proxy.endpoint))
        pictures = S3Pictures(far.client("s3"), KEPT)
        settings = UploadSettings(
            shop.queue, UPLOADS, "uploads/", "greeting", "posted", visibility_s=5
        )
        source = SqsFrames(far.client("sqs"), far.client("s3"), pictures, shop.log, settings)
        proxy.throttle_all = True  # for as long as it takes to fail for good
        with pytest.raises(CloudError) as caught:
            source.step()
        assert caught.value.action == "retry"
        assert not shop.frames()
        proxy.throttle_all = False
        while shop.waiting():
            try:
                source.step(1)
            except CloudError as error:
                assert error.action == "retry"
            except LogUnavailable:
                continue
        source.close()
        assert {frame.frame_id for frame in shop.frames()} == {
            f"door-{n % 3}.s{n}.pre.0" for n in range(24)
        }
        for frame in shop.frames():
            pictures.delete(frame.picture_id or "")
        assert pictures.flush(60.0)
        assert proxy.done["throttled"] > 0
        assert sum(proxy.done.values()) - proxy.done["passed"] >= 5
        far.close()
    near = S3Pictures(shop.s3, KEPT)
    near.sweep(time.time_ns() // 1_000_000 + 11_500, ())
    assert shop.keys(UPLOADS) == shop.keys(KEPT) == []
    assert not shop.letters()
