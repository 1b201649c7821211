"""Pictures in S3, looked at by Rekognition, told by SQS: by settings alone; none stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec
import pytest

from connectors.clocks import WallClock
from connectors.embedded_log import EmbeddedLog
from connectors.guarding import read_spent
from connectors.local_analyser import LocalAnalyser
from connectors.local_rekognition import Faults, LocalRekognition
from connectors.s3_pictures import S3Pictures, ensure_bucket
from engines.embedded import EmbeddedEngine
from engines.job import Job, configure
from engines.service_settings import Services
from engines.services import close_answerer
from local_aws_fixture import local_clients
from policies.endpoint import feature_names
from producers.stretches import load_stretches
from schemas.codec import decode, encode
from schemas.errors import LogUnavailable, SettingsError
from schemas.frames import FrameAnalyzed
from schemas.operations import SideRecord
from serving.services import (
    SPENT,
    make_answerer,
    make_flow,
    open_pictures,
    services_of,
    wants_labels,
)
from serving.settings import Settings, load
from serving.stopping import Stop
from serving.uploads_commands import run_uploads
from worlds import captured

BUCKET = "shop"
ROOT = Path(__file__).resolve().parents[2]


def jpeg(stretch: str) -> bytes:
    picture = load_stretches(None).picture(stretch, 0)
    return bytes(cv2.imencode(".jpg", picture)[1].tobytes())


@dataclass
class Cloud:
    """Servers that stand for AWS, and a shop that is set up for them."""

    flags: dict[str, Any]
    clients: Any
    looking: LocalRekognition
    folder: Path

    @property
    def s3(self) -> Any:
        return self.clients.client("s3")

    def settings(self, **more: Any) -> Settings:
        return load(None, {**self.flags, **more}, {})

    def upload(self, name: str, picture: bytes) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=f"uploads/{name}", Body=picture)

    def keys(self) -> list[str]:
        return [e["Key"] for e in self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", ())]

    def take_uploads(self, **more: Any) -> dict[str, int]:
        cloud = self

        class WhenTaken(Stop):
            def is_set(self) -> bool:
                return not any(key.startswith("uploads/") for key in cloud.keys())

        return run_uploads(self.settings(**more), WhenTaken())

    def analyses(self) -> list[FrameAnalyzed]:
        log = EmbeddedLog(self.folder)
        try:
            return [decode(row.value) for row in log.scan("analyses")]
        finally:
            log.close()


@contextmanager
def engine(settings: Settings) -> Iterator[tuple[EmbeddedEngine, Job]]:
    log = EmbeddedLog(settings.data, WallClock())
    pictures = open_pictures(settings)
    answerer = make_answerer(settings, pictures, log.clock)
    made = EmbeddedEngine(log, make_flow(settings), answerer)
    try:
        configure(log, settings.loops)
        yield made, Job(made, pictures, settings.loops)
    finally:
        made.close()
        close_answerer(answerer)
        log.close()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    faults = Faults(throttled=0.1, broken=0.05, torn=0.05, seed=2)
    with (
        local_clients() as (aws, clients),
        LocalRekognition(LocalAnalyser(), faults=faults) as looking,
    ):
        s3, sqs = clients.client("s3"), clients.client("sqs")
        ensure_bucket(s3, BUCKET, clients.access.region, ("pictures/", "uploads/"))
        queue = sqs.create_queue(QueueName="uploads")["QueueUrl"]
        names = ["QueueArn"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        told = {"QueueArn": arn["QueueArn"], "Events": ["s3:ObjectCreated:*"]}
        told["Filter"] = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "uploads/"}]}}
        s3.put_bucket_notification_configuration(
            Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": [told]}
        )
        flags = {
            "data": str(tmp_path / "shop"),
            "aws.endpoint": aws.endpoint,
            "aws.endpoints": {"rekognition": looking.endpoint},
            "aws.region": clients.access.region,
            "analysis.analyser": "rekognition",
            "analysis.time_limit_ms": 30_000,
            "analysis.tries": 6,
            "rekognition.calls_per_second": 200.0,
            "rekognition.fallback": "none",
            "pictures.store": "s3",
            "pictures.bucket": BUCKET,
            "uploads.queue": queue,
            "uploads.bucket": BUCKET,
            "kiosk.notice": "posted",
        }
        yield Cloud(flags, clients, looking, tmp_path / "shop")


def test_from_upload_to_decision_and_nothing_is_left(cloud: Cloud) -> None:
    for number in range(4):
        cloud.upload(f"door-1/s{number}/0-pre.jpg", jpeg("woman/rest"))
    cloud.upload("door-1/s0/1-post.jpg", jpeg("woman/smile"))
    told = cloud.take_uploads()
    assert (told["frames"], told["dead_letters"]) == (5, 0)
    assert len(cloud.keys()) == 5, "each picture once, under an opaque key"
    with engine(cloud.settings()) as (made, _):
        made.run_to_rest()
        decisions = list(made.log.scan("decisions"))
    analyses = cloud.analyses()
    assert {(each.status, each.analyser) for each in analyses} == {("ok", "rekognition")}
    assert len(decisions) == 4
    assert cloud.keys() == []
    assert read_spent(cloud.folder / SPENT).calls == 5
    pictures = cloud.folder / "pictures"
    assert not pictures.exists() or not any(pictures.iterdir()), "none on disk either"


def test_a_frame_that_names_anything_else_touches_nothing(cloud: Cloud) -> None:
    for key in ("other/secret.jpg", "secret"):
        cloud.s3.put_object(Bucket=BUCKET, Key=key, Body=jpeg("woman/rest"))
    opaque = "0" * 32
    places = ("other/secret.jpg", "../other/secret.jpg", f"s3://{BUCKET}/secret", "/etc/passwd")
    with engine(cloud.settings()) as (made, job):
        now_ms = made.log.clock()
        frame = captured("v", "pre", 0, now_ms, None, picture_id=opaque, edge_analysis=None)
        good = encode(frame)
        # The same bytes with another name in the place of the id: ours would refuse to write it.
        length = len(opaque) * 2
        mark = bytes([length]) + opaque.encode()
        assert good.count(mark) == 1
        rows = []
        for place in places:
            named = bytes([len(place) * 2]) + place.encode()
            rows.append(("frames", place[:10], good.replace(mark, named)))
        made.log.append_bytes(rows)
        made.run_to_rest()
        job.sweep()
        letters: list[SideRecord] = [decode(row.value) for row in made.log.scan("dead-letters")]
    assert len(letters) == len(places)
    assert all("is not a picture's id" in each.error for each in letters)
    assert cloud.analyses() == []
    assert sorted(cloud.keys()) == ["other/secret.jpg", "secret"]
    assert cloud.looking.calls["DetectFaces"] == 0


def test_killed_in_between_no_picture_stays(cloud: Cloud, tmp_path: Path) -> None:
    for number in range(3):
        cloud.upload(f"door-1/s{number}/0-pre.jpg", jpeg("woman/rest"))
    cloud.take_uploads()
    stray = S3Pictures(cloud.s3, BUCKET).put(jpeg("woman/rest"))  # a kiosk killed before its frame
    cloud.looking.delay_ms = 60_000.0
    config = tmp_path / "pho.toml"
    lines = {name: value for name, value in cloud.flags.items() if name != "aws.endpoints"}
    text = [
        f"{name} = {str(v).lower() if isinstance(v, bool) else repr(v)}"
        for name, v in lines.items()
    ]
    text.append(f'aws.endpoints.rekognition = "{cloud.looking.endpoint}"')
    config.write_text("\n".join(text))
    command = [sys.executable, "-c", "from serving.cli import main; main()"]
    job = subprocess.Popen(
        [*command, "run", "--config", str(config)], cwd=ROOT, stderr=subprocess.PIPE
    )
    try:
        until_s = time.monotonic() + 60
        while cloud.looking.calls["DetectFaces"] == 0 and time.monotonic() < until_s:
            time.sleep(0.05)
        assert cloud.looking.calls["DetectFaces"] > 0
        os.kill(job.pid, signal.SIGKILL)
    finally:
        job.kill()
        job.communicate()
    assert len(cloud.keys()) == 4
    cloud.looking.delay_ms = 0.0
    with engine(cloud.settings()) as (made, running):
        made.run_to_rest()
        assert running.pictures.flush(), "answered pictures are deleted in the background"
        now_ms = made.log.clock()
        swept = running.pictures.sweep(now_ms + 11_500, ())
    assert [each.status for each in cloud.analyses()] == ["ok"] * 3
    assert swept == (stray,)
    assert cloud.keys() == []


def test_while_s3_takes_nothing_a_kiosk_is_told_to_try_again(cloud: Cloud) -> None:
    settings = cloud.settings(**{"aws.endpoint": "http://127.0.0.1:9", "aws.tries": 1})
    with pytest.raises(LogUnavailable, match="PutObject"):
        open_pictures(settings).put(b"pixels")


def test_what_any_engine_is_told_is_what_the_settings_say(tmp_path: Path) -> None:
    plain = services_of(load(None, {"data": str(tmp_path)}, {}))
    assert plain == Services(pictures=str(tmp_path / "pictures"), concurrency=plain.concurrency)
    scored = feature_names(load(None, {}, {}).loops[0].action_ids)
    scoring = {
        "endpoint.name": "scores",
        "loops.greeting.policy.algorithm": "endpoint:thompson",
        "loops.greeting.features": ["bias", *scored],
    }
    told = services_of(
        load(
            None,
            {
                "data": str(tmp_path),
                "analysis.analyser": "rekognition",
                "rekognition.daily_budget": 6.0,
                "pictures.store": "s3",
                "pictures.bucket": BUCKET,
                **scoring,
            },
            {},
        )
    )
    assert (told.pictures, told.bucket, told.spent) == ("", BUCKET, str(tmp_path / SPENT))
    assert told.rekognition is not None
    assert told.endpoint is not None
    share = told.shared_by(3)
    assert share.rekognition is not None
    assert share.endpoint is not None
    assert share.rekognition.daily_budget == 2.0
    assert share.rekognition.calls_per_second == told.rekognition.calls_per_second / 3
    assert share.endpoint.calls_per_second == told.endpoint.calls_per_second / 3
    assert msgspec.json.decode(msgspec.json.encode(told), type=Services) == told
    assert services_of(load(None, {"endpoint.name": "scores"}, {})).endpoint is None


def test_labels_are_asked_for_only_where_a_loop_uses_them() -> None:
    plain = load(None, {}, {}).loops[0]
    assert not wants_labels(plain)
    names = ["bias", "happy", "label.handbag:happy"]
    assert wants_labels(load(None, {"loops.greeting.features": names}, {}).loops[0])
    scores = ["bias", "label.scored", *(f"label.score.{a}" for a in plain.action_ids)]
    assert not wants_labels(load(None, {"loops.greeting.features": scores}, {}).loops[0])


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"pictures.store": "s3"}, "pictures.bucket is empty"),
        ({"pictures.prefix": "/"}, "pictures.prefix"),
        ({"uploads.queue": "https://sqs/1/q"}, "uploads.bucket is empty"),
        ({"uploads.queue": "q", "uploads.bucket": "b"}, "uploads.queue is 'q'"),
        (
            {
                "pictures.store": "s3",
                "pictures.bucket": "b",
                "uploads.bucket": "b",
                "uploads.prefix": "pictures/uploads/",
            },
            "uploads.prefix",
        ),
        ({"rekognition.calls_per_second": 0.0}, "calls_per_second"),
        ({"rekognition.daily_budget": 1.0, "rekognition.price_per_call": 0.0}, "daily_budget"),
        ({"endpoint.time_limit_ms": 0}, "endpoint.time_limit_ms"),
        ({"polly.engine": "loud"}, "loud"),
        ({"analysis.analyser": "cloud"}, "cloud"),
    ],
)
def test_settings_that_could_not_work_are_refused(flags: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        load(None, flags, {})
