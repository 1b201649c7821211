"""Hostile and torn pictures are refused from their format alone, never decoded."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest

from connectors.picture_format import ENCODED_BYTES_MAX, PIXELS_MAX, read_format
from schemas.errors import PictureUnreadable

WIDTH, HEIGHT = 48, 32
EXIF_THUMBNAIL = b"\xff\xe1\x00\x10Exif\x00\x00\xff\xd8\xff\xd9\xff\xd9\x00\x00"


def encode(extension: str, *options: int) -> bytes:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.uint8)
    picture = np.dstack((rows * 7, columns * 5, rows ^ columns))
    whole, encoded = cv2.imencode(extension, picture, options)
    assert whole
    return encoded.tobytes()


PICTURES = {
    "jpeg": encode(".jpg"),
    "progressive": encode(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": encode(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    "thumbnail": encode(".jpg")[:2] + EXIF_THUMBNAIL + encode(".jpg")[2:],
    "png": encode(".png"),
    "webp": encode(".webp", cv2.IMWRITE_WEBP_QUALITY, 80),
    "webp_lossless": encode(".webp", cv2.IMWRITE_WEBP_QUALITY, 101),
}


def png(width: int, height: int, content: bytes = b"") -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(content))
        + chunk(b"IEND", b"")
    )


def jpeg_of(width: int, height: int) -> bytes:
    small = PICTURES["jpeg"]
    place = small.index(b"\xff\xc0")
    return small[: place + 5] + struct.pack(">HH", height, width) + small[place + 9 :]


@pytest.mark.parametrize("name", PICTURES)
def test_kind_and_size_are_read(name: str) -> None:
    told = read_format(PICTURES[name])
    assert told.kind == {"png": "png"}.get(name, "webp" if "webp" in name else "jpeg")
    assert (told.width, told.height) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("name", PICTURES)
def test_every_torn_end_is_refused(name: str) -> None:
    whole = PICTURES[name]
    for length in range(len(whole)):
        with pytest.raises(PictureUnreadable, match="Send one whole JPEG, PNG or WebP"):
            read_format(whole[:length])


@pytest.mark.parametrize("name", ["jpeg", "webp", "png"])
def test_bytes_after_the_end_are_no_fault(name: str) -> None:
    assert read_format(PICTURES[name] + bytes(16)).width == WIDTH


def test_an_altered_png_is_refused() -> None:
    altered = bytearray(PICTURES["png"])
    altered[60] ^= 1
    with pytest.raises(PictureUnreadable, match="sum of its PNG chunk"):
        read_format(bytes(altered))


@pytest.mark.parametrize(
    "bomb",
    [
        png(50_000, 50_000),
        jpeg_of(50_000, 50_000),
        b"RIFF\x16\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00"
        + (49_999).to_bytes(3, "little") * 2,
    ],
    ids=["png", "jpeg", "webp"],
)
def test_a_bomb_is_refused_by_its_header_without_memory(bomb: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PictureUnreadable, match=r"50000 x 50000.*at most 40000000 pixels"):
            read_format(bomb)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_the_limit_of_pixels_is_inclusive() -> None:
    assert PIXELS_MAX == 8_000 * 5_000
    assert read_format(png(8_000, 5_000)).width == 8_000
    with pytest.raises(PictureUnreadable, match="8000 x 5001"):
        read_format(png(8_000, 5_001))


@pytest.mark.parametrize("sides", [(0, 5), (5, 0)])
def test_a_picture_without_pixels_is_refused(sides: tuple[int, int]) -> None:
    with pytest.raises(PictureUnreadable, match=f"{sides[0]} x {sides[1]}"):
        read_format(png(*sides))
    with pytest.raises(PictureUnreadable, match=f"{sides[0]} x {sides[1]}"):
        read_format(jpeg_of(*sides))


def test_the_limit_of_bytes_is_inclusive() -> None:
    padded = PICTURES["jpeg"].ljust(ENCODED_BYTES_MAX, b"\x00")
    assert read_format(padded).width == WIDTH
    with pytest.raises(PictureUnreadable, match=r"20000001 bytes.*at most 20000000 bytes"):
        read_format(padded + b"\x00")


def test_a_second_frame_header_cannot_hide_a_larger_picture() -> None:
    whole = PICTURES["jpeg"]
    place = whole.index(b"\xff\xc0")
    (length,) = struct.unpack_from(">H", whole, place + 2)
    segment = whole[place : place + 2 + length]
    with pytest.raises(PictureUnreadable, match="two JPEG frame headers"):
        read_format(whole[:place] + segment + whole[place:])


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    whole = PICTURES["progressive"]
    place = whole.rindex(b"\xff\xda")
    scan = whole[place:-2]
    assert read_format(whole[:-2] + scan * 20 + whole[-2:]).width == WIDTH
    with pytest.raises(PictureUnreadable, match="more than 100 JPEG scans"):
        read_format(whole[:-2] + scan * 100 + whole[-2:])


@pytest.mark.parametrize(
    "other",
    [
        b"just some text\n",
        b"GIF89a" + bytes(40),
        b"%PDF-1.7",
        bytes(60),
        b"RIFF\x00\x00\x00\x00WAVE",
    ],
    ids=["text", "gif", "pdf", "zeros", "wav"],
)
def test_another_format_is_refused_with_its_first_bytes(other: bytes) -> None:
    with pytest.raises(PictureUnreadable, match=r"no picture PHO can read.*Send one whole JPEG"):
        read_format(other)


def test_nothing_is_refused_as_empty() -> None:
    with pytest.raises(PictureUnreadable, match="empty"):
        read_format(b"")
