"""The job `analyze`: every frame answered once, whatever its picture does to the analyser."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.kafka_clients import Outgoing, partition_of
from connectors.pictures import FolderPictures
from engines.flink.graph import analyze_job
from engines.service_settings import Services
from flink_runs import Topics, running
from schemas.codec import decode, encode
from schemas.frames import FrameAnalyzed
from schemas.loops import LoopConfigured
from schemas.streams import key_of
from worlds import START_MS, captured, loop

pytestmark = pytest.mark.timeout(240)
CONFIG = loop()
CONCURRENCY = 4
KEYS = 1_000
STATUS_OF = {
    "plain": "ok",
    "flaky": "ok",
    "slow": "failed",  # slower than the time limit of the first test
    "hang": "failed",
    "down": "failed",
    "broken": "failed",
    "unreadable": "failed",
    "missing": "failed",
}
"""What a picture does to the analyser, and how its frame is answered."""


def initially(config: LoopConfigured) -> tuple[tuple[str, str, int, int, int, str], ...]:
    """Return what a job knows of a loop when it is submitted."""
    return (("loops", key_of(config, "loops"), 0, 0, START_MS, encode(config).hex()),)


class Looks:
    """Topics with frames, the pictures of these, and the answers."""

    def __init__(self, name: str, folder: Path) -> None:
        self.topics = Topics(name, bridged=False)
        self.folder = folder
        self.pictures = FolderPictures(folder)
        self.put("loops", CONFIG)

    def put(
        self, stream: str, value: Any, key: bytes | None = None, raw: bytes | None = None
    ) -> None:
        topic = self.topics.address.topic(stream)
        key = key_of(value, stream).encode() if key is None else key
        self.topics.client.produce([Outgoing(topic, key, encode(value) if raw is None else raw)])

    def frame(self, visit: str, sequence: int, what: str | None, **changes: Any) -> None:
        at_ms = time.time_ns() // 1_000_000
        frame = captured(visit, "pre" if sequence == 0 else "post", sequence, at_ms, 0.5)
        if what is not None:
            picture_id = self.pictures.put(what.encode())
            if what == "missing":
                self.pictures.delete(picture_id)
            changes |= {"picture_id": picture_id, "edge_analysis": None}
        self.put("frames", dataclasses.replace(frame, **changes))

    def keys_by_both_clients(self) -> None:
        """Write frames of the same keys with each client, for the sink to answer."""
        topic = self.topics.address.topic("frames")
        for sequence, client in enumerate((self.topics.client, self.topics.groups)):
            frames = [
                captured(f"key-{n}", "pre" if sequence == 0 else "post", sequence, START_MS, 0.5)
                for n in range(KEYS)
            ]
            client.produce([Outgoing(topic, f.decision_id.encode(), encode(f)) for f in frames])

    def settings(self, time_limit_ms: int) -> Any:
        services = Services(
            analyser="odd_looks:OddLooks",
            concurrency=CONCURRENCY,
            time_limit_ms=time_limit_ms,
            pictures=str(self.folder),
        )
        return self.topics.settings(initial=initially(CONFIG), services=services)

    @property
    def answers(self) -> list[FrameAnalyzed]:
        found = [decode(record.value or b"") for record in self.topics.records("analyses")]
        return [each for each in found if isinstance(each, FrameAnalyzed)]


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looks]:
    them = Looks("looks", tmp_path_factory.mktemp("pictures"))
    for number in range(40):
        them.frame(f"v{number}", 0, f"plain 0.{number:02d}")
    for sequence in range(5):
        them.frame("patient", sequence, f"plain 0.{sequence}")
    for what in STATUS_OF:
        them.frame(what, 0, f"{what} 0.5" if what != "missing" else what)
    them.frame("edge", 0, None)
    good = captured("x", "pre", 0, START_MS, 0.5)
    them.put("frames", good, raw=encode(good)[:-1])
    them.put("frames", good, key=b"another")
    them.keys_by_both_clients()
    count = 40 + 5 + len(STATUS_OF) + 1 + 2 * KEYS
    with running(them.settings(time_limit_ms=700), build=analyze_job) as job:
        job.wait_until(lambda: len(them.answers) >= count, f"{count} answers")
        yield them
        job.check()
    them.topics.close()


def test_each_frame_is_answered_once_as_its_picture_deserves(looks: Looks) -> None:
    answers = {answer.frame_id: answer for answer in looks.answers}
    assert len(answers) == len(looks.answers)
    told = {what: answers[f"{what}.pre.0"].status for what in STATUS_OF}
    assert told == STATUS_OF
    happy = [answers[f"v{number}.pre.0"].faces[0].happiness for number in range(40)]
    assert happy == pytest.approx([number / 100 for number in range(40)])


def test_frames_of_one_visit_get_their_own_answers(looks: Looks) -> None:
    told = {each.sequence: each for each in looks.answers if each.decision_id == "patient"}
    assert [told[n].faces[0].happiness for n in range(5)] == pytest.approx(
        [0.0, 0.1, 0.2, 0.3, 0.4]
    )


def test_what_a_kiosk_analysed_itself_is_passed_on(looks: Looks) -> None:
    (edge,) = (each for each in looks.answers if each.decision_id == "edge")
    assert (edge.status, edge.analyser) == ("ok", "edge")


def test_an_error_says_what_happened(looks: Looks) -> None:
    errors = {each.decision_id: each.error or "" for each in looks.answers}
    assert "700 ms" in errors["hang"]
    assert "asked 3 times" in errors["down"]
    assert "ZeroDivisionError" in errors["broken"]


def test_a_key_lies_in_one_partition_whoever_wrote_it(looks: Looks) -> None:
    found: dict[str, set[int]] = {}
    for stream in ("frames", "analyses"):
        for record in looks.topics.records(stream):
            key = (record.key or b"").decode()
            if key.startswith("key-"):
                found.setdefault(key, set()).add(record.partition)
    assert found == {f"key-{n}": {partition_of(f"key-{n}".encode(), 3)} for n in range(KEYS)}


def test_a_frame_that_cannot_be_read_is_a_dead_letter(looks: Looks) -> None:
    letters = [decode(each.value or b"") for each in looks.topics.records("dead-letters")]
    told = sorted((each.stream, each.reason) for each in letters)
    assert told == [("frames", "TornRecord"), ("frames", "WrongKey")]


def test_calls_in_flight_are_asked_again_by_the_next_run(tmp_path: Path) -> None:
    looks = Looks("looks-again", tmp_path / "pictures")
    for number in range(CONCURRENCY - 1):
        looks.frame(f"slow{number}", 0, f"slow 0.{number} {tmp_path / str(number)}")
    told = looks.settings(time_limit_ms=30_000)
    with running(told, build=analyze_job) as job:
        job.wait_until(
            lambda: all((tmp_path / str(n)).exists() for n in range(CONCURRENCY - 1)), "all asked"
        )
        savepoint = job.stop_with_savepoint(tmp_path)
    assert looks.answers == []
    for number in range(CONCURRENCY):
        looks.frame(f"later{number}", 0, "plain 0.9")
    with running(told, savepoint=savepoint, build=analyze_job) as job:
        job.wait_until(lambda: len(looks.answers) >= 2 * CONCURRENCY - 1, "all answers")
    answered = sorted(each.decision_id for each in looks.answers)
    slow = [f"slow{number}" for number in range(CONCURRENCY - 1)]
    assert answered == sorted([*slow, *(f"later{number}" for number in range(CONCURRENCY))])
    assert {each.status for each in looks.answers} == {"ok"}
    looks.topics.close()
