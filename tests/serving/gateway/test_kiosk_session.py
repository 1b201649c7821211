"""One kiosk behind its socket, without the socket: what the page says, and what is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.clocks import SetClock
from connectors.pictures import FolderPictures
from listed_logs import ListedLog, greeting_for
from producers.looks import Visit
from producers.tracker import TrackerSettings
from schemas.decisions import GreetingIssued
from schemas.errors import LogFull, LogUnavailable, PhoError
from serving.gateway import kiosk_messages as say
from serving.gateway.kiosk_messages import BadMessage, Outgoing, read_text
from serving.gateway.kiosk_session import KioskSession, Surroundings
from serving.gateway.metrics import Metrics
from serving.gateway.page_clock import PageClock
from serving.settings import load
from told_pages import FACE, edge_look, hello

NOW_MS = 1_800_000_000_000
STEP_MS = 500


class NoFinder:
    """Pages that analyse by themselves send no picture to find faces in."""

    def find(self, picture: Any) -> Any:
        raise NotImplementedError


class Desk:
    """A session, the clock everybody goes by, and a page whose clock may be off."""

    def __init__(self, folder: Path, posted: bool = False) -> None:
        self.clock = SetClock(NOW_MS)
        self.log = ListedLog()
        self.known: dict[str, Visit] = {}
        self.log_answers = True
        self.page_ahead_ms = 0
        self.around = Surroundings(
            loop=load(None, {"data": str(folder)}, {}).loop("greeting"),
            tracker=TrackerSettings(),
            posted=posted,
            language="en",
            shots_per_second=2.0,
            shot_width=480,
            finder=NoFinder(),
            pictures=FolderPictures(folder / "pictures"),
            log=self.log,
            clock=self.clock,
            known=self._known,
            metrics=Metrics(),
        )
        self.session = KioskSession("door-1", self.around)

    def _known(self, visit_id: str) -> Visit | None:
        if not self.log_answers:
            problem = "the log is away"
            raise LogUnavailable(problem)
        return self.known.get(visit_id)

    @property
    def page_ms(self) -> int:
        """Now, by the page's clock."""
        return self.clock() + self.page_ahead_ms

    def hello(self, **others: Any) -> list[dict[str, Any]]:
        told = hello(**{"analysis": "edge", "sent_at_ms": self.page_ms, **others})
        message = read_text(msgspec.json.encode(told))
        assert isinstance(message, say.Hello)
        return plain(self.session.hello(message, self.clock()))

    def look(self, steps: int = 1, face: Any = FACE, happy: float = 0.1) -> list[dict[str, Any]]:
        """Let the page look so often; return all answers."""
        answers = []
        for _ in range(steps):
            self.clock.set(self.clock() + STEP_MS)
            message = read_text(msgspec.json.encode(edge_look(self.page_ms, face, happy)))
            assert isinstance(message, say.Look)
            look = self.session.read_look(message, self.clock())
            answers += plain(self.session.look(look, message.at_ms))
        return answers

    def greeting(self, **others: Any) -> GreetingIssued:
        return greeting_for(self.session.visit_id, "door-1", self.clock(), 30_000, **others)

    def greet(self, **others: Any) -> list[dict[str, Any]]:
        return plain(self.session.greet(self.greeting(**others)))

    def shown(self, decision_id: str | None = None, **others: Any) -> list[dict[str, Any]]:
        told = {"decision_id": decision_id or self.session.visit_id, "action_id": "joke"}
        message = say.Shown(**{**told, "shown_at_ms": self.page_ms, **others})
        return plain(self.session.shown(message, self.clock()))


def plain(messages: list[Outgoing]) -> list[dict[str, Any]]:
    """Return messages as the page reads them."""
    return [msgspec.json.decode(say.write(message)) for message in messages]


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path / "shop")


def test_a_visit_from_the_first_look_to_its_end(desk: Desk) -> None:
    assert kinds(desk.hello()) == ["welcome"]
    nobody = desk.look(face=None)
    assert nobody == [{"type": "seen", "at_ms": desk.page_ms, "faces": 0, "box": None,
                       "visit_id": None, "stage": "nobody"}]  # fmt: skip
    arriving, *present = desk.look(2)
    assert (arriving["stage"], arriving["faces"]) == ("arriving", 1)
    assert kinds(present) == ["seen", "visit", "picture"]
    visit_id = desk.session.visit_id
    assert present[0]["visit_id"] == visit_id
    assert present[0]["box"]["left"] == pytest.approx(FACE.left)
    assert present[1]["resume"] == {
        **{"visit_id": visit_id, "sequence": 0, "shown_at_ms": None, "post_frame_ids": []},
        "started_at_ms": desk.clock(),
    }
    (greeting,) = desk.greet()
    assert (greeting["text"], greeting["expires_in_ms"]) == ("Hello", 30_000)
    assert desk.shown() == [{"type": "shown", "decision_id": visit_id}]
    posts = [m for m in desk.look(7, happy=0.9) if m["type"] == "picture"]
    assert [(m["phase"], m["sequence"]) for m in posts] == [("post", 1), ("post", 2)]
    end = [m for m in desk.look(4, face=None) if m["type"] == "visit"]
    assert [(m["state"], m["reason"], m["visit_id"]) for m in end] == [("ended", "left", visit_id)]
    (ended,) = desk.log.of("visits")
    assert ended.post_frame_ids == (f"{visit_id}.post.1", f"{visit_id}.post.2")
    frame = desk.log.of("frames")[1]
    assert (frame.edge_analysis.faces[0].happiness, frame.picture_id) == (0.9, None)


@pytest.mark.parametrize("failure", [LogFull("no room"), LogUnavailable("locked")])
def test_while_the_log_takes_nothing_the_page_is_answered_and_the_next_look_tries_again(
    desk: Desk, failure: PhoError
) -> None:
    desk.hello()
    desk.look()
    desk.log.failure = failure
    seen, error = desk.look()
    assert (seen["stage"], seen["visit_id"]) == ("arriving", None)
    assert (error["type"], error["problem"], error["fatal"]) == ("error", failure.problem, False)
    desk.log.failure = None
    assert kinds(desk.look()) == ["seen", "visit", "picture"]
    assert len(desk.log.of("frames")) == 1


def test_what_was_shown_is_noted_once_however_often_it_is_said(desk: Desk) -> None:
    desk.hello()
    desk.look(2)
    desk.greet()
    desk.log.failure = LogUnavailable("locked")
    shown_ms = desk.clock()
    assert kinds(desk.shown()) == ["error"]
    assert kinds(desk.shown()) == ["error"]
    desk.log.failure = None
    # Whatever comes next brings it into the log; the pictures of the reaction are due from then.
    assert kinds(desk.look()) == ["seen", "shown"]
    assert kinds(desk.shown()) == ["shown"]
    (impression,) = desk.log.of("impressions")
    assert (impression.shown_at_ms, impression.action_id) == (shown_ms, "joke")
    assert "picture" in kinds(desk.look(3))


def test_what_was_shown_to_who_has_gone_is_noted_too(desk: Desk) -> None:
    desk.hello()
    desk.look(2)
    visit_id = desk.session.visit_id
    desk.look(4, face=None)
    assert desk.session.visit_id is None
    assert kinds(desk.shown(visit_id, action_id="welcome", fallback=True)) == ["shown"]
    (impression,) = desk.log.of("impressions")
    assert (impression.decision_id, impression.fallback) == (visit_id, True)


def test_a_page_reports_nothing_of_another_kiosk_and_nothing_of_long_ago(desk: Desk) -> None:
    desk.hello()
    desk.look(2)
    for foreign in ("door-2-0123abcd-5", "door-1", "door-1-0123abcd-5-6", "visit-1-00001"):
        with pytest.raises(BadMessage, match="no decision of kiosk"):
            desk.shown(foreign)
    with pytest.raises(BadMessage, match="was shown 700 s ago"):
        desk.shown(shown_at_ms=desk.page_ms - 700_000)
    assert desk.log.of("impressions") == []


def test_times_of_a_page_whose_clock_is_off_are_corrected(desk: Desk) -> None:
    for ahead_ms in (600_000, -600_000):
        desk.page_ahead_ms = ahead_ms
        desk.log.records.clear()
        desk.hello()
        desk.look(3)
        desk.shown()
        (frame,), (shown,) = desk.log.of("frames"), desk.log.of("impressions")
        assert frame.captured_at_ms == desk.clock() - STEP_MS
        assert frame.clock_offset_ms == -ahead_ms
        assert shown.shown_at_ms == desk.clock()
        desk.look(4, face=None)


def test_an_offset_is_the_quickest_way_less_half_of_the_shortest_round_trip() -> None:
    clock = PageClock()
    assert clock.offset_ms == 0
    clock.measure(1_000, 1_240)
    clock.measure(2_000, 2_110, 60.0)
    clock.measure(3_000, 3_300, 400.0)
    # The page is 80 ms behind: 110 ms less the 30 that the quickest message was on its way.
    assert clock.offset_ms == 80
    clock.measure(4_000, 4_000 + 5_100)
    assert clock.offset_ms == 5_100 - 30, "somebody set the clock"


def test_without_a_notice_nothing_is_said_of_the_face(desk: Desk) -> None:
    desk.hello(notice="none")
    desk.look(2)
    (frame,) = desk.log.of("frames")
    assert (frame.notice, frame.edge_analysis) == ("none", None)
    desk.look(4, face=None)
    desk.session.notice(say.Notice(True))
    desk.look(2)
    assert (desk.log.of("frames")[1].notice) == "page"
    assert desk.log.of("frames")[1].edge_analysis is not None


def test_a_notice_on_the_wall_counts_where_the_page_shows_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    desk = Desk(tmp_path / "shop", posted=True)
    desk.hello(notice="none", language="de", utc_offset_minutes=60)
    desk.look(2)
    (frame,) = desk.log.of("frames")
    assert (frame.notice, frame.language, frame.utc_offset_minutes) == ("posted", "de", 60)


def test_a_greeting_goes_to_whom_it_is_for_in_time_and_once(desk: Desk) -> None:
    desk.hello()
    desk.look(2)
    assert desk.greet(visit_id="door-1-00000000-1") == []
    assert desk.greet(kiosk_id="door-2") == []
    assert desk.greet(expires_at_ms=desk.clock()) == []
    assert kinds(desk.greet()) == ["greeting"]
    assert desk.greet() == []
    # Another page of the same kiosk has not heard it.
    assert kinds(desk.hello()) == ["welcome", "visit"]
    assert kinds(desk.greet()) == ["greeting"]
    desk.shown()
    desk.hello()
    assert desk.greet() == [], "it was shown"


def test_a_visit_of_another_process_goes_on_as_the_log_knows_it(desk: Desk) -> None:
    visit_id = "door-1-0123abcd-5"
    post = f"{visit_id}.post.1"
    visit = Visit(visit_id, NOW_MS - 4_000, NOW_MS - 3_000, (post,))
    desk.known[visit_id] = visit
    # The page left before it heard of the greeting's acknowledgement and of the first picture.
    resume = {"visit_id": visit_id, "sequence": 0, "shown_at_ms": None, "post_frame_ids": []}
    _, started = desk.hello(resume={**resume, "started_at_ms": NOW_MS - 4_000})
    assert (started["visit_id"], started["resume"]["sequence"]) == (visit_id, 1)
    assert desk.greet() == []
    assert kinds(desk.shown()) == ["shown"]
    assert desk.log.of("impressions") == [], "the log has it"
    taken = [m for m in desk.look(3, happy=0.9) if m["type"] == "picture"]
    assert [(m["phase"], m["sequence"]) for m in taken] == [("post", 2)]
    desk.look(4, face=None)
    (ended,) = desk.log.of("visits")
    assert ended.post_frame_ids == (post, f"{visit_id}.post.2")


def test_a_visit_that_ended_or_is_too_old_does_not_go_on(desk: Desk) -> None:
    visit_id = "door-1-0123abcd-5"
    resume = {"visit_id": visit_id, "sequence": 0, "shown_at_ms": None, "post_frame_ids": []}
    assert kinds(desk.hello(resume={**resume, "started_at_ms": NOW_MS})) == ["welcome"]
    desk.known[visit_id] = Visit(visit_id, NOW_MS - 61_000)
    assert kinds(desk.hello(resume={**resume, "started_at_ms": NOW_MS})) == ["welcome"]
    assert desk.session.visit_id is None


def test_where_the_log_does_not_answer_the_pages_word_counts(desk: Desk) -> None:
    desk.log_answers = False
    visit_id = "door-1-0123abcd-5"
    resume = {"visit_id": visit_id, "sequence": 0, "shown_at_ms": NOW_MS, "post_frame_ids": []}
    desk.hello(resume={**resume, "started_at_ms": NOW_MS})
    assert desk.session.visit_id == visit_id
    assert desk.greet() == []


def test_nobody_who_stands_there_after_a_restart_is_followed_if_nobody_is_seen(desk: Desk) -> None:
    visit_id = "door-1-0123abcd-5"
    desk.known[visit_id] = Visit(visit_id, NOW_MS - 4_000, NOW_MS - 3_000)
    resume = {"visit_id": visit_id, "sequence": 0, "shown_at_ms": None, "post_frame_ids": []}
    desk.hello(resume={**resume, "started_at_ms": NOW_MS})
    desk.look(4, face=None)
    (ended,) = desk.log.of("visits")
    assert (ended.visit_id, ended.reason) == (visit_id, "left")


def test_a_visit_whose_page_stays_away_ends_when_it_was_last_seen(desk: Desk) -> None:
    desk.hello()
    desk.look(2)
    seen_ms = desk.clock()
    desk.clock.set(seen_ms + 10_000)
    desk.log.failure = LogUnavailable("locked")
    with pytest.raises(LogUnavailable):
        desk.session.end("camera_lost")
    desk.log.failure = None
    assert kinds(plain(desk.session.end("camera_lost"))) == ["visit"]
    assert plain(desk.session.end("camera_lost")) == []
    (ended,) = desk.log.of("visits")
    assert (ended.reason, ended.ended_at_ms) == ("camera_lost", seen_ms)
