"""The kiosk page that reads expressions itself: numbers leave it, pictures never."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from chromium import Launch, write_camera
from kiosk_pages import Wire, open_page, start
from scripted_gateway import ScriptedGateway


def test_at_the_edge_numbers_leave_the_page_and_no_pixel(
    launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    browser = launch(write_camera(tmp_path / "camera.y4m", [("woman/smile", 4)]))
    with ScriptedGateway(analysis="edge") as gateway:
        page, wire = open_page(browser, gateway.address)
        start(page)
        looks = [look for look in gateway.wait_for("look", 4, 60) if look["faces"]]
        assert gateway.of("hello")[0]["analysis"] == "edge"
        assert looks, "a face stands before the camera"
        (face,) = looks[-1]["faces"]
        assert face["emotions"]["happy"] > 0.8
        assert set(face["emotions"]) == {
            *("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise"),
        }
        assert 0.2 < face["box"]["height"] < 1.0
        assert (looks[-1]["analyser"], looks[-1]["analyser_version"]) == ("face-api", "1.7.15")
        assert (gateway.pictures, wire.sent_bytes) == (0, [])
        assert max(len(text) for text in wire.sent) < 2_000, "numbers are short"
        assert "on this device" in (page.text_content("#status-words") or "")
        assert wire.complaints == []
        times = [look["at_ms"] for look in gateway.wait_for("look", 12, 30)[4:]]
        with capsys.disabled():
            mean_ms = (times[-1] - times[0]) / (len(times) - 1)
            print(f"\n  edge: a look every {mean_ms:.0f} ms; happy {face['emotions']['happy']:.2f}")  # noqa: T201
    browser.close()


def test_without_its_files_the_edge_sends_no_pictures_either(browser: Browser) -> None:
    with ScriptedGateway(analysis="edge") as gateway:
        context = browser.new_context()
        context.route("**/static/vendor/**", lambda route: route.abort())
        page = context.new_page()
        wire = Wire()
        wire.watch(page)
        page.goto(gateway.address)
        page.click("#start")
        page.wait_for_selector("#status[data-light=bad]", state="attached", timeout=40_000)
        assert "--fetch-pages" in (page.text_content("#status-words") or "")
        page.wait_for_timeout(1_000)
        assert (gateway.pictures, wire.sent_bytes, gateway.of("look")) == (0, [], [])
        context.close()
