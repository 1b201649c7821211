"""The kiosk page in a real Chromium, before the real gateway and the real job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from chromium import browsers, write_camera
from connectors.embedded_log import EmbeddedLog
from connectors.pictures import PICTURES, FolderPictures
from kiosk_pages import RealGateway, open_page, start, wait, wait_for_phase
from schemas.codec import decode
from schemas.outcomes import OutcomeClosed
from serving.ledger import read_ledger
from waiting import wait_until

# What Chromium's camera shows over and over: two visitors, each with nobody before.
SCENES = (
    *(("empty", 2.6), ("woman/rest", 2.4), ("woman/smile", 5)),
    *(("empty", 2.6), ("man/rest", 2.4), ("man/smile", 5)),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    camera = tmp_path_factory.mktemp("camera") / "camera.y4m"
    with browsers() as launch:
        yield launch(write_camera(camera, SCENES))


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RealGateway]:
    with RealGateway(tmp_path / "shop") as running:
        yield running


@pytest.mark.slow
def test_two_visitors_are_greeted_and_their_reactions_seen(
    browser: Browser, gateway: RealGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    page, wire = open_page(browser, gateway.address)
    start(page)
    assert page.is_visible("#foot-notice")
    shown = []

    def wait_for(texts: list[str], count: int, kind: str, state: str | None = None) -> None:
        wait(page, lambda: len(_of(texts, kind, state)) >= count, 40)

    for visitor in (1, 2):
        wait_for_phase(page, "greeting", seconds=40)
        caption = page.inner_text("#caption")
        wait_for(wire.sent, visitor, "shown")
        greeting = _of(wire.received, "greeting")[visitor - 1]
        assert caption == greeting["text"]
        shown.append(_of(wire.sent, "shown")[visitor - 1])
        assert shown[-1]["decision_id"] == greeting["decision_id"]
        assert shown[-1].get("fallback") is None
        wait_for(wire.received, visitor, "visit", "ended")
    assert shown[0]["decision_id"] != shown[1]["decision_id"]
    wait(page, lambda: len(_outcomes(gateway.data)) >= 2, 40)
    page.context.close()
    assert wire.complaints == []
    frames = _records(gateway.data, "frames")
    # From the picture that decided to the caption on the screen; the job looked at it meanwhile.
    waits_ms = [
        report["shown_at_ms"] - next(f.captured_at_ms for f in frames if f.decision_id == d)
        for report in shown
        for d in [report["decision_id"]]
    ]
    with capsys.disabled():
        print(f"\n  from the picture to the greeting: {waits_ms} ms")  # noqa: T201
    # A second, measured when nothing else runs; three where seven others share two cores.
    assert min(waits_ms) < 3_000
    for report in shown:
        phases = [f.phase for f in frames if f.decision_id == report["decision_id"]]
        assert phases == ["pre", "post", "post"]
    rewarded = [o for o in _outcomes(gateway.data) if o.result == "rewarded"]
    assert max(outcome.reward for outcome in rewarded) > 0.4, "rested, was greeted, then smiled"
    with closing(EmbeddedLog(gateway.data)) as log:
        assert read_ledger(log).balanced
    pictures = FolderPictures(gateway.data / PICTURES)
    wait_until(lambda: not pictures.ids())


@pytest.mark.slow
def test_a_gateway_killed_before_a_visitor_greets_nobody_twice(
    browser: Browser, gateway: RealGateway
) -> None:
    page, wire = open_page(browser, gateway.address)
    start(page)
    wait_for_phase(page, "greeting", seconds=40)
    text = page.inner_text("#caption")
    gateway.kill()
    page.wait_for_selector("#status[data-light=away]", state="attached")
    assert page.inner_text("#caption") == text, "the visitor notices nothing"
    gateway.start()
    page.wait_for_selector("#status[data-light=good]", state="attached", timeout=30_000)
    shown = "decision_id"
    wait(page, lambda: len({each[shown] for each in _of(wire.sent, "shown")}) >= 2, 60)
    page.wait_for_timeout(300)
    page.context.close()
    decisions = [each.decision_id for each in _records(gateway.data, "impressions")]
    first = _of(wire.received, "greeting")[0]["decision_id"]
    assert decisions.count(first) == 1, "that it was shown is in the log, once"
    assert len(set(decisions)) == len(decisions)
    # The new gateway may send it again; the page showed it once, and says so as often as needed.
    reports = {(each[shown], each["shown_at_ms"]) for each in _of(wire.sent, "shown")}
    assert len(reports) == len({decision for decision, _ in reports})
    with closing(EmbeddedLog(gateway.data)) as log:
        assert read_ledger(log).balanced
    assert wire.complaints == []


def _of(texts: list[str], kind: str, state: str | None = None) -> list[dict[str, Any]]:
    messages = [json.loads(text) for text in texts]
    return [m for m in messages if m["type"] == kind and (state is None or m["state"] == state)]


def _outcomes(folder: Path) -> list[OutcomeClosed]:
    return [each for each in _records(folder, "outcomes") if isinstance(each, OutcomeClosed)]


def _records(folder: Path, stream: str) -> list[Any]:
    with closing(EmbeddedLog(folder)) as log:
        return [decode(row.value) for row in log.scan(stream)]
