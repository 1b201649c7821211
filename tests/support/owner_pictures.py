"""Draws every state of the owner's page in Chromium, wide and narrow, light and dark.

    .venv/bin/python tests/support/owner_pictures.py build/pictures
    .venv/bin/python tests/support/owner_pictures.py docs/pictures --kept

Look at each. ``--kept`` draws only those that the documentation shows.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import cv2
import numpy as np
from playwright.sync_api import Browser, Page

from chromium import browsers
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from owner_shops import rows_of, simulated, write
from running_gateways import running_gateway
from schemas.operations import AlarmRaised
from schemas.outcomes import Evidence
from serving.gateway.owner_routes import Desk

Scheme = Literal["dark", "light"]

SIZES = {"wide": (1280, 860), "phone": (390, 844), "narrow": (320, 640), "large": (2200, 1300)}
KEPT: dict[str, tuple[str, str, Scheme]] = {
    "owner-answer": ("open", "wide", "light"),
    "owner-receipt": ("receipt", "phone", "light"),
    "owner-phone": ("open", "phone", "dark"),
}
BYTES_MAX = 150_000
VISITS, EARLY_VISITS = 1_500, 120

Draw = Callable[[Page, str], None]


def ready(page: Page, address: str) -> None:
    """Open the page, and wait until its pictures stand still."""
    page.goto(address)
    page.wait_for_selector("html[data-read=all]")
    page.wait_for_timeout(800)


def _receipt(page: Page, address: str) -> None:
    ready(page, address)
    page.locator("#newest button", has_text="smiled").first.click()
    page.wait_for_selector("#receipt .story")
    page.wait_for_timeout(200)


def _tables(page: Page, address: str) -> None:
    page.route("**/static/vendor/**", lambda route: route.abort())
    ready(page, address)


def _happiness(page: Page, address: str) -> None:
    ready(page, address)
    page.click("[data-measure=reward]")
    page.wait_for_timeout(600)


def _away(page: Page, address: str) -> None:
    ready(page, address)
    page.context.set_offline(True)
    page.wait_for_selector("#away:not([hidden])", timeout=60_000)


def _key(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("#key-panel:not([hidden])")


STATES: dict[str, tuple[str, Draw]] = {
    "open": ("shop", ready),
    "receipt": ("shop", _receipt),
    "happiness": ("shop", _happiness),
    "tables": ("shop", _tables),
    "away": ("shop", _away),
    "early": ("early", ready),
    "empty": ("empty", ready),
    "key": ("locked", _key),
}
"""What is drawn: on which shop, and how one comes there."""


def _shop(folder: Path, visits: int) -> int:
    """Write the log of a shop at work; return what its clock says."""
    simulated(folder / "plain", visits, kiosks=2)
    rows = rows_of(folder / "plain")
    write(folder / "shop", rows)
    now_ms = max(row.log_time_ms for row in rows if row.stream == "decisions") + 25_000
    raised = (Evidence("before", 0.31), Evidence("after", 0.22))
    alarm = AlarmRaised("a-1", "greeting", "reward_fell", "adwin.reward", now_ms, raised)
    if visits > EARLY_VISITS:
        with closing(EmbeddedLog(folder / "shop", SetClock(now_ms))) as log:
            log.append("alarms", alarm)
    return now_ms


@contextmanager
def _told_the_time(now_ms: int) -> Iterator[None]:
    """Let the page's clock stand where the log ends."""
    made = Desk.__init__

    def make(self: Desk, *told: Any) -> None:
        made(self, *told)
        self.clock = SetClock(now_ms)

    with patch.object(Desk, "__init__", make):
        yield


@contextmanager
def shops(folder: Path) -> Iterator[dict[str, str]]:
    """Serve every shop; give the address of each one's page."""
    with ExitStack() as stack:
        found = {}
        for name, visits in (
            ("shop", VISITS),
            ("early", EARLY_VISITS),
            ("empty", 0),
            ("locked", 0),
        ):
            data = folder / name
            if visits:
                stack.enter_context(_told_the_time(_shop(data, visits)))
            shop = stack.enter_context(running_gateway(data / "shop"))
            if name == "locked":
                shop.keys.add("owner")
            found[name] = f"http://127.0.0.1:{shop.settings.gateway.port}/owner/"
        yield found


def picture(
    browser: Browser, addresses: dict[str, str], state: str, size: str, scheme: Scheme
) -> tuple[bytes, bytes]:
    """Return what fits the screen, and the whole page, as PNG."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB",
        timezone_id="UTC", reduced_motion="reduce",
    )  # fmt: skip
    with closing(context):
        page = context.new_page()
        shop, draw = STATES[state]
        draw(page, addresses[shop])
        return page.screenshot(), page.screenshot(full_page=True)


def _small(png: bytes) -> bytes:
    """Return a PNG of 8-bit colours as small as OpenCV makes it."""
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kept", action="store_true")
    parser.add_argument("--state", choices=STATES)
    told = parser.parse_args()
    told.folder.mkdir(parents=True, exist_ok=True)
    wanted = dict(KEPT) if told.kept else {}
    if not told.kept:
        for state in [told.state] if told.state else STATES:
            for size in SIZES:
                for scheme in ("light", "dark"):
                    wanted[f"owner-{state}-{size}-{scheme}"] = (state, size, scheme)
    with tempfile.TemporaryDirectory() as folder, browsers() as launch:
        browser = launch()
        with shops(Path(folder)) as addresses:
            for name, (state, size, scheme) in wanted.items():
                screen, whole = picture(browser, addresses, state, size, scheme)
                png = _small(screen if told.kept or state == "receipt" else whole)
                if told.kept and len(png) > BYTES_MAX:
                    problem = f"{name}.png has {len(png)} bytes: more than the repository should"
                    raise SystemExit(problem)
                (told.folder / f"{name}.png").write_bytes(png)


if __name__ == "__main__":
    main()
