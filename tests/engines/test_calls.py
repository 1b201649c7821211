"""Calls to the analyser: bounded, limited in time, tried again, and every frame answered once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.pictures import FolderPictures
from engines.analysis import Calls, FrameAnswerer
from engines.embedded import EmbeddedEngine
from pipelines.analyze import Seen
from pipelines.operators import Asynchronous, Record
from pipelines.topology import greeting_loop
from schemas.codec import decode
from schemas.errors import AnalysisError, PictureUnreadable
from schemas.frames import FrameAnalyzed, FrameCaptured
from waiting import wait_until
from worlds import START_MS, captured, face, loop

T = START_MS
SHARED = {"loops": {"greeting": loop()}}
PATIENCE_S = 20.0


class Looking:
    """An analyser that does with each picture what the test says, and counts."""

    name = "looking"
    version = "1"

    def __init__(self, look: Callable[[bytes], None]) -> None:
        self.look = look
        self.asked: Counter[bytes] = Counter()
        self.at_once = self.at_once_max = 0
        self._lock = threading.Lock()

    def analyse(self, picture: bytes) -> Seen:
        with self._lock:
            self.asked[picture] += 1
            self.at_once += 1
            self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            self.look(picture)
        finally:
            with self._lock:
                self.at_once -= 1
        return Seen((face(0.5),), self.name, self.version)


def no_trouble(picture: bytes) -> None:
    pass


@pytest.fixture
def pictures(tmp_path: Path) -> FolderPictures:
    return FolderPictures(tmp_path / "pictures")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Return what stuck calls wait for; opened at the end, so that no thread outlives its test."""
    event = threading.Event()
    yield event
    event.set()


def frame(pictures: FolderPictures, number: int, picture: bytes | None = None) -> FrameCaptured:
    made = captured(f"v{number}", "pre", 0, T, 0.5)
    picture_id = pictures.put(picture or b"%d" % number)
    return replace(made, edge_analysis=None, picture_id=picture_id)


def record(pictures: FolderPictures, number: int, picture: bytes | None = None) -> Record:
    value = frame(pictures, number, picture)
    return Record("frames", value.decision_id, T, value, number)


def calls(
    analyser: Looking, pictures: FolderPictures, concurrency: int = 2, limit_ms: int = 60_000
) -> Calls:
    part = Asynchronous("analyze", "frames", "analyses", concurrency, limit_ms, 3)
    return Calls(part, FrameAnswerer(analyser, pictures, lambda: T))


def answers_of(work: Calls, count: int) -> list[FrameAnalyzed]:
    found: list[FrameAnalyzed] = []
    deadline_s = time.monotonic() + PATIENCE_S
    while len(found) < count:
        assert time.monotonic() < deadline_s, f"{len(found)} of {count} answers"
        found += [answer for _, answer in work.collect(0.05)]
    return found


def test_a_picture_is_looked_at_and_its_frame_answered(pictures: FolderPictures) -> None:
    work = calls(Looking(no_trouble), pictures)
    work.submit(record(pictures, 1), SHARED)
    (answer,) = answers_of(work, 1)
    assert (answer.status, answer.frame_id, answer.analyser) == ("ok", "v1.pre.0", "looking")
    assert answer.faces[0].happiness == 0.5


def test_no_more_calls_at_once_than_allowed(pictures: FolderPictures) -> None:
    analyser = Looking(lambda _: time.sleep(0.01))
    work = calls(analyser, pictures, concurrency=2)
    answered = 0
    for number in range(12):
        while not work.free:
            answered += len(work.collect(0.05))
        work.submit(record(pictures, number), SHARED)
    answered += len(answers_of(work, 12 - answered))
    assert answered == 12
    assert analyser.at_once_max == 2


def test_a_call_beyond_its_limit_is_answered_as_failed_and_its_thread_replaced(
    pictures: FolderPictures, gate: threading.Event
) -> None:
    def stick(picture: bytes) -> None:
        if picture == b"stuck":
            gate.wait(PATIENCE_S)

    work = calls(Looking(stick), pictures, concurrency=1, limit_ms=50)
    work.submit(record(pictures, 1, b"stuck"), SHARED)
    (answer,) = answers_of(work, 1)
    assert (answer.status, answer.error) == ("failed", "No answer within 50 ms")
    assert work.free == 1
    for number in (2, 3):
        work.submit(record(pictures, number), SHARED)
        (answer,) = answers_of(work, 1)
        assert (answer.status, answer.frame_id) == ("ok", f"v{number}.pre.0")
    gate.set()
    time.sleep(0.05)
    assert work.collect() == [], "what comes after the limit is no second answer"


def test_a_call_taken_up_before_the_last_answer_was_collected_has_its_limit_too(
    pictures: FolderPictures, gate: threading.Event
) -> None:
    def stick(picture: bytes) -> None:
        if picture == b"stuck":
            gate.wait(PATIENCE_S)

    analyser = Looking(stick)
    work = calls(analyser, pictures, concurrency=1, limit_ms=50)
    # As after a restart with less concurrency: more in flight than threads.
    work.submit(record(pictures, 1), SHARED)
    work.submit(record(pictures, 2, b"stuck"), SHARED)
    wait_until(lambda: analyser.asked[b"stuck"] == 1)
    assert [answer.status for answer in answers_of(work, 2)] == ["ok", "failed"]


def test_without_a_limit_a_slow_call_is_waited_for(pictures: FolderPictures) -> None:
    work = calls(Looking(lambda _: time.sleep(0.1)), pictures, limit_ms=1)
    work.limited = False
    work.submit(record(pictures, 1), SHARED)
    assert [answer.status for answer in answers_of(work, 1)] == ["ok"]


@pytest.mark.parametrize(("failures", "status"), [(2, "ok"), (3, "failed")])
def test_a_call_is_tried_three_times_then_answered_as_failed(
    failures: int, status: str, pictures: FolderPictures
) -> None:
    def fail(picture: bytes) -> None:
        if analyser.asked[picture] <= failures:
            problem = "the service is away"
            raise AnalysisError(problem)

    analyser = Looking(fail)
    work = calls(analyser, pictures)
    work.submit(record(pictures, 1), SHARED)
    (answer,) = answers_of(work, 1)
    assert answer.status == status
    assert analyser.asked[b"1"] == 3
    if status == "failed":
        assert answer.error == "the service is away (asked 3 times)"


def test_an_unreadable_picture_is_not_asked_for_again(pictures: FolderPictures) -> None:
    def refuse(picture: bytes) -> None:
        problem = "no picture"
        raise PictureUnreadable(problem)

    analyser = Looking(refuse)
    work = calls(analyser, pictures)
    work.submit(record(pictures, 1), SHARED)
    (answer,) = answers_of(work, 1)
    assert (answer.status, answer.error, analyser.asked[b"1"]) == ("failed", "no picture", 1)


def test_an_analyser_that_breaks_still_leaves_an_answer(pictures: FolderPictures) -> None:
    work = calls(Looking(lambda _: [][0]), pictures)
    work.submit(record(pictures, 1), SHARED)
    (answer,) = answers_of(work, 1)
    assert answer.status == "failed"
    assert answer.error is not None
    assert "IndexError" in answer.error


@pytest.mark.parametrize(("age_ms", "status"), [(60_000, "failed"), (60_001, "expired")])
def test_a_missing_picture_is_a_failure_and_an_old_frame_is_expired(
    age_ms: int, status: str, pictures: FolderPictures
) -> None:
    analyser = Looking(no_trouble)
    answer = FrameAnswerer(analyser, pictures, lambda: T + age_ms)
    gone = record(pictures, 1)
    pictures.delete(gone.value.picture_id)
    assert answer(gone, SHARED).status == status
    assert not analyser.asked


@pytest.mark.parametrize("notice", ["none", "unknown"])
def test_without_a_notice_nobody_looks(notice: str, pictures: FolderPictures) -> None:
    analyser = Looking(no_trouble)
    seen = record(pictures, 1)
    hidden = Record("frames", "v1", T, replace(seen.value, notice=notice), 1)
    assert FrameAnswerer(analyser, pictures, lambda: T)(hidden, SHARED).status == "refused"
    assert not analyser.asked


# In the engine


def engine_on(folder: Path, analyser: Looking, pictures: FolderPictures) -> EmbeddedEngine:
    log = EmbeddedLog(folder, SetClock(T), "OFF")
    flow = greeting_loop(concurrency=2).only("analyze")
    return EmbeddedEngine(log, flow, FrameAnswerer(analyser, pictures, lambda: T))


def end(engine: EmbeddedEngine) -> None:
    engine.close()
    engine.log.close()


def test_more_frames_than_calls_wait_in_the_log(
    tmp_path: Path, pictures: FolderPictures, gate: threading.Event
) -> None:
    def stick(picture: bytes) -> None:
        gate.wait(PATIENCE_S)

    analyser = Looking(stick)
    engine = engine_on(tmp_path, analyser, pictures)
    for number in range(10):
        engine.log.append("frames", frame(pictures, number))
    for _ in range(5):
        engine.cycle()
    wait_until(lambda: analyser.at_once == 2)
    assert engine.in_flight == 2
    assert len(list(engine.unanswered())) == 10
    gate.set()
    engine.run_to_rest()
    assert list(engine.unanswered()) == []
    assert engine.log.counts()["analyses"] == 10
    assert analyser.at_once_max == 2
    assert pictures.ids() == [], "each picture goes when its answer was read from the log"
    end(engine)


def test_a_restart_asks_again_at_most_for_the_calls_in_flight(
    tmp_path: Path, pictures: FolderPictures, gate: threading.Event
) -> None:
    held: set[bytes] = set()

    def stick(picture: bytes) -> None:
        if len(analyser.asked) > 5 and not gate.is_set():
            held.add(picture)
            gate.wait(PATIENCE_S)

    analyser = Looking(stick)
    first = engine_on(tmp_path, analyser, pictures)
    for number in range(12):
        first.log.append("frames", frame(pictures, number))
    deadline_s = time.monotonic() + PATIENCE_S
    while len(held) < 2 and time.monotonic() < deadline_s:
        first.cycle(wait_s=0.01)
    first.cycle()
    end(first)
    gate.set()
    second = engine_on(tmp_path, analyser, pictures)
    assert second.in_flight == 2
    second.run_to_rest()
    answers = [decode(row.value) for row in second.log.scan("analyses")]
    assert Counter(answer.frame_id for answer in answers) == Counter(
        f"v{number}.pre.0" for number in range(12)
    )
    assert {answer.status for answer in answers} == {"ok"}
    assert analyser.asked.total() == 12 + 2
    assert {picture for picture, asked in analyser.asked.items() if asked == 2} == held
    end(second)
