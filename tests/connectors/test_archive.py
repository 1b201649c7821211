"""The archive: what stood in the log stands in it, and it says what is wrong with it."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from archiving import (
    DAY_MS,
    FIRST_DAY_MS,
    ROWS_OF_A_PART,
    PartitionedLog,
    archive,
    partitioned_rows,
    write_days,
)
from connectors import archive_parts
from connectors.archive import MANIFEST, ArchiveReader
from connectors.archive_parts import explained, read_part
from connectors.archive_sources import until_ms
from connectors.archive_writer import Archiver
from connectors.embedded_log import EmbeddedLog
from pipelines.topology import greeting_loop
from runs import EmbeddedRun
from schemas.codec import decode, released
from schemas.errors import EngineBusy, LogFull, LogUnavailable, UsageError
from schemas.operations import Tick
from schemas.outcomes import PolicySnapshot
from visits import play


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_parts, "PART_ROWS_MAX", ROWS_OF_A_PART)


@pytest.fixture
def log(tmp_path: Path) -> EmbeddedLog:
    return write_days(tmp_path / "log", days=3)


def parts(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return every part with what changes when it is written again."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_ino,
            path.stat().st_mtime_ns,
            path.read_bytes(),
        )
        for path in sorted(folder.rglob("part-*.avro"))
    }


def test_a_whole_loop_comes_back_byte_by_byte_and_in_its_order(tmp_path: Path) -> None:
    run = EmbeddedRun(greeting_loop(), tmp_path / "log")
    play(run, 20)
    archive(run.log, tmp_path / "archive")
    reader = ArchiveReader(tmp_path / "archive")
    assert list(reader.scan()) == list(run.log.scan())
    assert reader.counts() == {name: n for name, n in run.log.counts().items() if n}
    assert list(reader.scan("visits", "rewards")) == list(run.log.scan("visits", "rewards"))
    assert list(reader.scan("rewards", key="v13")) == list(run.log.scan("rewards", key="v13")) != []
    assert reader.complete_through_ms() == run.log.complete_through_ms()
    run.close()


def test_parts_lie_by_stream_and_day_and_say_what_they_are(
    log: EmbeddedLog, tmp_path: Path
) -> None:
    archive(log, tmp_path / "archive")
    found = parts(tmp_path / "archive")
    assert "stream=rewards/day=2026-01-05/part-0-1.avro" in found
    assert any(name.startswith("stream=ticks/day=2026-01-07/") for name in found)
    for name in found:
        rows = list(read_part(tmp_path / "archive" / name))
        assert 0 < len(rows) <= ROWS_OF_A_PART
        assert {f"stream={row.stream}" for row in rows} == {name.split("/")[0]}
        assert name.endswith(f"part-0-{rows[0].position}.avro")
        days = {f"day={archive_parts.day_of(row.log_time_ms)}" for row in rows}
        assert days == {name.split("/")[1]}
    schemas = {path.name for path in (tmp_path / "archive" / "schemas").iterdir()}
    assert schemas == {f"{e.name}.v{e.version}.avsc" for e in released().values()}


def test_only_days_that_are_over_are_archived(log: EmbeddedLog, tmp_path: Path) -> None:
    # One record in the fourth day: it has begun, so the third is over.
    done = Archiver(log, tmp_path / "archive", tables=False).run()
    assert done.days == ("2026-01-05", "2026-01-06", "2026-01-07")
    assert done.complete_through_ms == FIRST_DAY_MS + 3 * DAY_MS
    archived = list(ArchiveReader(tmp_path / "archive").scan())
    assert archived == list(log.scan())[:-1]
    log.clock.set(FIRST_DAY_MS + 4 * DAY_MS - 1)  # type: ignore[attr-defined]
    log.append("ticks", Tick(log.clock(), "test"))
    assert Archiver(log, tmp_path / "archive", tables=False).run().rows == 0
    log.clock.set(FIRST_DAY_MS + 4 * DAY_MS)  # type: ignore[attr-defined]
    log.append("ticks", Tick(log.clock(), "test"))
    assert Archiver(log, tmp_path / "archive", tables=False).run().rows == 2


def test_a_day_or_now_can_be_named(log: EmbeddedLog) -> None:
    assert until_ms("", log) is None
    assert until_ms("2026-01-06", log) == FIRST_DAY_MS + DAY_MS
    assert until_ms("now", log) == FIRST_DAY_MS + 3 * DAY_MS + 1
    with pytest.raises(UsageError, match="no day"):
        until_ms("yesterday", log)


def test_what_comes_later_is_added_and_no_part_is_written_twice(tmp_path: Path) -> None:
    log = write_days(tmp_path / "log", days=1)
    archive(log, tmp_path / "archive")
    before = parts(tmp_path / "archive")
    log.clock.set(FIRST_DAY_MS + DAY_MS + 5)  # type: ignore[attr-defined]
    for number in range(10):
        log.append("ticks", Tick(FIRST_DAY_MS + number, "test"))
    assert archive(log, tmp_path / "archive").rows == 10
    assert archive(log, tmp_path / "archive").rows == 0
    after = parts(tmp_path / "archive")
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before)
    assert list(ArchiveReader(tmp_path / "archive").scan()) == list(log.scan())


def test_a_lost_manifest_is_made_again_from_the_parts(log: EmbeddedLog, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    archive(log, folder)
    told, before = json.loads((folder / MANIFEST).read_text()), parts(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(LogUnavailable, match="lost its manifest"):
        ArchiveReader(folder)
    done = archive(log, folder)
    assert (done.rows, done.adopted) == (0, len(before))
    assert json.loads((folder / MANIFEST).read_text()) == told
    assert parts(folder) == before
    assert list(ArchiveReader(folder).scan()) == list(log.scan())


def test_a_torn_manifest_says_what_to_do(log: EmbeddedLog, tmp_path: Path) -> None:
    archive(log, tmp_path / "archive")
    whole = (tmp_path / "archive" / MANIFEST).read_bytes()
    (tmp_path / "archive" / MANIFEST).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LogUnavailable, match=r"Delete manifest\.json"):
        ArchiveReader(tmp_path / "archive")


def test_a_torn_temporary_file_is_swept_away(log: EmbeddedLog, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    torn = folder / "stream=rewards" / "day=2026-01-05" / ".part-0-1.avro.4711.tmp"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"Obj\x01 and then the power went")
    archive(log, folder)
    assert not torn.exists()
    assert list(ArchiveReader(folder).scan()) == list(log.scan())


def test_a_torn_part_is_named(log: EmbeddedLog, tmp_path: Path) -> None:
    archive(log, tmp_path / "archive")
    path = tmp_path / "archive" / "stream=rewards" / "day=2026-01-05" / "part-0-1.avro"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(LogUnavailable, match=r"part-0-1\.avro is torn"):
        list(ArchiveReader(tmp_path / "archive").scan())
    # Nor is it taken over when the manifest must be made again.
    (tmp_path / "archive" / MANIFEST).unlink()
    with pytest.raises(LogUnavailable, match=r"part-0-1\.avro is torn"):
        archive(log, tmp_path / "archive")


def test_a_part_that_is_gone_is_named(log: EmbeddedLog, tmp_path: Path) -> None:
    archive(log, tmp_path / "archive")
    (tmp_path / "archive" / "stream=rewards" / "day=2026-01-05" / "part-0-1.avro").unlink()
    with pytest.raises(LogUnavailable, match="lacks 1 of its parts"):
        ArchiveReader(tmp_path / "archive")


def test_a_folder_of_somebody_else_is_left_alone(log: EmbeddedLog, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(UsageError, match=r"cat\.jpg"):
        archive(log, tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    with pytest.raises(UsageError, match="holds no archive"):
        ArchiveReader(tmp_path / "photos")
    with pytest.raises(UsageError, match="holds no archive"):
        ArchiveReader(tmp_path / "nowhere")


def test_the_archive_of_another_log_is_left_alone(log: EmbeddedLog, tmp_path: Path) -> None:
    archive(log, tmp_path / "archive")
    before = parts(tmp_path / "archive")
    other = write_days(tmp_path / "other", days=3)
    assert archive(other, tmp_path / "archive").rows == 0  # the very same bytes: a copy
    longer = write_days(tmp_path / "longer", days=4, rows_a_day=25)
    shorter = write_days(tmp_path / "shorter", days=2)
    alike = write_days(tmp_path / "alike", days=3, odd=b"something else")
    for wrong in (longer, shorter, alike):
        with pytest.raises(UsageError, match="another log"):
            archive(wrong, tmp_path / "archive")
    assert parts(tmp_path / "archive") == before


def test_a_newer_format_is_refused(log: EmbeddedLog, tmp_path: Path) -> None:
    archive(log, tmp_path / "archive")
    told = json.loads((tmp_path / "archive" / MANIFEST).read_text())
    told |= {"format": 2, "something": "new"}
    (tmp_path / "archive" / MANIFEST).write_text(json.dumps(told))
    for use in (
        lambda: archive(log, tmp_path / "archive"),
        lambda: ArchiveReader(tmp_path / "archive"),
    ):
        with pytest.raises(LogUnavailable, match="format 2, this release knows 1"):
            use()


def test_a_part_of_a_newer_format_is_refused(
    log: EmbeddedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(archive_parts, "FORMAT_VERSION", 2)
        archive(log, tmp_path / "archive")
    with pytest.raises(LogUnavailable, match="format 2, this release knows 1"):
        list(ArchiveReader(tmp_path / "archive").scan())


def test_two_at_once_do_not_archive_into_one_folder(log: EmbeddedLog, tmp_path: Path) -> None:
    def another(step: str) -> None:
        if step == "part.written":
            with pytest.raises(EngineBusy, match="another process"):
                archive(log, tmp_path / "archive")
            seen.append(step)

    seen: list[str] = []
    Archiver(log, tmp_path / "archive", tables=False, steps=another).run()
    assert seen


def test_no_room_says_that_finished_parts_stay(tmp_path: Path) -> None:
    with pytest.raises(LogFull, match="finished parts stay"), explained(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_bases_let_a_replay_start_in_the_middle(tmp_path: Path) -> None:
    run = EmbeddedRun(greeting_loop(), tmp_path / "log")
    newest = []

    def snapshot() -> PolicySnapshot:
        (row,) = run.log.scan("policies")
        value = decode(row.value)
        assert isinstance(value, PolicySnapshot)
        return value

    counts = 0

    def archive_sometimes() -> None:
        nonlocal counts
        counts += 1
        if counts in (40, 80):
            archive(run.log, tmp_path / "archive")
            newest.append(snapshot())

    play(run, 20, archive_sometimes)
    archive(run.log, tmp_path / "archive")
    newest.append(snapshot())
    kept = [decode(row.value) for row in ArchiveReader(tmp_path / "archive").bases()]
    assert len({one.version for one in newest}) == 3
    # The log has only the last of them: compaction took the others.
    assert kept == newest
    assert [value for value in kept if value in map(decode, _values(run, "policies"))] == newest[2:]
    run.close()


def _values(run: EmbeddedRun, stream: str) -> list[bytes]:
    return [row.value for row in run.log.scan(stream)]


def test_partitions_are_kept_apart_and_read_in_the_protocols_order(tmp_path: Path) -> None:
    rows = partitioned_rows(partitions=3, steps=8)
    log = PartitionedLog(rows, FIRST_DAY_MS + 2 * DAY_MS + 7)
    done = Archiver(log, tmp_path / "archive", tables=False).run()
    assert done.complete_through_ms == FIRST_DAY_MS + 2 * DAY_MS
    Archiver(log, tmp_path / "archive", tables=False).run(until_ms("now", log))
    # Each partition is read on behind its last archived position, not from its start.
    assert log.scans[-1] == {(s, p): 6 for s in ("impressions", "rewards") for p in range(3)}
    reader = ArchiveReader(tmp_path / "archive")
    for streams in (("rewards", "impressions"), ("impressions", "rewards"), ("rewards",)):
        assert list(reader.scan(*streams)) == list(log.scan(*streams))
    names = {Path(part.path).name for part in reader.manifest.parts}
    assert "part-2-6.avro" in names
    # What the log is not complete through is archived, but not promised.
    assert reader.complete_through_ms() == FIRST_DAY_MS + 2 * DAY_MS + 7
