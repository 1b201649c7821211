"""Pictures on S3, Rekognition and an endpoint on Flink: the job `analyze`, and `decide` behind it.

S3 is moto, Rekognition a stand-in that looks at the picture, the endpoint a small server; the
clients are boto3's, over HTTP.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import pytest

from connectors.aws_clients import AwsAccess
from connectors.kafka_clients import Outgoing
from connectors.local_analyser import LocalAnalyser
from connectors.local_rekognition import Faults, LocalRekognition
from connectors.s3_pictures import S3Pictures, ensure_bucket
from endpoint_server import EndpointServer
from engines.flink.graph import analyze_job, loop_job
from engines.flink.settings import JobSettings
from engines.service_settings import EndpointSettings, RekognitionSettings, Services
from flink_runs import Topics, running
from http_servers import serving
from local_aws_fixture import local_clients
from policies.endpoint import feature_names
from producers.stretches import load_stretches
from schemas.codec import decode, encode
from schemas.streams import key_of
from worlds import FEATURES, START_MS, captured, loop

pytestmark = pytest.mark.timeout(240)
BUCKET = "flink-shop"
VISITS = 12
LOOKED_THEMSELVES = 24
"""Visits after them, at kiosks that look at their pictures themselves."""
ACTIONS = ("a0", "a1", "a2")
SURE_OF = "a2"
SURE = {"a0": 0, "a1": 0, SURE_OF: 1}
CONFIG = loop(len(ACTIONS), "endpoint:thompson", feature_names=(*FEATURES, *feature_names(ACTIONS)))


@dataclass
class Shop:
    """The topics, the servers, and what came of the visits."""

    topics: Topics
    pictures: S3Pictures
    looking: LocalRekognition
    scoring: EndpointServer
    services: Services

    def put(self, value: Any, stream: str) -> None:
        topic, key = self.topics.address.topic(stream), key_of(value, stream).encode()
        self.topics.client.produce([Outgoing(topic, key, encode(value))])

    def arrive(self, picture: bytes) -> None:
        for number in range(VISITS):
            at_ms = time.time_ns() // 1_000_000
            frame = captured(f"v{number}", "pre", 0, at_ms, None)
            kept: dict[str, Any] = {"picture_id": self.pictures.put(picture), "edge_analysis": None}
            self.put(dataclasses.replace(frame, **kept), "frames")

    def tell(self) -> None:
        for number in range(VISITS, VISITS + LOOKED_THEMSELVES):
            at_ms = time.time_ns() // 1_000_000
            self.put(captured(f"v{number}", "pre", 0, at_ms, 0.9), "frames")

    def all(self, stream: str) -> list[Any]:
        return [decode(record.value or b"") for record in self.topics.records(stream)]


def services(endpoint: str, looking: str, scoring: str, region: str) -> Services:
    return Services(
        concurrency=4,
        time_limit_ms=30_000,
        tries=6,
        bucket=BUCKET,
        rekognition=RekognitionSettings(100.0, "none", 0.001, 0.0, 5, 1.0, 20, 0.5),
        endpoint=EndpointSettings("scores", 5_000, 100.0, 5, 1.0),
        aws=AwsAccess(
            region, endpoint, {"rekognition": looking, "sagemaker-runtime": scoring}, tries=6
        ),
    )


def both_jobs(env: Any, settings: JobSettings) -> None:
    analyze_job(env, settings)
    loop_job(env, settings)


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    faults = Faults(throttled=0.1, broken=0.05, torn=0.05, seed=2)
    topics = Topics("cloud", bridged=False)
    with (
        local_clients() as (aws, clients),
        LocalRekognition(LocalAnalyser(), faults=faults) as looking,
        serving(EndpointServer(lambda _asked: {"probabilities": SURE})) as model,
    ):
        region = clients.access.region
        s3 = clients.client("s3")
        ensure_bucket(s3, BUCKET, region, ("pictures/",))
        told = services(aws.endpoint, looking.endpoint, model.endpoint, region)
        them = Shop(topics, S3Pictures(s3, BUCKET), looking, model, told)
        smiling = load_stretches(None).picture("woman/smile", 0)
        them.put(CONFIG, "loops")
        them.arrive(bytes(cv2.imencode(".jpg", smiling)[1].tobytes()))
        initial = (("loops", key_of(CONFIG, "loops"), 0, 0, START_MS, encode(CONFIG).hex()),)
        settings = topics.settings("decide", initial=initial, services=told)
        with running(settings, build=both_jobs) as job:
            job.wait_until(lambda: len(them.all("decisions")) >= VISITS, "all decided")
            job.wait_until(lambda: not them.pictures.ids(), "no picture left")
            model.most_at_once, model.delay_s = 0, 0.2
            them.tell()
            everybody = VISITS + LOOKED_THEMSELVES
            job.wait_until(lambda: len(them.all("decisions")) >= everybody, "all decided")
            yield them
            job.check()
    topics.close()


def test_each_picture_is_looked_at_by_rekognition_and_deleted(shop: Shop) -> None:
    answers = [each for each in shop.all("analyses") if each.analyser != "edge"]
    assert {(each.status, each.analyser) for each in answers} == {("ok", "rekognition")}
    assert sorted({each.decision_id for each in answers}) == sorted(f"v{n}" for n in range(VISITS))
    assert all(each.faces[0].happiness > 0.5 for each in answers)
    assert shop.looking.calls["DetectFaces"] >= VISITS
    assert shop.pictures.ids() == []


def test_the_endpoint_decides_and_its_scores_stand_in_the_log(shop: Shop) -> None:
    for answer in shop.all("analyses"):
        assert {label.name: label.confidence for label in answer.labels}[f"score.{SURE_OF}"] == 1.0
    chosen = {each.choice.decision_id: each.choice for each in shop.all("decisions")}
    assert len(chosen) == VISITS + LOOKED_THEMSELVES
    for choice in chosen.values():
        likeliest = max(choice.actions, key=lambda action: action.probability_ppb)
        assert likeliest.id == SURE_OF


def test_frames_without_a_picture_do_not_wait_for_each_others_scores(shop: Shop) -> None:
    assert shop.scoring.most_at_once > 1
