"""A visitor before a real gateway and a real job: the owner's page moves while it is open."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from chromium import browsers
from served_shops import hasty_world, quick_settings, running_job, serving_gateway
from told_pages import Playing, connected

WAIT_MS = 30_000


def test_the_page_moves_while_a_visitor_is_greeted_and_smiles(tmp_path: Path) -> None:
    settings = quick_settings(tmp_path)
    with (
        browsers() as launch,
        serving_gateway(settings),
        running_job(settings),
        connected(settings.gateway.port) as kiosk,
    ):
        page = launch().new_page(reduced_motion="reduce")
        page.set_default_timeout(WAIT_MS)
        page.goto(f"http://127.0.0.1:{settings.gateway.port}/owner/")
        page.wait_for_selector("html[data-read=all]")
        assert page.inner_text("#answer-title") == "Nobody was greeted yet"
        playing = Playing(kiosk, hasty_world())
        playing.visit(0)
        greeted = page.locator("#facts > div", has_text="greeted").locator("dd")
        expect(greeted).to_have_text("1", timeout=WAIT_MS)
        line = page.locator("#newest button")
        expect(line).to_have_count(1)
        expect(line.locator(".result")).not_to_have_text("still there", timeout=WAIT_MS)
        # Its times are a clock's: how fast it was is told.
        expect(page.locator("#speed")).to_contain_text("Picture to screen")
        line.click()
        page.wait_for_selector("#receipt .story")
        expect(page.locator("#receipt .story")).to_contain_text("It earned")
        page.goto("about:blank")
