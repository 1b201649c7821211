"""OpenCV's video captures, made quiet, and with errors that say what to do."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.errors import CameraError

OPEN_TIMEOUT_MS = 5_000
"""How long an address may take to answer, ms."""

READ_TIMEOUT_MS = 5_000
"""How long a network stream may stay silent before a read fails, ms."""

_SOURCES = "a video file, a folder of pictures, an rtsp:// or http:// address, or 'recorded'"
_PASSWORD = re.compile(r"//[^/@]*@")

# FFmpeg inside OpenCV takes its log level from here, once; unset, it writes straight to standard
# error for every torn file. What is wrong is told by the error we raise.
os.putenv("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


class Capture:
    """One opened source that has proven to give a picture.

    Parameters
    ----------
    name : str
        What to call it in an error, without passwords.
    capture : cv2.VideoCapture
        An opened capture, whose first picture was grabbed and is still to be retrieved.
    """

    def __init__(self, name: str, capture: cv2.VideoCapture) -> None:
        self.name = name
        self.closed = False
        self._capture = capture
        # Releasing a capture while another thread reads from it crashes the process.
        self._lock = threading.Lock()
        self._first_is_grabbed = True
        self._position_ms = 0.0

    @property
    def is_finite(self) -> bool:
        """True for a recording, whose number of pictures is known."""
        return self._capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0

    @property
    def position_ms(self) -> float:
        """Place of the picture grabbed last, ms from the start; it never goes back."""
        # FFmpeg reports 0 at the end of a file and for a picture without a time stamp.
        self._position_ms = max(self._position_ms, self._capture.get(cv2.CAP_PROP_POS_MSEC))
        return self._position_ms

    def grab(self) -> bool:
        """Go to the next picture; False when there is none (now, or ever again)."""
        with self._lock:
            if self.closed:
                return False
            if self._first_is_grabbed:
                self._first_is_grabbed = False
                return True
            return self._capture.grab()

    def retrieve(self) -> NDArray[np.uint8] | None:
        """Decode the picture grabbed last; None when it is torn."""
        with self._lock:
            if self.closed:
                return None
            decoded, picture = self._capture.retrieve()
        return np.asarray(picture, np.uint8) if decoded else None

    def close(self) -> None:
        """Release the source; `grab` answers False from now on."""
        with self._lock:
            self.closed = True
            self._capture.release()


def devices() -> list[str]:
    """Return the numbers of the camera devices there are, on Linux."""
    names = (path.name.removeprefix("video") for path in Path("/dev").glob("video*"))
    return sorted((name for name in names if name.isdecimal()), key=int)


def open_device(number: int) -> Capture:
    """Open a camera device.

    Raises
    ------
    CameraError
        Missing, busy or not permitted; names the devices there are.
    """
    capture = cv2.VideoCapture(number)
    if capture.isOpened():
        # One picture waits at most: with the driver's usual four, a shot is a second old.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if capture.grab():
            return Capture(str(number), capture)
    capture.release()
    there = devices()
    if str(number) in there:
        problem = f"camera {number} gives no picture"
        cure = "Close the program that uses it, and check that you may read /dev/video" + str(
            number
        )
        raise CameraError(problem, cure)
    found = f"cameras here: {', '.join(there)}" if there else "no camera is plugged in"
    problem = f"there is no camera {number} ({found})"
    raise CameraError(problem, f"Plug one in, or give {_SOURCES}")


def open_address(address: str) -> Capture:
    """Open a network stream.

    Raises
    ------
    CameraError
        When nobody answers there, or no video comes.
    """
    timeouts = [
        *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS),
        *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS),
    ]
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, timeouts)
    name = _PASSWORD.sub("//***@", address)
    if capture.isOpened() and capture.grab():
        return Capture(name, capture)
    capture.release()
    problem = f"no video comes from {name}"
    raise CameraError(problem, "Check the address, user and password, and that the camera is on")


def open_video(path: Path) -> Capture:
    """Open a video file.

    Raises
    ------
    CameraError
        When there is no such file, or it is no video.
    """
    if not path.is_file():
        there = devices()
        found = f" (cameras here: {', '.join(there)})" if there else ""
        problem = f"there is no camera source {str(path)!r}{found}"
        raise CameraError(problem, f"Give a device number, {_SOURCES}")
    # Only FFmpeg: OpenCV's other readers take a file name for a pattern of pictures.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if capture.isOpened() and capture.grab():
        return Capture(str(path), capture)
    capture.release()
    problem = f"{str(path)!r} is no video, or torn"
    raise CameraError(problem, f"Give {_SOURCES}")
