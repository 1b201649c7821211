"""Cameras: files, folders and network streams as shots; and what is said when they fail."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from connectors.assets import asset_path
from producers.cameras import (
    CameraSettings,
    FolderCamera,
    LiveCamera,
    Picture,
    RecordingCamera,
    Shot,
    Time,
    open_camera,
    read_picture,
    shrink,
)
from producers.captures import Capture
from schemas.errors import CameraError, InvalidRecord

T0 = 1_767_600_000_000


class Sleeper:
    """A clock that moves only while somebody waits, and a little with each look at it."""

    def __init__(self, look_ms: int = 0) -> None:
        self.now_ms = float(T0)
        self.slept_ms: list[float] = []
        self._look_ms = look_ms

    def clock_ms(self) -> int:
        self.now_ms += self._look_ms
        return round(self.now_ms)

    def sleep(self, seconds: float) -> None:
        self.slept_ms.append(seconds * 1_000)
        self.now_ms += seconds * 1_000

    @property
    def time(self) -> Time:
        return Time(self.clock_ms, self.sleep)


def recorded(**others: float) -> CameraSettings:
    return CameraSettings(start_ms=T0, **others)  # type: ignore[arg-type]


def plain(level: int, width: int = 64, height: int = 36) -> Picture:
    return np.full((height, width, 3), level, np.uint8)


def shots_of(source: Path | str, settings: CameraSettings) -> list[Shot]:
    return list(open_camera(str(source), Sleeper().time, settings).shots())


def test_a_video_file_is_sampled_by_its_own_time_stamps() -> None:
    shots = shots_of(asset_path("recording_smile"), recorded())
    # 72 pictures at 30 a second: 2.4 s, so a shot at 0, 250, ... 2250 ms.
    assert len(shots) == 10
    for place, shot in enumerate(shots):
        assert 0 <= shot.at_ms - T0 - place * 250 < 34
    assert shots[0].picture.shape == (360, 640, 3)


def test_a_video_file_slower_than_asked_gives_each_picture_once() -> None:
    assert len(shots_of(asset_path("recording_smile"), recorded(frames_per_second=120))) == 72


def test_the_same_file_gives_the_same_shots_again() -> None:
    one, other = (shots_of(asset_path("recording_smile"), recorded()) for _ in range(2))
    assert [shot.at_ms for shot in one] == [shot.at_ms for shot in other]
    assert all(np.array_equal(a.picture, b.picture) for a, b in zip(one, other, strict=True))


def test_a_video_file_played_live_keeps_to_the_clock() -> None:
    sleeper = Sleeper()
    camera = open_camera(str(asset_path("recording_smile")), sleeper.time)
    times = [shot.at_ms for shot in camera.shots()]
    assert times[0] == T0
    assert 2_200 < times[-1] - T0 < 2_400
    assert sum(sleeper.slept_ms) == pytest.approx(times[-1] - T0, abs=10)


def test_a_large_video_is_shrunk_to_what_is_analysed() -> None:
    assert shrink(plain(1, 1_920, 1_080)).shape == (540, 960, 3)
    small = plain(1, 960, 10)
    assert shrink(small) is small


def test_a_closed_camera_ends() -> None:
    camera = open_camera(str(asset_path("recording_smile")), Sleeper().time, recorded())
    shots = camera.shots()
    next(shots)
    camera.close()
    assert list(shots) == []


def test_a_folder_shows_its_pictures_by_name_each_for_a_while(tmp_path: Path) -> None:
    for name, level in (("b.png", 200), ("a.jpg", 100), ("c.webp", 50)):
        cv2.imwrite(str(tmp_path / name), plain(level))
    (tmp_path / ".hidden.jpg").write_bytes(b"x")
    (tmp_path / "folder.jpg").mkdir()
    camera = open_camera(str(tmp_path), Sleeper().time, recorded(folder_hold_ms=500))
    shots = list(camera.shots())
    assert [shot.at_ms - T0 for shot in shots] == [0, 250, 500, 750, 1_000, 1_250]
    levels = [round(float(shot.picture.mean()), -1) for shot in shots]
    assert levels == [100, 100, 200, 200, 50, 50]
    assert camera.skipped == 0


def test_files_that_are_no_whole_picture_are_skipped_and_counted(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "good.jpg"), plain(100))
    whole = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "empty.png").touch()
    with (tmp_path / "huge.jpg").open("wb") as huge:
        huge.write(whole)
        huge.truncate(60_000_000)
    camera = open_camera(str(tmp_path), Sleeper().time, recorded(folder_hold_ms=250))
    assert len(list(camera.shots())) == 1
    assert camera.skipped == 4


def test_a_file_of_60_megabytes_is_not_even_read(tmp_path: Path) -> None:
    huge = tmp_path / "huge.jpg"
    with huge.open("wb") as file:
        file.truncate(60_000_000)
    tracemalloc.start()
    try:
        assert read_picture(huge) is None
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1_000_000


def test_a_single_picture_is_a_folder_of_one(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "one.png"), plain(9))
    assert len(shots_of(tmp_path / "one.png", recorded(folder_hold_ms=1_000))) == 4


@pytest.mark.parametrize("content", [None, "no picture"])
def test_a_folder_without_a_picture_says_so(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "notes.txt").write_text(content)
    with pytest.raises(CameraError, match="holds no picture"):
        shots_of(tmp_path, recorded())


def test_a_missing_source_says_what_may_be_given() -> None:
    with pytest.raises(CameraError, match=r"no camera source 'nowhere[.]mp4'.*device number"):
        open_camera("nowhere.mp4", Sleeper().time)
    with pytest.raises(CameraError, match="cannot be read"):
        open_camera("nowhere.jpg", Sleeper().time)


def test_a_missing_device_says_which_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producers.captures.devices", lambda: [])
    with pytest.raises(CameraError, match=r"no camera 97 \(no camera is plugged in\)"):
        open_camera("97", Sleeper().time)
    monkeypatch.setattr("producers.captures.devices", lambda: ["0", "2"])
    with pytest.raises(CameraError, match=r"cameras here: 0, 2"):
        open_camera("97", Sleeper().time)
    monkeypatch.setattr("producers.captures.devices", lambda: ["97"])
    with pytest.raises(CameraError, match="Close the program that uses it"):
        open_camera("97", Sleeper().time)


def test_failures_are_told_by_errors_and_not_on_standard_error(tmp_path: Path) -> None:
    whole = asset_path("recording_smile").read_bytes()
    (tmp_path / "torn.mp4").write_bytes(whole[:60_000])
    (tmp_path / "text.mp4").write_text("this is no video")
    code = (
        "import sys; from producers.cameras import Time, open_camera\n"
        "from schemas.errors import CameraError\n"
        "for source in sys.argv[1:]:\n"
        "    try: open_camera(source, Time(lambda: 0, lambda s: None))\n"
        "    except CameraError as error: print(error)\n"
    )
    sources = [
        *(str(tmp_path / "torn.mp4"), str(tmp_path / "text.mp4"), "97"),
        *("rtsp://anna:secret@127.0.0.1:9/x", "http://127.0.0.1:9/x"),
    ]
    ran = subprocess.run(
        [sys.executable, "-c", code, *sources], capture_output=True, text=True, check=True
    )
    assert ran.stderr == ""
    lines = ran.stdout.splitlines()
    assert [line.split(". ")[0].endswith("is no video, or torn") for line in lines[:2]] == [
        True
    ] * 2
    assert "97" in lines[2]
    assert lines[3].startswith("no video comes from rtsp://***@127.0.0.1:9/x.")
    assert len(lines) == 5


class Broadcast(ThreadingHTTPServer):
    """A network camera that sends so many JPEG pictures, then hangs up."""

    daemon_threads = True
    pictures = 40


class OneViewer(BaseHTTPRequestHandler):
    server: Broadcast

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the viewer may go first
            for number in range(self.server.pictures):
                _, jpeg = cv2.imencode(".jpg", plain(number * 6, 320, 180))
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg.tobytes() + b"\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        return


@pytest.fixture
def network_camera() -> Iterator[str]:
    with Broadcast(("127.0.0.1", 0), OneViewer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/live"
        server.shutdown()
        thread.join()


def test_a_network_camera_is_sampled_by_the_wall_clock_and_missed_when_gone(
    network_camera: str,
) -> None:
    sleeper = Sleeper(look_ms=125)  # eight pictures a second, as far as the clock knows
    camera = open_camera(network_camera, sleeper.time, CameraSettings(failed_reads_max=5))
    assert isinstance(camera, LiveCamera)
    shots = []
    with pytest.raises(CameraError, match="gives no more pictures"):
        for shot in camera.shots():
            shots.append(shot)
    gaps_ms = {later.at_ms - shot.at_ms for shot, later in pairwise(shots)}
    assert gaps_ms == {250}
    assert 19 <= len(shots) <= 20, "every second of 40"
    assert sleeper.slept_ms == [100.0] * 4
    levels = [float(shot.picture.mean()) for shot in shots]
    assert levels == sorted(levels)


class Flaky(Capture):
    """A capture that gives every other picture only, like a loose plug."""

    def __init__(self, source: Path) -> None:
        super().__init__(str(source), cv2.VideoCapture(str(source)))
        self.calls = 0

    def grab(self) -> bool:
        self.calls += 1
        return self.calls % 2 == 0 and super().grab()


def test_failed_reads_count_only_in_a_row() -> None:
    capture = Flaky(asset_path("recording_smile"))
    camera = LiveCamera(capture, Sleeper(look_ms=500).time, CameraSettings(failed_reads_max=3))
    with pytest.raises(CameraError):
        list(camera.shots())
    assert capture.calls > 2 * 72, "all 72 pictures, each after a failed read"


def test_a_live_camera_that_is_closed_ends_without_an_error(network_camera: str) -> None:
    camera = open_camera(network_camera, Sleeper(look_ms=300).time)
    shots = camera.shots()
    next(shots)
    camera.close()
    assert list(shots) == []


def test_impossible_sampling_is_refused() -> None:
    for wrong in ({"frames_per_second": 0.0}, {"folder_hold_ms": 0}, {"failed_reads_max": 0}):
        with pytest.raises(InvalidRecord):
            CameraSettings(**wrong)


def test_sources_are_told_apart(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), plain(1))
    time = Sleeper().time
    assert isinstance(open_camera(str(tmp_path), time), FolderCamera)
    assert isinstance(open_camera(str(asset_path("recording_smile")), time), RecordingCamera)
