"""`pho analyze`: what is in a picture, or why nothing can be said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest

from producers.stretches import load_stretches


def test_a_face_is_told_with_its_emotions(pho: Any, visitor: Path) -> None:
    ran = pho("analyze", visitor, "--json")
    assert (ran.status, ran.err) == (0, "")
    (told,) = ran.json
    assert (told["picture"], told["status"], told["error"]) == (str(visitor), "ok", None)
    (face,) = told["faces"]
    assert face["smile"] == face["emotions"]["happy"] > 0.9
    assert face["box"].keys() == {"left", "top", "width", "height"}
    assert sum(face["emotions"].values()) == pytest.approx(1.0, abs=1e-3)
    assert told["milliseconds"] > 0


@pytest.mark.parametrize("stretch", ["man/rest", "man/smile", "woman/rest", "woman/smile"])
def test_people_of_the_recordings_are_seen_as_they_are(
    pho: Any, tmp_path: Path, stretch: str
) -> None:
    paths = []
    for step in range(4):
        paths.append(tmp_path / f"{step}.png")
        cv2.imwrite(str(paths[-1]), load_stretches(None).picture(stretch, step))
    told = pho("analyze", *paths, "--json").json
    assert [each["picture"] for each in told] == [str(path) for path in paths]
    smiles = [face["smile"] for each in told for face in each["faces"]]
    assert len(smiles) == 4
    assert all((smile > 0.8) == stretch.endswith("smile") for smile in smiles)


def test_an_empty_room_is_no_fault(pho: Any, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "room.jpg"), load_stretches(None).picture("empty", 0))
    ran = pho("analyze", tmp_path / "room.jpg", "--json")
    assert (ran.status, ran.json[0]["status"], ran.json[0]["faces"]) == (0, "no_face", [])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.jpg", b""),
        ("text.jpg", b"no picture"),
        ("torn.jpg", None),
        ("huge.jpg", b"\xff\xd8\xff" + bytes(60_000_000)),
        (
            "bomb.png",
            b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (50_000).to_bytes(4, "big") * 2 + bytes(9),
        ),
        ("missing.jpg", ...),
    ],
)
def test_a_hostile_file_is_told_and_the_others_are_analysed_all_the_same(
    pho: Any, visitor: Path, name: str, content: Any
) -> None:
    path = visitor.parent / name
    if content is not ...:
        path.write_bytes(visitor.read_bytes()[:4_000] if content is None else content)
    ran = pho("analyze", path, visitor, "--json")
    assert (ran.status, ran.err) == (1, "")
    bad, good = ran.json
    assert (bad["status"], bad["faces"]) == ("failed", [])
    assert bad["error"]
    assert good["status"] == "ok"
    person = pho("analyze", path, visitor)
    assert person.status == 1
    assert "Traceback" not in person.err


def test_a_folder_is_no_picture(pho: Any, tmp_path: Path) -> None:
    ran = pho("analyze", tmp_path, "--json")
    assert ran.status == 1
    assert "directory" in ran.json[0]["error"]
