"""The local analyser sees in real recordings what is known to be in them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from connectors.assets import asset_path, fetch_assets
from connectors.face_models import EMOTIONS, FaceFinder, detector_input, face_crop, letterbox
from connectors.local_analyser import LocalAnalyser, crop_quality, decode_picture
from connectors.ssd import FULL_RANGE, SHORT_RANGE, anchor_centres, decode, merge
from pipelines.analyze import Analyser, Seen
from schemas.errors import ModelError, PictureUnreadable, UsageError
from schemas.frames import Box

Picture = NDArray[np.uint8]


@pytest.fixture(scope="session")
def analyser() -> LocalAnalyser:
    fetch_assets()
    return LocalAnalyser()


@cache
def recording(name: str) -> tuple[tuple[float, Picture], ...]:
    """Every sixth frame of a recording with its time in seconds."""
    fetch_assets()
    reader = cv2.VideoCapture(str(asset_path(name)))
    rate = reader.get(cv2.CAP_PROP_FPS)

    def frames() -> Iterator[tuple[float, Picture]]:
        number = 0
        while reader.grab():
            if number % 6 == 0:
                yield number / rate, np.asarray(reader.retrieve()[1], np.uint8)
            number += 1

    return tuple(frames())


def frame(name: str, time_s: float) -> Picture:
    return next(picture for at_s, picture in recording(name) if at_s >= time_s)


def encode(picture: Picture, extension: str = ".jpg") -> bytes:
    return cv2.imencode(extension, picture)[1].tobytes()


def stretch(analyser: LocalAnalyser, name: str, start_s: float, end_s: float) -> list[Seen]:
    return [
        analyser.analyse(encode(picture))
        for at_s, picture in recording(name)
        if start_s <= at_s <= end_s
    ]


def contains(box: Box, x: float, y: float) -> bool:
    return box.left < x < box.left + box.width and box.top < y < box.top + box.height


@pytest.mark.parametrize(
    ("name", "start_s", "end_s", "smiles"),
    [
        ("recording_laugh", 0.0, 9.0, False),
        ("recording_laugh", 10.5, 19.5, True),
        ("recording_smile", 0.0, 0.5, False),
        ("recording_smile", 0.7, 2.2, True),
    ],
)
def test_one_face_at_rest_or_smiling_is_read_as_such(
    analyser: LocalAnalyser, name: str, start_s: float, end_s: float, smiles: bool
) -> None:
    seen = stretch(analyser, name, start_s, end_s)
    assert len(seen) >= 3
    for one in seen:
        (face,) = one.faces
        assert face.happiness >= 0.6 if smiles else face.happiness <= 0.1
        assert face.smile == face.happiness
        assert face.confidence >= 0.6


def test_the_box_sits_on_the_face(analyser: LocalAnalyser) -> None:
    # Eyes and mouth as a person marked them in the frame at 1.0 s.
    (face,) = analyser.analyse(encode(frame("recording_smile", 1.0))).faces
    assert contains(face.box, 0.39, 0.45)
    assert contains(face.box, 0.50, 0.44)
    assert contains(face.box, 0.45, 0.66)
    assert 0.2 < face.box.width < 0.4
    assert 0.4 < face.box.height < 0.65


def test_an_empty_scene_has_no_face(analyser: LocalAnalyser) -> None:
    short = FaceFinder("short_range")
    empty = [picture for at_s, picture in recording("recording_empty") if at_s <= 3.0]
    assert len(empty) >= 10
    for picture in empty:
        assert analyser.analyse(encode(picture)).faces == ()
        assert short.find(picture) == ()


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_a_covered_or_blinded_camera_sees_no_face(analyser: LocalAnalyser, shade: int) -> None:
    assert analyser.analyse(encode(np.full((360, 640, 3), shade, np.uint8))).faces == ()


def test_nine_faces_are_nine(analyser: LocalAnalyser) -> None:
    tile = frame("recording_smile", 1.0)[60:320, 150:410]
    seen = analyser.analyse(encode(np.tile(tile, (3, 3, 1))))
    assert len(seen.faces) == 9
    cells = {
        (
            int(3 * (face.box.left + face.box.width / 2)),
            int(3 * (face.box.top + face.box.height / 2)),
        )
        for face in seen.faces
    }
    assert cells == {(column, row) for column in range(3) for row in range(3)}
    assert min(face.happiness for face in seen.faces) >= 0.6


def test_seven_emotions_are_probabilities_that_add_up(analyser: LocalAnalyser) -> None:
    (face,) = analyser.analyse(encode(frame("recording_laugh", 1.0))).faces
    assert tuple(score.name for score in face.emotions) == EMOTIONS
    assert all(0.0 <= score.confidence <= 1.0 for score in face.emotions)
    assert sum(score.confidence for score in face.emotions) == pytest.approx(1.0, abs=1e-5)


def test_it_is_an_analyser_and_names_its_models(analyser: LocalAnalyser) -> None:
    contract: Analyser = analyser
    seen = contract.analyse(encode(frame("recording_smile", 0.0)))
    assert (seen.analyser, seen.analyser_version) == ("local", "1-99bf9494-65e3961b")
    assert (seen.width, seen.height) == (640, 360)


def test_it_needs_its_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="pho doctor --fetch"):
        LocalAnalyser(tmp_path)


def test_there_is_no_third_detector() -> None:
    with pytest.raises(UsageError, match="full_range, short_range"):
        FaceFinder("middle_range")  # type: ignore[arg-type]


def test_the_short_range_finds_the_same_face() -> None:
    fetch_assets()
    picture = frame("recording_smile", 1.0)
    ((near, near_confidence),) = FaceFinder("short_range").find(picture)
    ((far, _),) = FaceFinder("full_range").find(picture)
    assert near_confidence >= 0.9
    assert near.left == pytest.approx(far.left, abs=0.05)
    assert near.top == pytest.approx(far.top, abs=0.08)


@pytest.mark.parametrize("extension", [".png", ".webp"])
def test_png_and_webp_are_read_as_jpeg_is(analyser: LocalAnalyser, extension: str) -> None:
    picture = frame("recording_smile", 1.0)
    (face,) = analyser.analyse(encode(picture, extension)).faces
    (same,) = analyser.analyse(encode(picture)).faces
    assert face.box.left == pytest.approx(same.box.left, abs=0.02)
    assert face.happiness >= 0.6


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (1080, 1920), (3840, 5120)])
def test_a_face_keeps_its_place_at_every_size(
    analyser: LocalAnalyser, size: tuple[int, int]
) -> None:
    height, width = size
    inner = cv2.resize(frame("recording_smile", 1.0), (width, round(width * 360 / 640)))
    picture = np.zeros((height, width, 3), np.uint8)
    inner = inner[:height]
    picture[: len(inner)] = inner
    seen = analyser.analyse(encode(picture))
    (face,) = seen.faces
    assert (seen.width, seen.height) == (width, height)
    assert contains(face.box, 0.45, 0.55 * 360 / 640 * width / height)
    assert face.box.width * width == pytest.approx(face.box.height * height, rel=0.1)


def test_a_picture_turned_by_exif_is_turned_back(analyser: LocalAnalyser) -> None:
    lying = encode(np.ascontiguousarray(np.rot90(frame("recording_smile", 1.0))))
    orientation_6 = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(orientation_6) + 2).to_bytes(2, "big") + orientation_6
    seen = analyser.analyse(lying[:2] + segment + lying[2:])
    (face,) = seen.faces
    assert (seen.width, seen.height) == (640, 360)
    assert contains(face.box, 0.45, 0.55)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("picture", "told"),
    [
        (b"", "empty"),
        (bytes(60_000_000), "60000000 bytes"),
        (b"Dear kiosk, I am a text file.\n", "no picture PHO can read"),
    ],
    ids=["empty", "60 MB", "text"],
)
def test_what_is_no_picture_is_refused(analyser: LocalAnalyser, picture: bytes, told: str) -> None:
    with pytest.raises(PictureUnreadable, match=told) as caught:
        analyser.analyse(picture)
    assert caught.value.cure.startswith("Send ")


def test_a_torn_jpeg_is_refused_though_opencv_would_decode_it(analyser: LocalAnalyser) -> None:
    whole = encode(frame("recording_smile", 1.0))
    for share in (0.1, 0.5, 0.99):
        with pytest.raises(PictureUnreadable, match="torn"):
            analyser.analyse(whole[: int(len(whole) * share)])


def test_a_picture_with_a_good_frame_and_bad_content_is_refused_quietly(
    analyser: LocalAnalyser, capfd: pytest.CaptureFixture[str]
) -> None:
    webp = bytearray(encode(np.zeros((40, 40, 3), np.uint8), ".webp"))
    webp[30:] = b"\xff" * (len(webp) - 30)
    with pytest.raises(PictureUnreadable, match="does not decode"):
        analyser.analyse(bytes(webp))
    assert capfd.readouterr().err == ""


def test_the_first_interpreter_does_not_greet_and_loses_no_other_line(
    analyser: LocalAnalyser,
) -> None:
    script = (
        "import os, connectors.face_models as models\n"
        "with models._without_greeting():\n"
        "    os.write(2, b'kept\\nINFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n')\n"
        "from connectors.face_models import FaceFinder\n"
        "import numpy\n"
        "FaceFinder('short_range').find(numpy.zeros((90, 160, 3), numpy.uint8))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert run.stderr == "kept\n"


def test_threads_give_the_same_bits_as_one(analyser: LocalAnalyser) -> None:
    pictures = [encode(picture) for _, picture in recording("recording_smile")] * 3
    alone = [analyser.analyse(picture) for picture in pictures]
    makers = threading.Barrier(4)

    def together(share: int) -> list[Seen]:
        makers.wait(timeout=10)
        return [analyser.analyse(picture) for picture in pictures[share:]]

    with ThreadPoolExecutor(4) as pool:
        for share, seen in enumerate(pool.map(together, range(4))):
            assert seen == alone[share:]


def test_nothing_is_written(
    analyser: LocalAnalyser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    analyser.analyse(encode(frame("recording_smile", 1.0)))
    assert os.listdir(tmp_path) == []


def test_quality_falls_with_blur_and_with_darkness(analyser: LocalAnalyser) -> None:
    picture = frame("recording_smile", 1.0)
    (face,) = analyser.analyse(encode(picture)).faces
    sharp = face_crop(picture, face.box)
    quality = crop_quality(sharp)
    assert 0.5 < quality <= 1.0
    assert face.quality == pytest.approx(quality, abs=0.05)
    assert crop_quality(np.asarray(cv2.GaussianBlur(sharp, (9, 9), 3.0), np.uint8)) < quality / 2
    assert crop_quality(sharp // np.uint8(8)) < quality / 2
    assert crop_quality(np.full((64, 64), 255, np.uint8)) == 0.0
    assert crop_quality(np.zeros((64, 64), np.uint8)) == 0.0


def test_a_large_picture_is_decoded_small_and_tells_its_own_size() -> None:
    picture = np.zeros((2_000, 4_000, 3), np.uint8)
    pixels, width, height = decode_picture(encode(picture))
    assert pixels.shape == (480, 960, 3)
    assert (width, height) == (4_000, 2_000)


def test_the_letterbox_keeps_the_shape() -> None:
    square, offset, scale = letterbox(np.full((360, 640, 3), 200, np.uint8), 192)
    assert square.shape == (192, 192, 3)
    assert offset.tolist() == [0.0, 0.21875]
    assert scale.tolist() == [1.0, 0.5625]
    assert np.flatnonzero(square[:, 96, 0]).tolist() == list(range(42, 150))


def test_the_detectors_get_red_green_blue_from_minus_one_to_one() -> None:
    tensor = detector_input(np.array([[[0, 51, 255]]], np.uint8))
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor, [[[[1.0, -0.6, -1.0]]]], atol=1e-6)


@pytest.mark.parametrize(
    "box", [Box(-0.2, -0.2, 0.4, 0.4), Box(0.9, 0.9, 0.4, 0.4), Box(1.5, 0.5, 0.1, 0.1)]
)
def test_a_face_at_or_over_the_edge_is_cut_with_the_edge_repeated(box: Box) -> None:
    crop = face_crop(np.full((360, 640, 3), 90, np.uint8), box)
    assert crop.shape == (64, 64)
    assert np.all(crop == 90)


def test_anchors_cover_the_input_as_published() -> None:
    full, short = anchor_centres(FULL_RANGE), anchor_centres(SHORT_RANGE)
    assert full.shape == (2304, 2)
    assert short.shape == (896, 2)
    assert full[1].tolist() == pytest.approx([1.5 / 48, 0.5 / 48])
    assert np.all(short[:2] == 0.5 / 16)
    assert np.all(short[512:518] == 0.5 / 8)


def test_decoding_adds_the_anchor_and_drops_what_is_no_box() -> None:
    anchors = np.array([[0.25, 0.5], [0.5, 0.5], [0.5, 0.5]], np.float32)
    rows = np.zeros((3, 16), np.float32)
    rows[0, :4] = (19.2, 0.0, 38.4, 19.2)
    rows[1, :4] = (0.0, 0.0, -5.0, 5.0)
    rows[2, :4] = (0.0, 0.0, 5.0, 5.0)
    boxes, scores = decode(FULL_RANGE, anchors, rows, np.array([200.0, 3.0, 0.4], np.float32))
    np.testing.assert_allclose(boxes, [[0.25, 0.45, 0.45, 0.55]], atol=1e-6)
    assert scores.tolist() == [1.0]


def test_boxes_of_one_face_become_their_weighted_mean() -> None:
    boxes = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]], np.float32)
    faces = merge(boxes, np.array([0.9, 0.6, 0.5], np.float32), 0.3)
    assert [confidence for _, confidence in faces] == pytest.approx([0.9, 0.5])
    np.testing.assert_allclose(faces[0][0], [0.8, 0.0, 10.8, 10.0], rtol=1e-6)
    np.testing.assert_allclose(faces[1][0], [50, 50, 60, 60])
