"""Cameras: a device, a network stream, a video file or a folder of pictures, as a stream of shots.

Time comes from one of two places. Live: a shot carries the wall clock, which the caller gives.
Recorded: with `start_ms`, a file or folder plays as fast as it is read, and a shot carries
`start_ms` plus its place in the recording, so that the same file gives the same shots again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.local_analyser import LONGEST_SIDE_PIXELS, decode_picture
from connectors.picture_format import ENCODED_BYTES_MAX
from producers.captures import Capture, open_address, open_device, open_video
from schemas.checks import check_range
from schemas.errors import CameraError, PictureUnreadable

Picture = NDArray[np.uint8]

PICTURE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp"))
"""A single file of these is shown like a folder of one picture."""

_ADDRESS = re.compile(r"(rtsp|rtsps|http|https)://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture as the camera saw it, in memory only."""

    at_ms: int
    """Event time, ms since 1970 UTC."""
    picture: Picture
    """Blue, green, red, shape (height, width, 3), at most 960 pixels on the longest side."""


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """How a source is sampled."""

    frames_per_second: float = 4.0
    """Shots a second; a source with fewer pictures gives what it has."""
    folder_hold_ms: int = 2_000
    """How long each picture of a folder is shown, ms."""
    start_ms: int | None = None
    """Recorded time: when a file or folder starts, ms since 1970 UTC; None: live."""
    failed_reads_max: int = 20
    """So many reads in a row that fail mean that the camera is gone (0.1 s between two)."""

    def __post_init__(self) -> None:
        check_range("frames_per_second", self.frames_per_second, 0.1, 120.0)
        check_range("folder_hold_ms", self.folder_hold_ms, 1, 3_600_000)
        check_range("failed_reads_max", self.failed_reads_max, 1, 10_000)

    @property
    def interval_ms(self) -> float:
        """Time between two shots, ms."""
        return 1_000.0 / self.frames_per_second


class Camera(Protocol):
    """A stream of shots; read by one thread, closed by any."""

    skipped: int
    """Pictures that could not be read and were left out."""

    def shots(self) -> Iterator[Shot]:
        """Yield the shots in the order of their times; blocks until the next is due.

        Raises
        ------
        CameraError
            When a live camera went away, or a folder holds no picture.
        """
        ...

    def close(self) -> None:
        """Release the source; `shots` ends at its next shot."""
        ...


@dataclass(frozen=True, slots=True)
class Time:
    """The caller's clock, and how to wait."""

    clock_ms: Callable[[], int]
    """Now, ms since 1970 UTC; should never jump back, since a visit's times are compared."""
    sleep: Callable[[float], None]
    """Waits for so many seconds."""


def open_camera(source: str, time: Time, settings: CameraSettings | None = None) -> Camera:
    """Open whatever `source` names.

    Parameters
    ----------
    source : str
        A device number, an ``rtsp://`` or ``http://`` address, a video file, a picture, or a
        folder of pictures (shown in the order of their names).
    time : Time
        The clock, and how to wait.
    settings : CameraSettings, optional
        How it is sampled.

    Raises
    ------
    CameraError
        Missing, busy, no video, an empty folder; says what there is instead.
    """
    settings = settings if settings is not None else CameraSettings()
    if source.isdecimal():
        return LiveCamera(open_device(int(source)), time, settings)
    if _ADDRESS.match(source):
        capture = open_address(source)
        # A whole film behind an address would otherwise be read as fast as the network gives it.
        kind = RecordingCamera if capture.is_finite else LiveCamera
        return kind(capture, time, settings)
    path = Path(source)
    if path.is_dir() or path.suffix.lower() in PICTURE_SUFFIXES:
        return FolderCamera(path, time, settings)
    return RecordingCamera(open_video(path), time, settings)


class LiveCamera:
    """A device or a network stream, by the wall clock."""

    def __init__(self, capture: Capture, time: Time, settings: CameraSettings) -> None:
        self.skipped = 0
        self._capture = capture
        self._time = time
        self._settings = settings

    def shots(self) -> Iterator[Shot]:
        """Yield the newest picture every `interval_ms`, until closed.

        Raises
        ------
        CameraError
            After `failed_reads_max` failed reads in a row.
        """
        failures, last_ms = 0, None
        while not self._capture.closed:
            # Every picture is taken off the driver's queue, also those not wanted: else a shot
            # would show what stood in the queue, seconds ago.
            if not self._capture.grab():
                failures += 1
                if failures >= self._settings.failed_reads_max and not self._capture.closed:
                    problem = f"camera {self._capture.name} gives no more pictures"
                    raise CameraError(problem, "Plug it in or start it again, then start PHO")
                self._time.sleep(0.1)
                continue
            failures = 0
            now_ms = self._time.clock_ms()
            if last_ms is not None and 0 <= now_ms - last_ms < self._settings.interval_ms:
                continue
            picture = self._capture.retrieve()
            if picture is None:
                self.skipped += 1
                continue
            last_ms = now_ms
            yield Shot(now_ms, shrink(picture))

    def close(self) -> None:
        """Release the device."""
        self._capture.close()


class RecordingCamera:
    """A video file, by its own time stamps."""

    def __init__(self, capture: Capture, time: Time, settings: CameraSettings) -> None:
        self.skipped = 0
        self._capture = capture
        self._pace = _Pace(time, settings.start_ms)
        self._interval_ms = settings.interval_ms

    def shots(self) -> Iterator[Shot]:
        """Yield the first picture at or after each `interval_ms` of the recording, to its end."""
        due_ms = 0.0
        while self._capture.grab():
            position_ms = self._capture.position_ms
            # Time stamps are rounded to the container's ticks; half a millisecond early is due.
            if position_ms + 0.5 < due_ms:
                continue
            while due_ms <= position_ms + 0.5:
                due_ms += self._interval_ms
            picture = self._capture.retrieve()
            if picture is None:
                self.skipped += 1
                continue
            yield Shot(self._pace.wait(round(position_ms)), shrink(picture))

    def close(self) -> None:
        """Release the file."""
        self._capture.close()


class FolderCamera:
    """Pictures of a folder in the order of their names, each held for a while.

    Raises
    ------
    CameraError
        When there is no such folder or file, or nothing is in it.
    """

    def __init__(self, path: Path, time: Time, settings: CameraSettings) -> None:
        self.skipped = 0
        self._closed = False
        self._path = path
        self._pace = _Pace(time, settings.start_ms)
        self._settings = settings
        try:
            found = [path] if path.is_file() else sorted(path.iterdir())
        except OSError as error:
            problem = f"camera source {str(path)!r} cannot be read: {error.strerror}"
            raise CameraError(problem, "Name a picture or a folder of pictures") from error
        self._files = [file for file in found if file.is_file() and not file.name.startswith(".")]
        if not self._files:
            self._refuse_empty()

    def shots(self) -> Iterator[Shot]:
        """Yield each picture again and again while it is held.

        Raises
        ------
        CameraError
            At the end, when not one file was a picture.
        """
        shown = 0
        repeats = max(1, round(self._settings.folder_hold_ms / self._settings.interval_ms))
        for file in self._files:
            picture = read_picture(file)
            if picture is None:
                self.skipped += 1
                continue
            for repeat in range(repeats):
                if self._closed:
                    return
                position_ms = shown * self._settings.folder_hold_ms
                position_ms += round(repeat * self._settings.interval_ms)
                yield Shot(self._pace.wait(position_ms), picture)
            shown += 1
        if not shown:
            self._refuse_empty()

    def close(self) -> None:
        """End at the next shot."""
        self._closed = True

    def _refuse_empty(self) -> None:
        problem = f"{str(self._path)!r} holds no picture"
        raise CameraError(problem, "Put JPEG, PNG or WebP pictures of at most 20 MB into it")


class _Pace:
    """When a place in a recording is due: at once in recorded time, or by the wall clock."""

    def __init__(self, time: Time, start_ms: int | None) -> None:
        self._time = time
        self._start_ms = start_ms
        self._began_ms: int | None = None

    def wait(self, position_ms: int) -> int:
        """Wait until the place is due; return the event time of its shot, ms since 1970 UTC."""
        if self._start_ms is not None:
            return self._start_ms + position_ms
        now_ms = self._time.clock_ms()
        if self._began_ms is None:
            self._began_ms = now_ms - position_ms
        early_ms = self._began_ms + position_ms - now_ms
        if early_ms > 0:
            self._time.sleep(early_ms / 1_000)
            now_ms = self._time.clock_ms()
        return now_ms


def read_picture(file: Path) -> Picture | None:
    """Return a picture file's pixels, shrunk; None when it is no picture PHO would analyse.

    What the analyser would refuse (torn, a decompression bomb, over 20 MB) is refused here, before
    anything decodes it; a larger file is not even read.
    """
    try:
        if file.stat().st_size > ENCODED_BYTES_MAX:
            return None
        pixels, _, _ = decode_picture(file.read_bytes())
    except (OSError, PictureUnreadable):
        return None
    return pixels


def shrink(picture: Picture) -> Picture:
    """Return the picture with at most 960 pixels on its longest side: what is analysed anyway."""
    height, width = picture.shape[:2]
    longest = max(height, width)
    if longest <= LONGEST_SIDE_PIXELS:
        return picture
    scale = LONGEST_SIDE_PIXELS / longest
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
