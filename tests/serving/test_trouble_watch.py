"""pho watch: dead letters, a used budget, a failing analyser: an alarm, not one for each record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from engines.job import configure
from pipelines.analyze import NotAsked, Seen, seen
from schemas.codec import decode, encode
from schemas.operations import AlarmRaised, SideRecord
from schemas.outcomes import Evidence
from serving.loop_watch import Watching
from serving.watching import Watch
from worlds import START_MS, analyzed, captured, loop

HOUR_MS = 3_600_000
NOON_MS = START_MS - START_MS % HOUR_MS
OVER = "rekognition over_budget 2026-01-05: the day's budget of 20 is used up. Raise it"
BROKEN = "rekognition breaker_open: Rekognition failed too often. See the failures before"


class Troubled:
    """A shop whose log is written by hand."""

    def __init__(self, folder: Path) -> None:
        self.clock = SetClock(NOON_MS)
        self.log = EmbeddedLog(folder, self.clock, "NORMAL")
        self.count = 0
        configure(self.log, (loop(),))

    def letters(self, count: int, raw: bytes = b"torn", reason: str = "torn") -> None:
        """Let dead letters come."""
        for _ in range(count):
            self.count += 1
            letter = SideRecord(reason, "why", "frames", 0, self.count, 1, f"k{self.count}", raw)
            self.log.append("dead-letters", letter)

    def answers(self, count: int, error: str | None, **changes: Any) -> None:
        """Let frames be answered by another analyser, which says why."""
        for _ in range(count):
            self.count += 1
            name, now_ms = f"v{self.count}", self.clock()
            more = {"error": error, "fallback_of": "rekognition", **changes}
            self.log.append("analyses", analyzed(name, "pre", 0, now_ms, 0.5, **more))

    def later(self, milliseconds: int = HOUR_MS) -> None:
        """Let time pass."""
        self.clock.set(self.clock() + milliseconds)

    def watched(self) -> list[AlarmRaised]:
        """Return what a watcher that starts now appends."""
        found: list[Any] = []
        Watch(self.log, Watching(), found.append).run(None)
        assert all(isinstance(each, AlarmRaised) for each in found)
        return found

    def alarms(self) -> list[AlarmRaised]:
        """Return what stands in the log."""
        return [decode(row.value) for row in self.log.scan("alarms")]


def numbers(alarm: AlarmRaised) -> tuple[float, ...]:
    """Return what an alarm of dead letters measured: these, and those of the hour before."""
    assert [each.name for each in alarm.numbers] == ["letters", "hour_before"]
    return tuple(each.value for each in alarm.numbers)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Troubled]:
    made = Troubled(tmp_path / "shop")
    yield made
    made.log.close()


def test_dead_letters_are_told_once_an_hour_with_how_many_came(shop: Troubled) -> None:
    shop.letters(3)
    (alarm,) = shop.watched()
    assert (alarm.kind, alarm.loop_id) == ("dead_letters", "greeting")
    assert (alarm.detector, numbers(alarm)) == ("letters.frames.torn", (3, 0))
    shop.letters(5)
    assert shop.watched() == []
    shop.letters(1, reason="unknown_loop")
    assert [each.detector for each in shop.watched()] == ["letters.frames.unknown_loop"]
    shop.later()
    assert shop.watched() == []
    shop.letters(2)
    (alarm,) = shop.watched()
    assert numbers(alarm) == (2, 8), "with the five that nobody was told of"
    assert len(shop.alarms()) == 3


def test_one_who_reads_everything_again_appends_none_twice(shop: Troubled) -> None:
    shop.letters(2)
    shop.answers(2, OVER)
    shop.watched()
    shop.later()
    shop.letters(1)
    shop.answers(1, BROKEN)
    shop.watched()
    count = len(shop.alarms())
    assert count == 4
    shop.log.set_bookmark("watch", {})  # killed before it noted how far it came
    assert shop.watched() == []
    assert len(shop.alarms()) == count


def test_after_weeks_unwatched_only_the_newest_of_each_is_told(shop: Troubled) -> None:
    for _ in range(30):
        shop.letters(2)
        shop.answers(1, BROKEN)
        shop.later(7 * HOUR_MS)
    kinds = sorted(each.kind for each in shop.watched())
    assert kinds == ["analyser_failing", "dead_letters"]


def test_a_budget_is_told_once_for_its_day_even_where_midnight_passes(shop: Troubled) -> None:
    shop.answers(400, OVER)
    (alarm,) = shop.watched()
    assert (alarm.kind, alarm.detector) == ("budget_used_up", "rekognition")
    assert (alarm.raised_at_ms, alarm.numbers) == (NOON_MS, (Evidence("frames", 400.0),))
    for _ in range(15):  # into the next day: an answer of the old one may be written late
        shop.later()
        shop.answers(1, OVER)
        assert shop.watched() == []
    shop.answers(1, OVER.replace("01-05", "01-06"))
    assert [each.kind for each in shop.watched()] == ["budget_used_up"]


def test_without_a_fallback_the_reason_is_told_as_well(shop: Troubled) -> None:
    error = f"{BROKEN} (asked 3 times)"
    shop.answers(1, error, status="failed", analyser="none", fallback_of=None, faces=())
    assert [each.kind for each in shop.watched()] == ["analyser_failing"]


def test_a_failing_analyser_is_told_once_an_hour(shop: Troubled) -> None:
    shop.answers(3, BROKEN)
    assert len(shop.watched()) == 1
    shop.answers(3, BROKEN)
    assert shop.watched() == []
    shop.later()
    shop.answers(3, BROKEN)
    assert len(shop.watched()) == 1


def test_another_error_or_a_text_of_a_stranger_is_no_alarm(shop: Troubled) -> None:
    shop.answers(1, "AWS rekognition DetectFaces: ThrottlingException")
    shop.answers(1, None, frame_id="over_budget")
    shop.answers(1, "no over_budget 2026-01-05: at all")
    shop.log.append_bytes([("analyses", "k", b"over_budget"), ("dead-letters", "k", b"no letter")])
    assert shop.watched() == []


def test_a_letter_is_told_to_its_loop_if_that_is_configured(shop: Troubled) -> None:
    configure(shop.log, (loop(loop_id="second"),))
    mine = encode(captured("v1", "pre", 0, NOON_MS, 0.5, loop_id="second"))
    shop.letters(1, mine, "mine")
    shop.letters(1, encode(captured("v1", "pre", 0, NOON_MS, 0.5, loop_id="no-loop")), "strange")
    told = {each.detector.rpartition(".")[2]: each.loop_id for each in shop.watched()}
    assert told == {"mine": "second", "strange": "greeting"}


def test_before_a_loop_is_configured_a_letter_waits(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "empty", SetClock(NOON_MS), "NORMAL")
    log.append("dead-letters", SideRecord("torn", "why", "frames", 0, 1, 1, "k", b""))
    found: list[Any] = []
    watch = Watch(log, Watching(), found.append)
    watch.run(None)
    assert found == []
    configure(log, (loop(),))
    watch.run(None)
    assert [each.kind for each in found] == ["dead_letters"]
    log.close()


def test_a_person_reads_it_in_a_line(pho: Any, shop: Troubled, tmp_path: Path) -> None:
    shop.letters(2)
    shop.answers(3, OVER)
    ran = pho("watch", "--once", "--data", tmp_path / "shop")
    assert ran.status == 1
    told = " ".join(ran.out.split())
    assert "dead_letters in loop greeting, 2 letters, 0 hour before (letters.frames.torn)" in told
    assert "budget_used_up in loop greeting, 3 frames (rekognition)" in told
    again = pho("watch", "--once", "--data", tmp_path / "shop")
    assert (again.status, again.out.strip()) == (0, "nothing new")


def test_why_another_stood_in_is_written_down_and_read_back() -> None:
    why = NotAsked("rekognition", "over_budget", "2026-01-05")
    what = Seen((), "local", "1", fallback_of="rekognition", why=f"{why}: it is used up")
    frame = captured("v1", "pre", 0, NOON_MS, 0.5)
    answer = seen(frame, what, 1.0, loop())
    assert (answer.status, answer.fallback_of) == ("no_face", "rekognition")
    assert NotAsked.read(answer.error) == why
    assert NotAsked.read("rekognition breaker_open: text") == NotAsked(
        "rekognition", "breaker_open"
    )
    assert NotAsked.read(None) is None
    assert seen(frame, Seen((), "local", "1"), 1.0, loop()).error is None
