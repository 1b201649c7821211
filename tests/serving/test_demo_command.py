"""`pho demo` as its users meet it: it plays, goes on, mixes no worlds, and keeps no picture."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from connectors.assets import asset_path
from connectors.embedded_log import EmbeddedLog
from connectors.pictures import FolderPictures
from producers.stretches import load_stretches
from schemas.codec import decode
from schemas.outcomes import OutcomeClosed
from serving.demo import Demo, Play
from serving.settings import load

VISITS = 6


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    """Return a report without what a clock measured or a folder is called."""
    return {k: v for k, v in document.items() if k not in ("frame_to_greeting_ms", "data")}


def demo_of(folder: Path, visits: int = VISITS, seed: int = 1) -> Demo:
    """Return the demo that `pho demo` plays with these options."""
    flags = {"data": str(folder), "loops.greeting.control_share": 0.15}
    return Demo(load(None, flags, {}), Play("recorded", seed, visits))


def test_it_reports_every_visit_and_leaves_no_picture(pho: Any, tmp_path: Path) -> None:
    ran = pho("demo", "--visits", 3, "--seed", 5, "--data", tmp_path / "d", "--json")
    assert ran.status == 0, ran.err
    told = ran.json
    assert (told["visits"], told["decisions"], told["rewarded"]) == (3, 3, 3)
    assert (told["open"], told["dead_letters"], told["late"], told["unmatched"]) == (0, 0, 0, 0)
    assert (told["balanced"], told["pictures_left"]) == (True, 0)
    assert list((tmp_path / "d" / "pictures").iterdir()) == []
    assert 0 < told["frame_to_greeting_ms"]["p50"] <= told["frame_to_greeting_ms"]["p99"]


def test_a_person_gets_a_page_and_a_progress_bar(pho: Any, tmp_path: Path) -> None:
    ran = pho("demo", "--visits", 2, "--data", tmp_path / "d")
    assert ran.status == 0, ran.err
    assert "pictures left" in ran.out
    assert "2 decisions = 2 rewarded" in ran.out
    assert "visitors" in ran.err


def test_the_same_seed_gives_the_same_document_and_another_seed_another(
    pho: Any, demo_folder: Path, tmp_path: Path
) -> None:
    finished = pho("demo", "--visits", VISITS, "--data", demo_folder, "--json").json
    again = pho("demo", "--visits", VISITS, "--data", tmp_path / "b", "--json").json
    other = pho("demo", "--visits", VISITS, "--seed", 2, "--data", tmp_path / "c", "--json").json
    assert timeless(again) == timeless(finished)
    assert other["policy"]["checksum"] != again["policy"]["checksum"]


def test_a_finished_folder_is_reported_and_not_played(
    pho: Any, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (demo_folder / "pho.db").stat().st_size
    # Without models nothing could be played.
    monkeypatch.setenv("PHO_CACHE", str(demo_folder / "nowhere"))
    ran = pho("demo", "--visits", VISITS, "--data", demo_folder, "--json")
    assert (ran.status, ran.json["visits"]) == (0, VISITS)
    assert (demo_folder / "pho.db").stat().st_size == before


def test_an_unfinished_folder_goes_on_where_it_stopped(
    pho: Any, demo_folder: Path, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise Stopped

    half = demo_of(tmp_path / "half")
    with pytest.raises(Stopped):
        half.run(stop)
    assert half.log.counts()["decisions"] == 2
    half.log.close()
    went_on = pho("demo", "--visits", VISITS, "--data", tmp_path / "half", "--json").json
    undisturbed = pho("demo", "--visits", VISITS, "--data", demo_folder, "--json").json
    assert timeless(went_on) == timeless(undisturbed)


@pytest.mark.parametrize("other", [("--visits", 7), ("--seed", 2), ("--camera", "x.mp4")])
def test_other_options_for_a_demo_that_is_there_are_refused(
    pho: Any, demo_folder: Path, other: tuple[str, object]
) -> None:
    options = {"--visits": VISITS, other[0]: other[1]}
    ran = pho("demo", "--data", demo_folder, *(x for pair in options.items() for x in pair))
    assert ran.status == 2
    assert "holds a demo of" in ran.err
    assert "--data" in ran.err


def test_a_log_that_no_demo_made_is_not_played_into(pho: Any, tmp_path: Path) -> None:
    assert pho("run", "--seconds", 0.2, "--data", tmp_path).status == 0
    ran = pho("demo", "--visits", 1, "--data", tmp_path)
    assert ran.status == 2
    assert "no demo made" in ran.err


@pytest.mark.parametrize("camera", ["0", "rtsp://127.0.0.1/x"])
def test_a_camera_that_never_ends_is_refused(pho: Any, camera: str) -> None:
    ran = pho("demo", "--camera", camera)
    assert ran.status == 2
    assert "no end" in ran.err


def test_a_video_file_is_played_once(pho: Any, tmp_path: Path) -> None:
    video = asset_path("recording_smile")
    ran = pho("demo", "--camera", video, "--data", tmp_path / "d", "--json")
    assert ran.status == 0, ran.err
    assert (ran.json["visits"], ran.json["balanced"], ran.json["pictures_left"]) == (1, True, 0)
    again = pho("demo", "--camera", video, "--data", tmp_path / "e", "--json")
    assert timeless(again.json) == timeless(ran.json)


def test_a_folder_of_pictures_is_played_once_and_what_is_no_picture_skipped(
    pho: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    stretches = load_stretches(None)
    for number, stretch in enumerate(["empty", "woman/rest", "woman/smile", "empty"]):
        cv2.imwrite(str(folder / f"{number}.jpg"), stretches.picture(stretch, 0))
    (folder / "1.txt").write_text("no picture")
    ran = pho("demo", "--camera", folder, "--data", tmp_path / "d", "--json")
    assert ran.status == 0, ran.err
    assert (ran.json["visits"], ran.json["rewarded"], ran.json["pictures_left"]) == (1, 1, 0)
    log = EmbeddedLog(tmp_path / "d")
    outcomes = [decode(row.value) for row in log.scan("outcomes")]
    (outcome,) = [value for value in outcomes if isinstance(value, OutcomeClosed)]
    assert outcome.reward > 0.5
    log.close()


@pytest.mark.parametrize("camera", ["no-such-file.mp4", "empty-folder"])
def test_a_camera_that_is_missing_is_told(pho: Any, tmp_path: Path, camera: str) -> None:
    Path("empty-folder").mkdir()
    ran = pho("demo", "--camera", camera, "--data", tmp_path / "d")
    assert ran.status == 3
    assert camera in ran.err
    assert "Traceback" not in ran.err


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder that everybody's temporary files go to."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder


def test_pixels_are_in_the_picture_folder_alone_and_afterwards_nowhere(
    pho: Any, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "d"
    held: set[str] = set()
    strangers: set[str] = set()

    at_once = [0]

    def look() -> None:
        at_once[0] = max(at_once[0], len(list((data / "pictures").iterdir())))
        for path in tmp_path.rglob("*"):
            if path.is_file() and b"\xff\xd8\xff" in path.read_bytes():
                (held if path.parent == data / "pictures" else strangers).add(path.name)

    get = FolderPictures.get

    def get_and_look(self: FolderPictures, picture_id: str) -> bytes:
        look()
        return get(self, picture_id)

    monkeypatch.setattr(FolderPictures, "get", get_and_look)
    # What a demo leaves that was killed while it wrote a picture.
    (data / "pictures").mkdir(parents=True, mode=0o700)
    (data / "pictures" / f"{'a' * 32}.{'b' * 16}.part").write_bytes(b"\xff\xd8\xff half")
    assert pho("demo", "--visits", 2, "--data", data, "--json").status == 0
    assert len(held) == 7, "3 pictures a visit, and the half one"
    assert at_once == [2], "one in flight, and the half one"
    held.clear()
    look()
    assert (held, strangers) == (set(), set())
    assert list(temporary.iterdir()) == []


def test_the_document_is_one_line_of_no_other_kind(pho: Any, demo_folder: Path) -> None:
    ran = pho("demo", "--visits", VISITS, "--data", demo_folder, "--json")
    assert json.loads(ran.out)
    assert ran.err == ""
