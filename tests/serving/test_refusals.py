"""What PHO needs and does not get: it says so, leaves with 3, and loses nothing."""

from __future__ import annotations

import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import worlds
from connectors import embedded_log
from connectors.assets import ASSETS, asset_cache, asset_path
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.pictures import FolderPictures
from engines.embedded import EmbeddedEngine
from pipelines.topology import greeting_loop
from schemas.codec import decode

VISITS = 6


@contextmanager
def no_file_above(byte_count: int) -> Iterator[None]:
    """Let no file grow above a size, as a full disk would not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (byte_count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def told(ran: Any, *words: str) -> None:
    """Check that an error leaves with 3, names the thing, says what to do, and no more."""
    assert ran.status == 3
    assert ran.out == ""
    for word in ("error:", "do:", *words):
        assert word in ran.err
    assert "Traceback" not in ran.err


def test_a_full_disk_stops_the_demo_which_goes_on_when_there_is_room(
    pho: Any, demo_folder: Path, tmp_path: Path
) -> None:
    line = ("demo", "--visits", VISITS, "--data", tmp_path / "d", "--json")
    with no_file_above(700_000):
        told(pho(*line), "no room", "Free some space")
    went_on = pho(*line).json
    assert (went_on["visits"], went_on["balanced"], went_on["pictures_left"]) == (VISITS, True, 0)
    undisturbed = pho("demo", "--visits", VISITS, "--data", demo_folder, "--json").json
    assert went_on["policy"] == undisturbed["policy"]
    assert went_on["reward_mean"] == undisturbed["reward_mean"]


def test_a_full_disk_stops_the_job_which_goes_on_when_there_is_room(
    pho: Any, tmp_path: Path
) -> None:
    log = EmbeddedLog(tmp_path)
    for number in range(200):
        frame = worlds.captured(f"v{number}", "pre", 0, log.clock(), 0.5)
        log.append("frames", frame)
    with no_file_above((tmp_path / "pho.db-wal").stat().st_size + 50_000):
        told(pho("run", "--seconds", 20, "--data", tmp_path), "no room")
    assert pho("run", "--seconds", 3, "--data", tmp_path).status == 0
    answers = [decode(row.value).frame_id for row in log.scan("analyses")]
    assert sorted(answers) == sorted(f"v{number}.pre.0" for number in range(200))
    log.close()


def test_a_log_locked_by_another_process_is_told(
    pho: Any, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_log, "BUSY_TIMEOUT_MS", 50)
    other = sqlite3.connect(demo_folder / "pho.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    told(pho("ledger", "--data", demo_folder), "locked by another process")
    other.execute("ROLLBACK")
    other.close()
    assert pho("ledger", "--data", demo_folder).status == 0


def test_a_second_job_on_a_folder_is_refused(pho: Any, tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path)
    engine = EmbeddedEngine(log, greeting_loop())
    told(pho("run", "--seconds", 1, "--data", tmp_path), "another process already runs the job")
    engine.close()
    log.close()
    assert pho("run", "--seconds", 0.2, "--data", tmp_path).status == 0


@pytest.mark.parametrize("source", ["63", "no-such-video.mp4", "no-such-folder"])
def test_a_camera_that_is_missing_is_told(pho: Any, tmp_path: Path, source: str) -> None:
    ran = pho("camera", source, "--notice", "posted", "--data", tmp_path)
    told(ran, source)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache of one's own."""
    folder = tmp_path / "models"
    shutil.copytree(asset_cache(), folder)
    monkeypatch.setenv("PHO_CACHE", str(folder))
    return folder


@pytest.mark.parametrize("damage", ["missing", "altered"])
@pytest.mark.parametrize(
    ("asset", "line"),
    [
        ("emotions", ("analyze", "visitor.jpg")),
        ("face_full_range", ("run", "--seconds", "1")),
        ("face_short_range", ("demo", "--visits", "1")),
        ("recording_laugh", ("demo", "--visits", "1")),
        ("face_short_range", ("camera", "recorded", "--notice", "posted", "--seconds", "1")),
    ],
)
def test_a_model_that_is_missing_or_altered_is_refused(
    pho: Any, models: Path, damage: str, asset: str, line: tuple[str, ...]
) -> None:
    path = models / ASSETS[asset].file_name
    if damage == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    told(pho(*line), path.name, "pho doctor --fetch")


def test_without_a_notice_visits_are_counted_and_nobody_is_seen(
    pho: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(_self: FolderPictures, *_: object) -> str:
        pytest.fail("a picture was stored without a notice")

    monkeypatch.setattr(FolderPictures, "put", put)
    video = asset_path("recording_smile")
    ran = pho("camera", video, "--notice", "none", "--data", tmp_path, "--json")
    assert ran.status == 0
    assert "notice" in ran.err
    assert ran.json["frames_without_notice"] == ran.json["frames_sent"] == 1
    assert ran.json["greetings_shown"] == 0
    assert pho("run", "--seconds", 0.5, "--data", tmp_path).status == 0
    ledger = pho("ledger", "--data", tmp_path, "--json").json
    assert (ledger["refused"], ledger["decisions"], ledger["balanced"]) == (1, 0, True)


def test_a_file_that_is_no_log_is_told(pho: Any, tmp_path: Path) -> None:
    (tmp_path / "pho.db").write_bytes(b"my holiday" * 1_000)
    told(pho("ledger", "--data", tmp_path), "cannot be used")


def test_a_damaged_log_is_told(pho: Any, demo_folder: Path) -> None:
    path = demo_folder / "pho.db"
    content = bytearray(path.read_bytes())
    content[4_096:] = b"\xa5" * (len(content) - 4_096)
    path.write_bytes(content)
    for command in ("ledger", "topics", "dead-letters", "run"):
        told(pho(command, "--data", demo_folder), "cannot be used")


def test_a_log_of_a_newer_release_is_left_alone(pho: Any, tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path, SetClock())
    log.db.execute("PRAGMA user_version = 99")
    log.close()
    told(pho("ledger", "--data", tmp_path), "format 99")


def test_a_folder_that_cannot_be_made_is_told(pho: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    told(pho("demo", "--visits", 1, "--data", tmp_path / "file" / "shop"))


def test_a_crash_place_that_is_none_is_refused(
    pho: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHO_CRASH_AT", "sometimes")
    ran = pho("run", "--seconds", "1", "--data", tmp_path)
    assert ran.status == 2
    assert "PHO_CRASH_AT" in ran.err
