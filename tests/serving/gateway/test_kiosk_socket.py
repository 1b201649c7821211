"""The kiosk's socket, on a real server: real pictures, real models, the job beside it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connectors import embedded_log
from connectors.embedded_log import EmbeddedLog
from connectors.pictures import PICTURES, FolderPictures
from schemas.decisions import GreetingIssued
from served_shops import hasty_world, quick_settings, records, running_job, serving_gateway
from serving.forgotten import without_erased
from serving.gateway.keys import KeyRing
from serving.ledger import read_ledger
from serving.opening import open_log
from serving.settings import Settings
from told_pages import FACE, Playing, ToldPage, connected, edge_look, hello, now_ms, shot_message
from waiting import wait_until


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Settings]:
    settings = quick_settings(tmp_path / "shop")
    with serving_gateway(settings):
        yield settings


@pytest.fixture(scope="module")
def tidy_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Serve one gateway to all tests that leave nothing behind."""
    settings = quick_settings(tmp_path_factory.mktemp("tidy") / "shop")
    with serving_gateway(settings):
        yield settings


def balanced(settings: Settings) -> Any:
    """Return the ledger of a folder."""
    return read_ledger(without_erased(settings, open_log(settings)))


def test_visitors_are_greeted_react_and_are_learned_from(shop: Settings) -> None:
    with running_job(shop), connected(shop.gateway.port) as page:
        playing = Playing(page, hasty_world())
        smiles: list[tuple[bool, bool]] = []
        for index in range(2):
            visitor = playing.visit(index)
            page.wait(lambda m: m["type"] == "visit" and m["state"] == "ended", first=len(smiles))
            action_id = page.greeted[-1]["action_id"]
            smiles.append((visitor.truth.mood == "smile", visitor.smiles_after(action_id)))
        wait_until(lambda: len([o for o in records(shop, "outcomes") if _closed(o)]) == 2)
    outcomes = [o for o in records(shop, "outcomes") if _closed(o)]
    impressions = records(shop, "impressions")
    assert [each.result for each in outcomes] == ["rewarded", "rewarded"]
    assert len(page.greeted) == len(impressions) == 2
    assert [each.action_id for each in impressions] == [g["action_id"] for g in page.greeted]
    frames = records(shop, "frames")
    assert [(f.phase, f.sequence) for f in frames] == [
        *(("pre", 0), ("post", 1), ("post", 2)),
        *(("pre", 0), ("post", 1), ("post", 2)),
    ]
    assert {(f.kiosk_id, f.notice, f.width) for f in frames} == {("door-1", "page", 640)}
    assert [v.reason for v in records(shop, "visits")] == ["left", "left"]
    for outcome, (before, after) in zip(outcomes, smiles, strict=True):
        # What the models saw in the pictures is what the visitor felt.
        assert (outcome.reward > 0.3) == (after and not before)
    assert FolderPictures(shop.data / PICTURES).ids() == []
    assert balanced(shop).balanced
    assert page.reports == {}


def _closed(record: Any) -> bool:
    return type(record).__name__ == "OutcomeClosed"


def test_a_page_that_analyses_sends_numbers_and_no_picture(shop: Settings) -> None:
    with running_job(shop), connected(shop.gateway.port, analysis="edge") as page:
        for step in range(60):
            smiles = bool(page.greeted)
            page.send(edge_look(now_ms(), FACE if step > 1 else None, 0.9 if smiles else 0.1))
            for greeting in page.of("greeting"):
                page.show(greeting)
            if len(page.of("picture")) == 3:
                break
            time.sleep(0.1)
        page.send({"type": "bye"})
        wait_until(lambda: any(_closed(o) for o in records(shop, "outcomes")))
    frames = records(shop, "frames")
    assert [f.phase for f in frames] == ["pre", "post", "post"]
    assert {f.picture_id for f in frames} == {None}
    assert {f.edge_analysis.analyser for f in frames} == {"face-api"}
    (outcome,) = (o for o in records(shop, "outcomes") if _closed(o))
    assert outcome.result == "rewarded"
    assert outcome.reward == pytest.approx(0.8)
    assert [v.reason for v in records(shop, "visits")] == ["stopped"]


def test_a_page_without_a_notice_is_not_analysed(shop: Settings) -> None:
    with connected(shop.gateway.port, notice="none", analysis="edge") as page:
        for _ in range(8):
            page.send(edge_look(now_ms(), FACE, 0.1))
            time.sleep(0.1)
        page.wait(lambda m: m["type"] == "picture")
        page.send({"type": "notice", "shown": True})
        page.send({"type": "bye"})
        page.wait_closed()
    (frame,) = records(shop, "frames")
    assert (frame.notice, frame.edge_analysis) == ("none", None)
    assert FolderPictures(shop.data / PICTURES).ids() == []


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("[1, 2", "no message"),
        ('{"type": "dance"}', "dance"),
        ('{"type": "look", "at_ms": 1}', "missing required field"),
        ('{"type": "shown", "decision_id": "d", "action_id": "", "shown_at_ms": 1}', "length"),
        ('{"type": "clock", "sent_at_ms": 1e99}', "sent_at_ms"),
        ("[" * 5_000, "no message"),
        (b"", "no header"),
        (b"\x00\x00\x00\x05hello", "no header"),
        (b"\x00\x00\x00\x02{}picture", "header"),
        (b"\xff\xff\xff\xff" + b"x" * 64, "no header"),
        ({"type": "shown", "decision_id": "door-2-0123abcd-1", "action_id": "joke",
          "shown_at_ms": 1}, "no decision of kiosk"),
        ({"type": "hello", "protocol": 1, "kiosk_id": "door-1", "sent_at_ms": 1}, "came twice"),
        ({"type": "look", "at_ms": 1, "width": 1, "height": 1, "faces": [], "analyser": "a",
          "analyser_version": "1"}, "does not analyse"),
    ],
)  # fmt: skip
def test_a_bad_message_is_answered_with_a_cure_and_the_connection_goes_on(
    tidy_shop: Settings, message: Any, says: str
) -> None:
    with connected(tidy_shop.gateway.port) as page:
        page.send(message)
        error = page.wait(lambda m: m["type"] == "error")
        assert says in error["problem"]
        assert error["cure"]
        assert error["fatal"] is False
        page.send({"type": "clock", "sent_at_ms": now_ms()})
        assert page.wait(lambda m: m["type"] == "clock")


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff" + bytes(500)])
def test_a_picture_that_is_none_is_answered_as_seen_too(
    tidy_shop: Settings, content: bytes
) -> None:
    with connected(tidy_shop.gateway.port) as page:
        at_ms = now_ms()
        page.send(shot_message(at_ms, content or b"x"))
        # Or a page that waits for its answer would never send another.
        assert page.wait(lambda m: m["type"] == "seen")["at_ms"] == at_ms
        assert page.wait(lambda m: m["type"] == "error")["fatal"] is False


def test_an_old_picture_is_not_looked_at(tidy_shop: Settings) -> None:
    with connected(tidy_shop.gateway.port, analysis="edge") as page:
        page.send(edge_look(now_ms() - 6_000, FACE, 0.1))
        assert "before it came" in page.wait(lambda m: m["type"] == "error")["problem"]


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ({"protocol": 2}, 4400),
        ({"kiosk_id": ""}, 4400),
        ({"kiosk_id": " padded"}, 4400),
        ({"kiosk_id": "k" * 101}, 4400),
        ({"language": "no language!"}, 4400),
        ({"utc_offset_minutes": 5_000}, 4400),
        ({"resume": {"visit_id": "door-9-0123abcd-5", "sequence": 0, "shown_at_ms": None,
                     "post_frame_ids": [], "started_at_ms": 5}}, 4400),
        ({"type": "bye"}, 4400),
    ],
)  # fmt: skip
def test_a_hello_that_cannot_be_is_refused_for_good(
    tidy_shop: Settings, first: dict[str, Any], code: int
) -> None:
    page = ToldPage(tidy_shop.gateway.port)
    error = page.connect(**first)
    assert (error["type"], error["fatal"]) == ("error", True)
    assert error["cure"]
    assert page.wait_closed() == code
    page.close()


def test_too_large_and_too_many_are_closed_with_a_code(tidy_shop: Settings) -> None:
    with connected(tidy_shop.gateway.port) as page:
        page.send(shot_message(now_ms(), b"x" * 1_100_000))
        assert page.wait_closed() == 1009
    with connected(tidy_shop.gateway.port) as page:
        try:
            for _ in range(2_000):
                page.send({"type": "clock", "sent_at_ms": now_ms()})
        except Exception as error:  # noqa: BLE001 - the line may break in any way
            del error
        assert page.wait_closed() == 4429


def test_the_newest_page_of_a_kiosk_counts(tidy_shop: Settings) -> None:
    with connected(tidy_shop.gateway.port) as first:
        with connected(tidy_shop.gateway.port) as second:
            assert first.wait_closed() == 4409
            second.send({"type": "clock", "sent_at_ms": now_ms()})
            assert second.wait(lambda m: m["type"] == "clock")


def test_one_kiosk_too_many_is_refused(tmp_path: Path) -> None:
    settings = quick_settings(tmp_path / "shop", **{"gateway.max_kiosks": 1})
    with serving_gateway(settings):
        with connected(settings.gateway.port, "one"):
            page = ToldPage(settings.gateway.port, "two")
            assert "no room" in page.connect()["problem"]
            assert page.wait_closed() == 1013
            page.close()
        # The first one is gone, and nobody stood there: its place is free.
        wait_until(lambda: _may_enter(settings.gateway.port, "two"))


def _may_enter(port: int, kiosk_id: str) -> bool:
    page = ToldPage(port, kiosk_id)
    kind: str = page.connect()["type"]
    page.close()
    return kind == "welcome"


def test_welcome_says_what_to_show_while_nobody_answers(tidy_shop: Settings) -> None:
    page = ToldPage(tidy_shop.gateway.port)
    welcome = page.connect()
    page.close()
    assert welcome["kiosk_id"] == "door-1"
    assert (welcome["loop_id"], welcome["shots_per_second"], welcome["shot_width"]) == (
        "greeting",
        4.0,
        480,
    )
    baseline = welcome["baseline"]
    assert (baseline["action_id"], sorted(baseline["texts"])) == ("welcome", ["de", "en", "es"])
    assert hello()["sent_at_ms"] - 60_000 < welcome["server_ms"] < now_ms() + 60_000


BRIDGE_S = 2.5


@pytest.fixture
def brittle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Serve a gateway that does not wait long: neither for a page nor for a locked log."""
    monkeypatch.setattr(embedded_log, "BUSY_TIMEOUT_MS", 50)
    # A window long enough for a slow machine: a greeting must not expire while a test waits.
    window = {"loops.greeting.rules.reward_window_ms": 20_000}
    settings = quick_settings(tmp_path / "shop", **window)
    with serving_gateway(settings, BRIDGE_S):
        yield settings


def look_until(page: ToldPage, wanted: Callable[[], bool]) -> None:
    """Let somebody stand there until the page has heard something."""
    end_s = time.monotonic() + 20.0
    while not wanted():
        assert time.monotonic() < end_s, page.heard[-5:]
        page.send(edge_look(now_ms(), FACE, 0.1))
        time.sleep(0.1)


def issue(settings: Settings, visit_id: str) -> None:
    """Issue a greeting as the job does."""
    greeting = GreetingIssued(
        **{"decision_id": visit_id, "visit_id": visit_id, "loop_id": "greeting"},
        **{"kiosk_id": "door-1", "action_id": "joke", "text": "Hello", "language": "en"},
        **{"voice": "", "mood": "funny"},
        decided_at_ms=now_ms(),
        expires_at_ms=now_ms() + 20_000,
    )
    with closing(EmbeddedLog(settings.data)) as log:
        log.append("greetings", greeting)


def test_a_page_that_comes_back_in_time_goes_on_with_its_visit(brittle: Settings) -> None:
    with connected(brittle.gateway.port, analysis="edge") as page:
        look_until(page, lambda: page.resume is not None)
        visit_id = (page.resume or {})["visit_id"]
        page.close()
        # It comes while nobody listens, and waits for who does.
        issue(brittle, visit_id)
        time.sleep(0.3)
        heard = len(page.heard)
        # Even a page that was loaded anew, and knows nothing of it.
        page.connect(resume=None)
        assert page.wait(lambda m: m["type"] == "visit", first=heard)["visit_id"] == visit_id
        greeting = page.wait(lambda m: m["type"] == "greeting")
        assert greeting["visit_id"] == visit_id
        page.show(greeting)
        page.wait(lambda m: m["type"] == "shown")
        look_until(page, lambda: len(page.of("picture")) == 3)
    assert {f.visit_id for f in records(brittle, "frames")} == {visit_id}
    assert len(records(brittle, "impressions")) == 1


def test_a_visit_whose_page_stays_away_ends_as_lost(brittle: Settings) -> None:
    with connected(brittle.gateway.port, analysis="edge") as page:
        look_until(page, lambda: page.resume is not None)
    seen_ms = now_ms()
    assert records(brittle, "visits") == []
    wait_until(lambda: len(records(brittle, "visits")) == 1)
    (ended,) = records(brittle, "visits")
    assert ended.reason == "camera_lost"
    assert ended.ended_at_ms <= seen_ms
    assert now_ms() - ended.ended_at_ms >= BRIDGE_S * 1_000


def test_a_visit_that_nobody_looks_at_any_more_ends_though_the_page_is_there(
    brittle: Settings,
) -> None:
    with connected(brittle.gateway.port, analysis="edge") as page:
        look_until(page, lambda: page.resume is not None)
        ended = page.wait(lambda m: m["type"] == "visit" and m["state"] == "ended")
        assert ended["reason"] == "camera_lost"
    assert len(records(brittle, "visits")) == 1


def test_a_log_that_another_process_holds_is_waited_for(brittle: Settings) -> None:
    with connected(brittle.gateway.port, analysis="edge") as page:
        other = sqlite3.connect(brittle.data / "pho.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        look_until(page, lambda: bool(page.of("error")))
        error = page.of("error")[0]
        assert "locked by another process" in error["problem"]
        assert error["fatal"] is False
        assert page.of("visit") == []
        other.execute("ROLLBACK")
        other.close()
        look_until(page, lambda: page.resume is not None)
    assert len(records(brittle, "frames")) == 1


def test_a_kiosks_key_is_of_that_kiosk_alone(brittle: Settings) -> None:
    _, key = KeyRing(brittle.data / "keys.json").add("kiosk", "door-1")
    page = ToldPage(brittle.gateway.port, "door-2", key=key)
    assert "of kiosk 'door-1'" in page.connect()["problem"]
    assert page.wait_closed() == 4403
    page.close()
    page = ToldPage(brittle.gateway.port, "door-1", key=key)
    assert page.connect()["type"] == "welcome"
    page.close()
