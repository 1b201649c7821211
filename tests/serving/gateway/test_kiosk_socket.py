"""The kiosk's socket, on a real server: real pictures, real models, the job beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.pictures import PICTURES, FolderPictures
from served_shops import hasty_world, quick_settings, records, running_job, serving_gateway
from serving.forgotten import without_erased
from serving.ledger import read_ledger
from serving.opening import open_log
from serving.settings import Settings
from told_pages import FACE, Playing, ToldPage, connected, edge_look, hello, now_ms, shot_message


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


def wait_until(holds: Callable[[], bool], patience_s: float = 15.0) -> None:
    end_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end_s, f"not within {patience_s} s"
        time.sleep(0.05)


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
