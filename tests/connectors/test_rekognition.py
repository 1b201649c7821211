"""Rekognition is asked patiently, neither too fast nor too dearly, and another stands in for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from connectors.assets import fetch_assets
from connectors.aws_clients import AwsAccess, AwsClients
from connectors.guarding import CircuitBreaker, Spending, TokenBucket, read_spent
from connectors.local_analyser import LocalAnalyser
from connectors.local_rekognition import Fault, Faults, LocalRekognition
from connectors.rekognition import (
    PICTURE_BYTES_MAX,
    Patience,
    RekognitionAnalyser,
    make_client,
)
from connectors.rekognition_faces import ATTRIBUTES, EMOTIONS, face_of, label_of
from pipelines.analyze import Analyser, NotAsked, Seen
from producers.stretches import load_stretches
from schemas.errors import AnalysisError, PictureUnreadable, ResourceError, SettingsError
from schemas.frames import Score
from serving.gateway.spending_metrics import add_spending
from serving.services import SPENT

NOW_MS = 1_800_000_000_000


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    fetch_assets()
    picture = load_stretches(None).picture("woman/smile", 0)
    return bytes(cv2.imencode(".jpg", picture)[1].tobytes())


@pytest.fixture(scope="module")
def local() -> LocalAnalyser:
    fetch_assets()
    return LocalAnalyser()


class Blind:
    """An analyser that sees nobody, and counts."""

    name, version = "blind", "1"

    def __init__(self) -> None:
        self.asked = 0

    def analyse(self, picture: bytes) -> Seen:
        self.asked += 1
        return Seen((), self.name, self.version)


class Stand:
    """A server, and analysers that ask it."""

    def __init__(self) -> None:
        self.servers: list[LocalRekognition] = []
        self.clients: list[Any] = []

    def server(self, analyser: Analyser | None = None, **told: Any) -> LocalRekognition:
        self.servers.append(LocalRekognition(analyser, **told).start())
        return self.servers[-1]

    def asking(
        self,
        server: LocalRekognition,
        fallback: Analyser | None = None,
        rate: float = 1_000.0,
        budget: float = 0.0,
        failures: int = 5,
        path: Path | None = None,
        **patience: Any,
    ) -> RekognitionAnalyser:
        patience = {"time_limit_ms": 3_000} | patience
        made = AwsClients(AwsAccess(region="eu-central-1", endpoint=server.endpoint))
        client = make_client(made, patience["time_limit_ms"], 50)
        self.clients.append(client)
        return RekognitionAnalyser(
            client,
            TokenBucket(rate, max(1.0, rate / 50)),
            CircuitBreaker(failures, 0.2),
            Spending(0.001, budget, lambda: NOW_MS, path),
            fallback,
            Patience(**patience),
        )


@pytest.fixture
def stand() -> Iterator[Stand]:
    made = Stand()
    yield made
    for client in made.clients:
        client.close()
    for server in made.servers:
        server.stop()


def test_through_the_real_client_the_answer_is_the_local_analysers(
    stand: Stand, local: LocalAnalyser, jpeg: bytes
) -> None:
    seen = stand.asking(stand.server(local), labels=True).analyse(jpeg)
    (face,), (mine,) = seen.faces, local.analyse(jpeg).faces
    assert face.box == mine.box
    assert (face.confidence, face.happiness) == (mine.confidence, mine.happiness)
    assert face.smile == pytest.approx(mine.smile)
    assert face.quality == pytest.approx(mine.quality)
    assert (seen.analyser, seen.analyser_version) == ("rekognition", "1-2016-06-27")
    assert seen.labels == (Score("person", face.confidence),)


def test_what_the_api_reference_shows_is_mapped() -> None:
    detail: dict[str, Any] = {
        "BoundingBox": {"Left": -0.01, "Top": 0.2, "Width": 0.3, "Height": 0.4},
        "Confidence": 99.5,
        "Emotions": [
            {"Type": "HAPPY", "Confidence": 91.0},
            {"Type": "UNKNOWN", "Confidence": 4.0},
        ],
        "Smile": {"Value": False, "Confidence": 80.0},
        "Eyeglasses": {"Value": True, "Confidence": 70.0},
        "Gender": {"Value": "Male", "Confidence": 60.0},
        "AgeRange": {"Low": 22, "High": 30},
        "Pose": {"Roll": 1.0, "Yaw": -12.5, "Pitch": 3.0},
        "Quality": {"Brightness": 90.0, "Sharpness": 50.0},
        "FaceOccluded": {"Value": False, "Confidence": 95.0},
    }
    face = face_of(detail)
    assert face.confidence == 0.995
    assert face.emotions == (Score("happy", 0.91),)
    assert face.smile == pytest.approx(0.2)
    assert face.quality == pytest.approx(0.4 * 0.5)
    assert (face.age_low_years, face.age_high_years) == (22, 30)
    assert (face.yaw_degrees, face.pitch_degrees) == (-12.5, 3.0)
    told = {score.name: round(score.confidence, 6) for score in face.attributes}
    assert told == {"eyeglasses": 0.7, "occluded": 0.05, "female": 0.4}
    assert label_of({"Name": "Hand Bag", "Confidence": 55.0}) == Score("hand bag", 0.55)


def test_the_mapping_names_what_the_service_names() -> None:
    client = AwsClients(AwsAccess(region="eu-central-1", endpoint="http://127.0.0.1:9")).client(
        "rekognition"
    )
    model = client.meta.service_model
    members = set(model.shape_for("FaceDetail").members)
    assert set(ATTRIBUTES) | {"Smile", "Gender", "AgeRange", "Pose", "Quality"} <= members
    assert set(EMOTIONS) | {"UNKNOWN"} == set(model.shape_for("EmotionName").enum)


@given(st.floats(0.0, 1.0, width=32))
def test_a_float32_goes_through_percents_unchanged(share: float) -> None:
    detail = {
        "BoundingBox": dict.fromkeys(("Left", "Top", "Width", "Height"), 0.5),
        "Confidence": share * 100.0,
    }
    assert face_of(detail).confidence == share


@pytest.mark.parametrize("fault", ["throttled", "broken", "reset", "torn", "foreign"])
def test_a_passing_fault_is_asked_again(
    stand: Stand, local: LocalAnalyser, jpeg: bytes, fault: Fault
) -> None:
    server = stand.server(local)
    analyser = stand.asking(server)
    server.next_faults = [fault, fault]
    seen = analyser.analyse(jpeg)
    assert (seen.analyser, len(seen.faces), seen.fallback_of) == ("rekognition", 1, None)
    assert (analyser.counters.calls, analyser.counters.retries) == (3, 2)
    assert analyser.counters.throttled == (2 if fault == "throttled" else 0)
    assert analyser.spending.spent.calls == 1


@pytest.mark.parametrize("fault", ["throttled", "broken", "reset", "torn", "foreign"])
def test_a_lasting_fault_is_answered_by_the_fallback(
    stand: Stand, jpeg: bytes, fault: Fault
) -> None:
    server, blind = stand.server(), Blind()
    analyser = stand.asking(server, blind)
    server.next_faults = [fault] * 3
    seen = analyser.analyse(jpeg)
    assert (seen.analyser, seen.fallback_of, blind.asked) == ("blind", "rekognition", 1)
    assert analyser.counters.calls == 3


def test_without_a_fallback_it_says_why(stand: Stand, jpeg: bytes) -> None:
    server = stand.server()
    analyser = stand.asking(server)
    server.next_faults = ["denied"]
    with pytest.raises(AnalysisError, match="Allow rekognition:DetectFaces to PHO's role"):
        analyser.analyse(jpeg)
    assert analyser.counters.calls == 1, "asking again would not help"


def test_an_answer_that_is_late_is_not_waited_for(stand: Stand, jpeg: bytes) -> None:
    server = stand.server(delay_ms=3_000)
    analyser = stand.asking(server, Blind(), time_limit_ms=300)
    started_s = time.monotonic()
    assert analyser.analyse(jpeg).fallback_of == "rekognition"
    assert time.monotonic() - started_s < 3.0


def test_after_failures_in_a_row_nobody_asks_for_a_while(stand: Stand, jpeg: bytes) -> None:
    server, blind = stand.server(), Blind()
    analyser = stand.asking(server, blind, failures=2, tries=1)
    server.next_faults = ["broken"] * 2
    told = [analyser.analyse(jpeg) for _ in range(5)]
    assert [each.fallback_of for each in told] == ["rekognition"] * 5
    assert "InternalServerError" in str(told[0].why)
    assert NotAsked.read(told[-1].why) == NotAsked("rekognition", "breaker_open")
    assert server.calls["DetectFaces"] == 0, "refused before it was looked at, then not asked"
    assert (analyser.counters.calls, analyser.counters.broken) == (2, 3)
    time.sleep(0.25)
    assert analyser.analyse(jpeg).fallback_of is None
    assert not analyser.breaker.is_open


def test_no_permission_opens_at_once(stand: Stand, jpeg: bytes) -> None:
    server = stand.server()
    analyser = stand.asking(server, Blind(), failures=5)
    server.next_faults = ["denied"]
    analyser.analyse(jpeg)
    assert analyser.breaker.is_open


@pytest.mark.parametrize("extension", [".webp", ".png"])
def test_what_rekognition_cannot_take_is_not_sent(
    stand: Stand, jpeg: bytes, extension: str
) -> None:
    server, blind = stand.server(), Blind()
    pixels: Any = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if extension == ".png":
        pixels = np.random.default_rng(1).integers(0, 255, (1_500, 1_500, 3), np.uint8)
    picture = bytes(cv2.imencode(extension, pixels)[1].tobytes())
    assert extension == ".webp" or len(picture) > PICTURE_BYTES_MAX
    assert stand.asking(server, blind).analyse(picture).fallback_of == "rekognition"
    with pytest.raises(PictureUnreadable, match="Rekognition takes no"):
        stand.asking(server).analyse(picture)
    assert server.calls["DetectFaces"] == 0


@pytest.mark.parametrize("picture", [b"", b"no picture", b"\xff\xd8\xff"])
def test_what_is_no_picture_is_nobodys_fault_but_its_own(stand: Stand, picture: bytes) -> None:
    analyser = stand.asking(stand.server(), Blind())
    with pytest.raises(PictureUnreadable):
        analyser.analyse(picture)


def test_a_picture_the_service_refuses_does_not_open_the_breaker(stand: Stand, jpeg: bytes) -> None:
    class Refusing(Blind):
        def analyse(self, picture: bytes) -> Seen:
            problem = "no picture to me"
            raise PictureUnreadable(problem)

    server = stand.server(Refusing())
    analyser = stand.asking(server, failures=1)
    with pytest.raises(PictureUnreadable, match="InvalidImageFormatException"):
        analyser.analyse(jpeg)
    assert not analyser.breaker.is_open
    assert analyser.counters.calls == 1


def test_the_days_budget_ends_the_asking_and_outlives_the_process(
    stand: Stand, jpeg: bytes, tmp_path: Path
) -> None:
    server, path = stand.server(), tmp_path / "spent.json"
    analyser = stand.asking(server, Blind(), budget=0.012, path=path)
    told = [analyser.analyse(jpeg) for _ in range(14)]
    assert [each.fallback_of for each in told] == [None] * 12 + ["rekognition"] * 2
    assert NotAsked.read(told[-1].why) == NotAsked("rekognition", "over_budget", "2027-01-15")
    assert (server.calls["DetectFaces"], analyser.counters.over_budget) == (12, 2)
    analyser.spending.close()
    assert read_spent(path).calls_today == 12
    again = stand.asking(server, budget=0.012, path=path)
    with pytest.raises(AnalysisError, match=r"budget of 0\.012 is used up"):
        again.analyse(jpeg)
    tomorrow = Spending(0.001, 0.012, lambda: NOW_MS + 86_400_000, path)
    assert tomorrow.allows()
    assert (tomorrow.spent.calls_today, tomorrow.spent.calls) == (0, 12)


def test_calls_and_costs_are_metrics(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    add_spending(registry, tmp_path)
    assert registry.get_sample_value("pho_rekognition_calls_total") == 0.0
    spending = Spending(0.25, 0.0, lambda: NOW_MS, tmp_path / SPENT)
    for _ in range(12):
        spending.count()
    spending.close()
    names = ("calls_total", "cost_total", "cost_of_the_day")
    told = [registry.get_sample_value(f"pho_rekognition_{name}") for name in names]
    assert told == [12.0, 3.0, 3.0]
    (tmp_path / SPENT).write_text("{torn")
    assert registry.get_sample_value("pho_rekognition_calls_total") is None


def test_an_altered_budget_is_not_taken_for_nothing_spent(tmp_path: Path) -> None:
    path = tmp_path / "spent.json"
    path.write_text("{torn")
    with pytest.raises(ResourceError, match="Delete it to begin at nothing"):
        Spending(0.001, 1.0, lambda: NOW_MS, path)


def test_the_rate_is_held_by_many_threads(stand: Stand, jpeg: bytes) -> None:
    server = stand.server(quota=60.0)
    analyser = stand.asking(server, rate=50.0, time_limit_ms=20_000)
    started_s = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        assert all(seen.faces for seen in pool.map(analyser.analyse, [jpeg] * 60))
    took_s = time.monotonic() - started_s
    assert analyser.counters.throttled == 0, "the account's quota was never touched"
    assert took_s >= (60 - 1) / 50.0 * 0.99


def test_a_turn_that_comes_too_late_goes_to_the_fallback(stand: Stand, jpeg: bytes) -> None:
    server = stand.server()
    analyser = stand.asking(server, Blind(), rate=1.0, time_limit_ms=200)
    assert [analyser.analyse(jpeg).fallback_of for _ in range(2)] == [None, "rekognition"]
    assert analyser.counters.over_rate == 1
    assert not analyser.breaker.is_open


def test_faults_by_chance_lose_no_picture(stand: Stand, jpeg: bytes) -> None:
    faults = Faults(throttled=0.05, broken=0.01, reset=0.02, torn=0.02, foreign=0.02, seed=3)
    server, blind = stand.server(faults=faults), Blind()
    analyser = stand.asking(server, blind)
    with ThreadPoolExecutor(20) as pool:
        seen = list(pool.map(analyser.analyse, [jpeg] * 300))
    assert len(seen) == 300
    assert sum(each.fallback_of is None for each in seen) == 300 - analyser.counters.fallbacks
    assert analyser.counters.fallbacks == blind.asked <= 3
    assert sum(server.failed.values()) >= 20
    assert analyser.counters.retries >= 20


class ManualTime:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@given(st.lists(st.floats(0.0, 2.0), min_size=1, max_size=60), st.floats(0.5, 20.0))
def test_a_bucket_never_lets_more_through_than_its_rate(
    pauses_s: list[float], per_second: float
) -> None:
    clock = ManualTime()
    bucket = TokenBucket(per_second, 2.0, clock, clock.sleep)
    times = []
    for pause_s in pauses_s:
        clock.now += pause_s
        assert bucket.take(1_000.0)
        times.append(clock.now)
    for first in range(len(times)):
        for last in range(first, len(times)):
            allowed = 2.0 + (times[last] - times[first]) * per_second
            assert last - first + 1 <= allowed + 1e-6


def test_one_call_at_a_time_tries_whether_it_is_well_again() -> None:
    clock = ManualTime()
    breaker = CircuitBreaker(2, 10.0, clock)
    breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()
    clock.now = 10.5
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.failed()
    clock.now = 20.6
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.allows()
    assert breaker.opened == 1


@pytest.mark.parametrize(
    ("per_second", "burst"), [(0.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0), (1.0, 0.5)]
)
def test_a_rate_that_lets_nothing_through_is_refused(per_second: float, burst: float) -> None:
    with pytest.raises(SettingsError):
        TokenBucket(per_second, burst)


def test_spending_counts_every_thread() -> None:
    spending = Spending(1.0, 0.0, lambda: NOW_MS)

    def count() -> None:
        for _ in range(500):
            spending.count()

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spending.spent.calls == 4_000
