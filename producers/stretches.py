"""Stretches of the pinned recordings: real pixels of real people at rest and smiling.

Every moment below was looked at with both face models and the emotion classifier: at rest `happy`
is at most 0.03, smiling at least 0.9, and one person's face stays in its place between the two, so
that a tracker follows it. The empty scene has no face for either model up to 3.3 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.assets import asset_path
from producers.captures import Capture, open_video
from producers.taste import Mood
from schemas.errors import ModelError

Picture = NDArray[np.uint8]

WIDTH_PX, HEIGHT_PX = 640, 360

EMPTY = "empty"
PEOPLE = ("woman", "man")

_WANTED_MS: Mapping[str, Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "recording_laugh": {
            "woman/rest": tuple(range(0, 4_001, 500)),
            "woman/smile": tuple(range(12_500, 16_501, 500)),
        },
        "recording_smile": {
            "man/rest": tuple(range(0, 501, 100)),
            "man/smile": tuple(range(800, 2_201, 200)),
        },
        "recording_empty": {EMPTY: tuple(range(0, 2_001, 500))},
    }
)


@dataclass(frozen=True, slots=True)
class Stretches:
    """Decoded pictures, 640 x 360, blue, green, red; read-only, since everybody shares them."""

    pictures: Mapping[str, tuple[Picture, ...]]
    """By name of the stretch."""

    def picture(self, stretch: str, step: int) -> Picture:
        """Return a picture of a stretch; it plays forth and back, so that no face jumps.

        Parameters
        ----------
        stretch : str
            `EMPTY`, or what `playing` returns.
        step : int
            Which picture, from 0, as far as wanted.
        """
        pictures = self.pictures[stretch]
        place = step % (2 * len(pictures) - 2)
        return pictures[min(place, 2 * len(pictures) - 2 - place)]

    @property
    def byte_count(self) -> int:
        """Memory they take, bytes."""
        return sum(picture.nbytes for stretch in self.pictures.values() for picture in stretch)


def playing(person: str, mood: Mood) -> str:
    """Return the name of the stretch that shows a person in a mood."""
    return f"{person}/{mood}"


@cache
def load_stretches(assets: Path | None) -> Stretches:
    """Decode the stretches, once for the process: 37 pictures, 25 MB.

    Parameters
    ----------
    assets : Path or None
        Folder of the fetched recordings; None: the user's own.

    Raises
    ------
    ModelError
        When a recording is missing, altered, or does not decode; says how to fetch it.
    """
    found: dict[str, tuple[Picture, ...]] = {}
    for recording, stretches in _WANTED_MS.items():
        moments = sorted({moment for wanted in stretches.values() for moment in wanted})
        capture = open_video(asset_path(recording, assets))
        try:
            taken = _take(capture, moments)
        finally:
            capture.close()
        for name, wanted in stretches.items():
            found[name] = tuple(taken[moment] for moment in wanted)
    return Stretches(MappingProxyType(found))


def _take(capture: Capture, moments: list[int]) -> dict[int, Picture]:
    """Return the first picture at or after each moment (ms from the start), decoded in one pass.

    Seeking would be quicker, but lands on other pictures with other builds of FFmpeg.
    """
    taken: dict[int, Picture] = {}
    waiting = list(moments)
    while waiting and capture.grab():
        if capture.position_ms + 0.5 < waiting[0]:
            continue
        picture = capture.retrieve()
        if picture is None:
            break
        size = (WIDTH_PX, HEIGHT_PX)
        scaled = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        scaled.setflags(write=False)
        taken[waiting.pop(0)] = scaled
    if waiting:
        problem = f"recording {capture.name!r} ends before {waiting[0]} ms"
        raise ModelError(problem, "Run `pho doctor --fetch`")
    return taken
