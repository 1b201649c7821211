"""What an encoded picture says of itself, read before anything decodes it.

A few bytes of header can promise gigabytes of pixels, and OpenCV fills the rest of a torn JPEG
with gray without a word: so kind, size and completeness are read here, from the format alone.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Literal, NoReturn

from schemas.errors import PictureUnreadable

ENCODED_BYTES_MAX = 20_000_000
"""Largest encoded picture: half a byte for each of the pixels allowed."""

PIXELS_MAX = 40_000_000
"""Largest picture, width x height: 120 MB decoded. A PNG of 50000 x 50000 fits into 1 kB."""

JPEG_SCANS_MAX = 100
"""Most scans of a JPEG. Encoders write about 10; each scan costs a pass over all the pixels."""

CURE = "Send one whole JPEG, PNG or WebP picture"

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Inside a scan FF 00 is a data byte and FF D0 to FF D7 are restart marks; anything else ends it.
_scan_end = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]").search


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """What the header of a whole picture says."""

    kind: Literal["jpeg", "png", "webp"]
    """How it is encoded."""
    width: int
    """Width before any turning by EXIF, pixels."""
    height: int
    """Height before any turning by EXIF, pixels."""


def read_format(picture: bytes) -> PictureFormat:
    """Return kind and size of an encoded picture that is whole and not too large.

    Parameters
    ----------
    picture : bytes
        The encoded picture. Nothing of it is decoded.

    Raises
    ------
    PictureUnreadable
        Empty, too large, of another format, torn, or promising too many pixels.
    """
    if not picture:
        problem = "the picture is empty: 0 bytes"
        raise PictureUnreadable(problem, CURE)
    if len(picture) > ENCODED_BYTES_MAX:
        problem = f"the picture has {len(picture)} bytes"
        raise PictureUnreadable(problem, f"Send at most {ENCODED_BYTES_MAX} bytes")
    try:
        found = _dispatch(picture)
    except (struct.error, IndexError) as error:
        problem = f"the picture is torn: it ends after {len(picture)} bytes"
        raise PictureUnreadable(problem, CURE) from error
    if found.width < 1 or found.height < 1:
        problem = f"the picture says it is {found.width} x {found.height} pixels"
        raise PictureUnreadable(problem, CURE)
    if found.width * found.height > PIXELS_MAX:
        problem = f"the picture says it is {found.width} x {found.height} pixels"
        raise PictureUnreadable(problem, f"Send at most {PIXELS_MAX} pixels (width x height)")
    return found


def _dispatch(picture: bytes) -> PictureFormat:
    if picture.startswith(b"\xff\xd8\xff"):
        return _read_jpeg(picture)
    if picture.startswith(_PNG_SIGNATURE):
        return _read_png(picture)
    if picture.startswith(b"RIFF") and picture[8:12] == b"WEBP":
        return _read_webp(picture)
    problem = f"this is no picture PHO can read: it starts with {picture[:8]!r}"
    raise PictureUnreadable(problem, CURE)


def _refuse_torn(how: str) -> NoReturn:
    problem = f"the picture is torn: {how}"
    raise PictureUnreadable(problem, CURE)


def _read_jpeg(picture: bytes) -> PictureFormat:
    """Walk the segments to the end mark; a thumbnail's own end mark lies inside a segment."""
    size: tuple[int, int] | None = None
    place, scans = 2, 0
    while True:
        while picture[place : place + 2] == b"\xff\xff":  # fill bytes
            place += 1
        mark, code = picture[place : place + 2] if place + 2 <= len(picture) else (0, 0)
        if mark != 0xFF:
            _refuse_torn("its JPEG end mark is missing")
        if code == 0xD9:
            break
        (length,) = struct.unpack_from(">H", picture, place + 2)
        if 0xC0 <= code <= 0xCF and code not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack_from(">HH", picture, place + 5)
            if size is not None:
                _refuse_torn("it has two JPEG frame headers")
            size = (width, height)
        place += 2 + length
        if code == 0xDA:
            scans += 1
            end = _scan_end(picture, place)
            if end is None:
                _refuse_torn("its JPEG end mark is missing")
            place = end.end() - 2
        if scans > JPEG_SCANS_MAX:
            problem = f"the picture has more than {JPEG_SCANS_MAX} JPEG scans"
            raise PictureUnreadable(problem, CURE)
    if size is None or scans == 0:
        _refuse_torn("it has no JPEG frame")
    return PictureFormat("jpeg", *size)


def _read_png(picture: bytes) -> PictureFormat:
    """Check every chunk's sum up to IEND: libpng tells of a wrong one on standard error."""
    if picture[12:16] != b"IHDR":
        _refuse_torn("its PNG header is missing")
    width, height = struct.unpack_from(">II", picture, 16)
    view, place, name = memoryview(picture), len(_PNG_SIGNATURE), b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", picture, place)
        (wanted,) = struct.unpack_from(">I", picture, place + 8 + length)
        if zlib.crc32(view[place + 4 : place + 8 + length]) != wanted:
            _refuse_torn(f"the sum of its PNG chunk {name!r} is wrong")
        place += 12 + length
    return PictureFormat("png", width, height)


def _read_webp(picture: bytes) -> PictureFormat:
    """Read the first chunk; libwebp refuses a frame that is not of the size given there."""
    (length,) = struct.unpack_from("<I", picture, 4)
    if length + 8 > len(picture):
        _refuse_torn(f"{len(picture)} bytes of {length + 8}")
    chunk = picture[12:16]
    if chunk == b"VP8X":
        width = int.from_bytes(picture[24:27], "little") + 1
        height = int.from_bytes(picture[27:30], "little") + 1
    elif chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", picture, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", picture, 26))
    else:
        _refuse_torn(f"its first WebP chunk is {chunk!r}")
    return PictureFormat("webp", width, height)
