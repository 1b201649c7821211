"""A real Chromium for the tests of the pages, with a recording as its camera."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import cv2
from cv2.typing import MatLike
from playwright.sync_api import Browser, sync_playwright

from needs import need
from producers.stretches import load_stretches


class Launch(Protocol):
    """Starts a Chromium; `camera` is what its camera shows, `allowed` whether pages may have it."""

    def __call__(self, camera: Path | None = None, *, allowed: bool = True) -> Browser:
        """Start it."""
        ...


SHOTS_PER_SECOND = 5
_STEPS_A_SECOND = 2
# Three quarters of the recordings' sides: 1 MB a second.
_WIDTH_PX, _HEIGHT_PX = 480, 270


def write_camera(path: Path, scenes: Sequence[tuple[str, float]]) -> Path:
    """Write a recording that Chromium takes as its camera, over and over again.

    Parameters
    ----------
    path : Path
        Where to; its name ends with ``.y4m``.
    scenes : sequence of (str, float)
        Stretches of the pinned recordings (``empty``, ``woman/rest``), each with its seconds.
    """
    stretches = load_stretches(None)

    def pictures() -> Iterator[MatLike]:
        for name, seconds in scenes:
            for shot in range(round(seconds * SHOTS_PER_SECOND)):
                yield stretches.picture(name, shot * _STEPS_A_SECOND // SHOTS_PER_SECOND)

    return write_pictures(path, pictures())


def write_pictures(path: Path, pictures: Iterable[MatLike]) -> Path:
    """Write pictures (blue, green, red) as a camera of 5 a second; return the file, a ``.y4m``."""
    assert path.suffix == ".y4m"
    with path.open("wb") as file:
        size = f"W{_WIDTH_PX} H{_HEIGHT_PX}"
        file.write(f"YUV4MPEG2 {size} F{SHOTS_PER_SECOND}:1 Ip A1:1 C420jpeg\n".encode())
        for picture in pictures:
            small = cv2.resize(picture, (_WIDTH_PX, _HEIGHT_PX), interpolation=cv2.INTER_AREA)
            file.write(b"FRAME\n")
            file.write(cv2.cvtColor(small, cv2.COLOR_BGR2YUV_I420).tobytes())
    return path


@contextmanager
def browsers() -> Iterator[Launch]:
    """Give a function that starts Chromiums; all are closed at the end.

    One at a time in a process: playwright has one loop in a thread.
    """
    need("chromium")
    with sync_playwright() as playwright, ExitStack() as opened:

        def launch(camera: Path | None = None, *, allowed: bool = True) -> Browser:
            browser = playwright.chromium.launch(
                executable_path=str(need("chromium")), args=_flags(camera, allowed=allowed)
            )
            opened.callback(browser.close)
            return browser

        yield launch


def _flags(camera: Path | None, *, allowed: bool) -> list[str]:
    """Return the flags of a camera (None: a test picture), and of a user who lets pages have it."""
    flags = ["--no-sandbox", "--use-fake-device-for-media-stream"]
    if camera is not None:
        flags.append(f"--use-file-for-fake-video-capture={camera}")
    # Else Chromium would ask a user who is not there.
    flags.append("--use-fake-ui-for-media-stream" if allowed else "--deny-permission-prompts")
    return flags
