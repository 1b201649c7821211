"""Look at a picture on this machine: faces, seven emotions, and how well each can be read.

No pixel leaves the process and none is written anywhere.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from connectors.assets import ASSETS
from connectors.face_models import EmotionReader, FaceFinder, Picture, face_crop
from connectors.picture_format import CURE, PictureFormat, read_format
from pipelines.analyze import Seen
from schemas.errors import PictureUnreadable
from schemas.frames import Box, Face

LONGEST_SIDE_PIXELS = 960
"""Faces are looked for and cut from a picture of at most this size: more only costs time."""

SHARPNESS_HALF = 100.0
"""Variance of the Laplacian of the 64 x 64 crop that makes half the quality of a sharp face."""

_METHOD_VERSION = 1  # raise it when decoding, crops, thresholds or quality change the answers


class LocalAnalyser:
    """The analyser that needs no cloud: MediaPipe's full-range detector and fer's classifier.

    Parameters
    ----------
    cache : Path, optional
        Folder of the fetched models; None: the user's own.

    Raises
    ------
    ModelError
        When a model is missing or altered.
    """

    name = "local"

    def __init__(self, cache: Path | None = None) -> None:
        # OpenCV's own threads would fight the engine's, one of which calls us for each picture.
        cv2.setNumThreads(1)
        self._finder = FaceFinder("full_range", cache)
        self._reader = EmotionReader(cache)
        models = (ASSETS["face_full_range"], ASSETS["emotions"])
        hashes = "-".join(asset.file_sha256[:8] for asset in models)
        self.version = f"{_METHOD_VERSION}-{hashes}"

    def analyse(self, picture: bytes) -> Seen:
        """Find every face in an encoded picture and read its expression.

        Parameters
        ----------
        picture : bytes
            JPEG, PNG or WebP, at most 20 MB and 40 megapixels.

        Returns
        -------
        Seen
            Faces, surest first; width and height are those of the picture sent, turned as its
            EXIF says.

        Raises
        ------
        PictureUnreadable
            Empty, torn, too large or no picture: asking again does not help.
        """
        pixels, width, height = decode_picture(picture)
        faces = tuple(
            self._face(pixels, box, confidence) for box, confidence in self._finder.find(pixels)
        )
        return Seen(faces, self.name, self.version, width=width, height=height)

    def _face(self, pixels: Picture, box: Box, confidence: float) -> Face:
        crop = face_crop(pixels, box)
        face = Face(box, confidence, emotions=self._reader.read_crop(crop))
        return Face(
            box, confidence, face.emotions, smile=face.happiness, quality=crop_quality(crop)
        )


def decode_picture(picture: bytes) -> tuple[Picture, int, int]:
    """Decode in memory, to at most 960 pixels on the longest side.

    Parameters
    ----------
    picture : bytes
        JPEG, PNG or WebP.

    Returns
    -------
    pixels : ndarray of uint8, shape (height, width, 3)
        Blue, green, red; turned as its EXIF says.
    width, height : int
        Size of the picture sent, pixels, turned as well.

    Raises
    ------
    PictureUnreadable
        Empty, torn, too large or no picture.
    """
    told = read_format(picture)
    try:
        pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), _decoding(told))
    except cv2.error as error:
        problem = f"the {told.kind} picture does not decode"
        raise PictureUnreadable(problem, CURE) from error
    if pixels is None:
        problem = f"the {told.kind} picture does not decode"
        raise PictureUnreadable(problem, CURE)
    height, width = pixels.shape[:2]
    turned = (width > height) != (told.width > told.height) and width != height
    size = (told.height, told.width) if turned else (told.width, told.height)
    longest = max(height, width)
    if longest > LONGEST_SIDE_PIXELS:
        scale = LONGEST_SIDE_PIXELS / longest
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return np.asarray(pixels, np.uint8), *size


def _decoding(told: PictureFormat) -> int:
    """Let a large JPEG be decoded at a half, a quarter or an eighth: 40 megapixels in 0.1 s."""
    longest = max(told.width, told.height)
    if told.kind == "jpeg":
        for part, flag in (
            (8, cv2.IMREAD_REDUCED_COLOR_8),
            (4, cv2.IMREAD_REDUCED_COLOR_4),
            (2, cv2.IMREAD_REDUCED_COLOR_2),
        ):
            if longest >= part * LONGEST_SIDE_PIXELS:
                return flag
    return cv2.IMREAD_COLOR


def crop_quality(crop: Picture) -> float:
    """Return how well a face can be read, 0..1: sharp, and neither dark nor burnt out.

    Parameters
    ----------
    crop : ndarray of uint8, shape (64, 64)
        The gray crop from `connectors.face_models.face_crop`.
    """
    sharpness = float(cv2.Laplacian(crop, cv2.CV_32F).var())
    brightness = float(crop.mean()) / 255.0
    # 0.25 to 0.75 is well lit; from there it falls to nothing at black and at white.
    light = min(1.0, 4.0 * brightness, 4.0 * (1.0 - brightness))
    return light * sharpness / (sharpness + SHARPNESS_HALF)
