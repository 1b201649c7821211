"""Find faces and read their expressions, with the pinned models, on one thread each.

An interpreter is not safe to share between threads, so every thread makes its own the first time
it asks (some 12 ms and 10 MB). With one thread inside each, the same picture gives the same bits.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]
from numpy.typing import NDArray

from connectors.assets import asset_path
from connectors.ssd import FULL_RANGE, SHORT_RANGE, Floats, anchor_centres, decode, merge
from schemas.errors import UsageError
from schemas.frames import Box, Score

Picture = NDArray[np.uint8]

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The classifier's outputs, in its order."""

EMOTION_SIDE_PIXELS = 64
"""Width and height of the classifier's gray input."""

CROP_SCALE = 0.9
"""The classifier's square beside the detector's box. Of 494 frames of two recorded faces, each read
as it is and mirrored, the most `happy` at rest was 0.04 and the least of a smile 0.74; read once,
0.07 and 0.58; with a square of 1.0, read once, 0.11 and 0.54."""

_LAYOUTS = {"full_range": FULL_RANGE, "short_range": SHORT_RANGE}


_making_an_interpreter = threading.Lock()


@contextmanager
def _without_greeting() -> Iterator[None]:
    """Keep the line that LiteRT's first interpreter greets with off standard error.

    It is written by C++, and no setting of LiteRT 2.3 stops it. Whatever else any thread writes
    meanwhile (some 12 ms) is written afterwards, so nothing is lost.
    """
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # a service without standard error has nobody to greet
        yield
        return
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            kept.seek(0)
            for line in kept:
                if b"XNNPACK delegate" not in line:
                    os.write(2, line)


class Model:
    """A model file and one interpreter of it for each thread that asks.

    Parameters
    ----------
    name : str
        A name in `connectors.assets.ASSETS`.
    cache : Path, optional
        Folder of the fetched assets; None: the user's own.

    Raises
    ------
    ModelError
        When the file is missing or altered.
    """

    def __init__(self, name: str, cache: Path | None = None) -> None:
        self._content = asset_path(name, cache).read_bytes()
        self._own = threading.local()

    def __call__(self, tensor: Floats) -> tuple[Floats, ...]:
        """Return the model's outputs, largest last dimension first, for one input tensor."""
        interpreter = self._interpreter()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], tensor)
        interpreter.invoke()
        outputs = sorted(interpreter.get_output_details(), key=lambda out: -int(out["shape"][-1]))
        return tuple(interpreter.get_tensor(out["index"]) for out in outputs)

    def _interpreter(self) -> Any:
        interpreter = getattr(self._own, "interpreter", None)
        if interpreter is None:
            with _making_an_interpreter, _without_greeting():
                interpreter = Interpreter(model_content=self._content, num_threads=1)
                interpreter.allocate_tensors()
            self._own.interpreter = interpreter
        return interpreter


class FaceFinder:
    """Where the faces are in a picture.

    Parameters
    ----------
    model : {'full_range', 'short_range'}
        Up to 5 m (some 9 ms a picture), or up to 2 m (some 3 ms): somebody is at the kiosk.
    cache : Path, optional
        Folder of the fetched assets; None: the user's own.

    Raises
    ------
    ModelError
        When the model is missing or altered.
    UsageError
        When there is no such model.
    """

    def __init__(
        self, model: Literal["full_range", "short_range"], cache: Path | None = None
    ) -> None:
        if model not in _LAYOUTS:
            problem = f"there is no face model {model!r}"
            raise UsageError(problem, f"Use one of {', '.join(_LAYOUTS)}")
        self._layout = _LAYOUTS[model]
        self._anchors = anchor_centres(self._layout)
        self._model = Model(f"face_{model}", cache)

    def find(self, picture: Picture) -> tuple[tuple[Box, float], ...]:
        """Return each face's box and confidence (0..1), surest first.

        Parameters
        ----------
        picture : ndarray of uint8, shape (height, width, 3)
            Blue, green, red, as OpenCV decodes.

        Returns
        -------
        tuple of (Box, float)
            Boxes in fractions of the picture; a face cut off by the edge reaches outside 0..1.
        """
        square, offset, scale = letterbox(picture, self._layout.side_pixels)
        rows, raw_scores = self._model(detector_input(square))
        boxes, scores = decode(self._layout, self._anchors, rows[0], raw_scores[0, :, 0])
        corners = ((boxes.reshape(-1, 2, 2) - offset) / scale).reshape(-1, 4)
        faces = merge(corners, scores, self._layout.overlap_max)
        return tuple((_box(mean), confidence) for mean, confidence in faces)


def letterbox(picture: Picture, side_pixels: int) -> tuple[Picture, Floats, Floats]:
    """Fit a picture into a square without changing its shape; the rest is black.

    A face squeezed from 16:9 into a square is narrower than any the detectors learned.

    Returns
    -------
    square : ndarray of uint8, shape (side_pixels, side_pixels, 3)
        The picture in the middle.
    offset, scale : ndarray of float32, shape (2,)
        Where the picture starts and how much of the square it takes, x and y, as fractions of
        the square.
    """
    height, width = picture.shape[:2]
    longest = max(height, width)
    inner = (
        max(1, round(width * side_pixels / longest)),
        max(1, round(height * side_pixels / longest)),
    )
    left, top = (side_pixels - inner[0]) // 2, (side_pixels - inner[1]) // 2
    square: Picture = np.zeros((side_pixels, side_pixels, 3), np.uint8)
    square[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        picture, inner, interpolation=cv2.INTER_AREA
    )
    side = np.float32(side_pixels)
    return square, np.array((left, top), np.float32) / side, np.array(inner, np.float32) / side


def detector_input(square: Picture) -> Floats:
    """Turn blue-green-red bytes into what the detectors learned from.

    Returns
    -------
    ndarray of float32, shape (1, height, width, 3)
        Red, green, blue, each -1..1.
    """
    tensor: Floats = square[np.newaxis, :, :, ::-1].astype(np.float32, order="C")
    return tensor / np.float32(127.5) - np.float32(1.0)


class EmotionReader:
    """What a face expresses. Trust ``happy`` (AUC 0.93 for smile or not); the rest is weak.

    Parameters
    ----------
    cache : Path, optional
        Folder of the fetched assets; None: the user's own.

    Raises
    ------
    ModelError
        When the model is missing or altered.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._model = Model("emotions", cache)

    def read(self, picture: Picture, box: Box) -> tuple[Score, ...]:
        """Return seven emotions, each 0..1 and together 1, of the face in `box`.

        Parameters
        ----------
        picture : ndarray of uint8, shape (height, width, 3)
            Blue, green, red, as OpenCV decodes.
        box : Box
            The face, in fractions of the picture.
        """
        return self.read_crop(face_crop(picture, box))

    def read_crop(self, crop: Picture) -> tuple[Score, ...]:
        """Return seven emotions, as `read` does, of a crop (64, 64) that `face_crop` made."""
        # Twice 0.5 ms: a face and its mirror image express the same, and their mean is steadier.
        softmax = (self._softmax(crop) + self._softmax(crop[:, ::-1])) / 2.0
        return tuple(
            Score(name, min(1.0, max(0.0, float(share))))
            for name, share in zip(EMOTIONS, softmax, strict=True)
        )

    def _softmax(self, crop: Picture) -> Floats:
        tensor = (crop.astype(np.float32) / np.float32(255.0) - np.float32(0.5)) * np.float32(2.0)
        (shares,) = self._model(np.ascontiguousarray(tensor)[np.newaxis, :, :, np.newaxis])
        one: Floats = shares[0]
        return one


def face_crop(picture: Picture, box: Box) -> Picture:
    """Cut the square around a face, gray, as the emotion classifier wants it.

    Returns
    -------
    ndarray of uint8, shape (64, 64)
        Where the square leaves the picture, the picture's edge is repeated.
    """
    height, width = picture.shape[:2]
    side = max(1, round(CROP_SCALE * max(box.width * width, box.height * height)))
    left = round((box.left + box.width / 2) * width - side / 2)
    top = round((box.top + box.height / 2) * height - side / 2)
    if left >= 0 and top >= 0 and left + side <= width and top + side <= height:
        cut = picture[top : top + side, left : left + side]
    else:
        rows = np.clip(np.arange(top, top + side), 0, height - 1)
        columns = np.clip(np.arange(left, left + side), 0, width - 1)
        cut = picture[rows[:, np.newaxis], columns]
    gray = cv2.cvtColor(cut, cv2.COLOR_BGR2GRAY)
    size = (EMOTION_SIDE_PIXELS, EMOTION_SIDE_PIXELS)
    crop: Picture = np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)
    return crop


def _box(corners: Floats) -> Box:
    left, top, right, bottom = (float(corner) for corner in corners)
    return Box(left, top, right - left, bottom - top)
