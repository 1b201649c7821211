"""Draws every state of the kiosk page in Chromium, in many sizes, light and dark.

    .venv/bin/python tests/support/page_pictures.py build/pictures
    .venv/bin/python tests/support/page_pictures.py docs/pictures --kept

Look at each. ``--kept`` draws only those that the documentation shows.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from cv2.typing import MatLike
from playwright.sync_api import Browser, Page

from chromium import Launch, browsers, write_pictures
from scripted_gateway import ScriptedGateway
from waiting import wait_until

SIZES = {
    "wide": (1280, 720),
    "portrait": (1080, 1920),
    "phone": (360, 740),
    "narrow": (320, 568),
    "phone-on-its-side": (740, 360),
    "4k": (3840, 2160),
}
KEPT = {
    "kiosk-greeting": ("greeting", "wide", "light"),
    "kiosk-start": ("start", "portrait", "light"),
    "kiosk-objection": ("objection", "phone", "light"),
    "kiosk-joyful": ("joyful", "wide", "dark"),
}
BYTES_MAX = 150_000
_SIDE_PIXELS = 960

Scheme = Literal["dark", "light"]
Draw = Callable[[Page, ScriptedGateway], None]


def _started(page: Page, gateway: ScriptedGateway) -> None:
    page.click("#start")
    gateway.wait_for("hello")
    gateway.wait_for("shot")
    phase(page, "waiting")


def _arriving(page: Page, gateway: ScriptedGateway) -> None:
    _started(page, gateway)
    gateway.somebody("arriving")
    phase(page, "arriving")
    page.wait_for_timeout(700)


def _greeted(mood: str, text: str, wait_ms: int = 900) -> Draw:
    def draw(page: Page, gateway: ScriptedGateway) -> None:
        _started(page, gateway)
        gateway.begin()
        gateway.greet(text, mood)
        phase(page, "greeting")
        page.wait_for_timeout(wait_ms)

    return draw


def _after(page: Page, gateway: ScriptedGateway) -> None:
    _greeted("warm", "Welcome. Nice to see you.")(page, gateway)
    phase(page, "after", 8_000)
    page.wait_for_timeout(600)


def _objection(page: Page, gateway: ScriptedGateway) -> None:
    _started(page, gateway)
    page.click("#object")
    phase(page, "objection")
    page.wait_for_timeout(900)


def _away(page: Page, gateway: ScriptedGateway) -> None:
    _started(page, gateway)
    gateway.stop()
    wait_until(lambda: page.get_attribute("#status", "data-light") == "away")
    page.hover("#status")
    page.wait_for_timeout(500)


STATES: dict[str, Draw] = {
    "start": lambda page, _gateway: page.wait_for_timeout(300),
    "waiting": _started,
    "arriving": _arriving,
    "greeting": _greeted("warm", "Welcome. Nice to see you."),
    "joyful": _greeted("joyful", "There you are! The room just got a little brighter."),
    "funny": _greeted("funny", "I practised my smile all night. You go first."),
    "curious": _greeted("curious", "¿Qué haría de hoy un buen día para usted?", 2600),
    "formal": _greeted("formal", "Good day. We are at your service.", 2600),
    "charming": _greeted("charming", "Good taste just walked in. Welcome!", 2400),
    "cosy": _greeted("cosy", "Was der Himmel auch treibt: hier drinnen ist es immer mild.", 2600),
    "grateful": _greeted("grateful", "Thank you for coming. You could have gone anywhere.", 2600),
    "after": _after,
    "objection": _objection,
    "away": _away,
}


def phase(page: Page, wanted: str, timeout_ms: int = 6_000) -> None:
    """Wait until the page is in a phase."""
    page.wait_for_selector(f"html[data-phase={wanted}]", timeout=timeout_ms)


def draw(browser: Browser, state: str, size: str, scheme: str, path: Path) -> None:
    """Draw one state of the page."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        locale="en",
    )
    with ScriptedGateway() as gateway:
        page = context.new_page()
        page.goto(gateway.address)
        page.wait_for_selector("#start:enabled")
        STATES[state](page, gateway)
        page.screenshot(path=path)
        context.close()


def _key_and_camera(launch: Launch, folder: Path, size: str, scheme: str) -> None:
    """Draw the two states that another start of Chromium or of the gateway is needed for."""
    width, height = SIZES[size]
    dark: Scheme = "dark" if scheme == "dark" else "light"
    browser = launch(allowed=False)
    with ScriptedGateway() as gateway:
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=dark)
        page.goto(gateway.address)
        page.click("#start")
        phase(page, "camera")
        page.wait_for_timeout(500)
        page.screenshot(path=folder / f"camera-{size}-{scheme}.png")
    browser.close()
    browser = launch()
    with ScriptedGateway(key="pho_k") as gateway:
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=dark)
        page.goto(gateway.address)
        page.click("#start")
        phase(page, "key")
        page.wait_for_timeout(500)
        page.screenshot(path=folder / f"key-{size}-{scheme}.png")
    browser.close()


def somebody() -> MatLike:
    """Return what the camera sees in these pictures: a drawn visitor, for no recording is ours."""
    picture = np.full((360, 640, 3), (190, 205, 216), np.uint8)
    cv2.ellipse(picture, (320, 400), (170, 160), 0, 180, 360, (120, 96, 74), -1, cv2.LINE_AA)
    cv2.ellipse(picture, (320, 165), (78, 98), 0, 0, 360, (150, 178, 214), -1, cv2.LINE_AA)
    cv2.ellipse(picture, (320, 138), (84, 92), 0, 180, 360, (52, 62, 84), -1, cv2.LINE_AA)
    for x in (292, 348):
        cv2.ellipse(picture, (x, 165), (8, 10), 0, 0, 360, (52, 46, 60), -1, cv2.LINE_AA)
    cv2.ellipse(picture, (320, 200), (34, 24), 0, 15, 165, (70, 60, 140), 6, cv2.LINE_AA)
    return picture


def small(path: Path) -> None:
    """Make a picture as small as the documentation wants it; say so if it cannot be."""
    picture = cv2.imread(str(path))
    assert picture is not None
    scale = min(1.0, _SIDE_PIXELS / max(picture.shape[:2]))
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    # Chromium dithers its gradients; sixty-four levels of each colour look the same in a third.
    picture = picture // 4 * 4 + 2
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    size = path.stat().st_size
    print(f"{path}: {size:,} bytes{' - too large' if size > BYTES_MAX else ''}")  # noqa: T201


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kept", action="store_true")
    parser.add_argument("--states", nargs="*", default=[*STATES, "key"])
    parser.add_argument("--sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--schemes", nargs="*", default=["light", "dark"])
    wanted = parser.parse_args()
    wanted.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, browsers() as launch:
        camera = write_pictures(Path(temporary) / "camera.y4m", [somebody()] * 5)
        browser = launch(camera)
        if wanted.kept:
            for name, (state, size, scheme) in KEPT.items():
                path = wanted.folder / f"{name}.png"
                draw(browser, state, size, scheme, path)
                small(path)
            return
        for size in wanted.sizes:
            for scheme in wanted.schemes:
                for state in wanted.states:
                    path = wanted.folder / f"{state}-{size}-{scheme}.png"
                    if state in STATES:
                        draw(browser, state, size, scheme, path)
                if "key" in wanted.states:
                    _key_and_camera(launch, wanted.folder, size, scheme)


if __name__ == "__main__":
    main()
