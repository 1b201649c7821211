"""What is rebuilt from an archive is what was given out live, byte by byte."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from connectors.archive import MANIFEST, ArchiveReader
from connectors.archive_parts import day_of, read_part
from engines.beam.backfill import backfill, compare
from engines.beam.shards import SHARDS
from history import JOINED, Played, given_by_join
from schemas.codec import decode
from schemas.errors import LogUnavailable, UsageError


def test_what_is_rebuilt_is_what_was_given_out_live(played: Played, tmp_path: Path) -> None:
    done = backfill(played.archive, tmp_path / "out", tables=False)
    assert given_by_join(ArchiveReader(tmp_path / "out").scan()) == played.given
    # Every kind of end is among them, or this would say little.
    assert done.counts.keys() == set(JOINED)
    results = Counter(
        decode(value).result for stream, _, value in played.given if stream == "outcomes"
    )
    assert results.keys() == {"rewarded", "defaulted", "dropped", "not_activated"}
    assert compare(played.archive, tmp_path / "out").equal


def test_two_processes_rebuild_the_same_as_one(played: Played, tmp_path: Path) -> None:
    for workers in (1, 2):
        done = backfill(played.archive, tmp_path / str(workers), workers=workers, tables=False)
        assert done.shards == workers
    one, two = (ArchiveReader(tmp_path / name) for name in ("1", "2"))
    assert {row.partition for row in two.scan()} == {0, 1}
    told = [
        sorted((row.stream, row.log_time_ms, row.key, row.value) for row in reader.scan())
        for reader in (one, two)
    ]
    assert told[0] == told[1]


def test_what_is_rebuilt_is_an_archive(played: Played, tmp_path: Path) -> None:
    backfill(played.archive, tmp_path / "out", tables=False)
    reader = ArchiveReader(tmp_path / "out")
    assert reader.complete_through_ms() == ArchiveReader(played.archive).complete_through_ms()
    assert not (tmp_path / "out" / SHARDS).exists()
    for part in reader.manifest.parts:
        rows = list(read_part(tmp_path / "out" / part.path))
        assert len(rows) == part.rows
        assert {f"day={day_of(row.log_time_ms)}" for row in rows} == {part.path.split("/")[1]}
        if part.stream == "outcomes":
            assert all(decode(row.value).closed_at_ms == row.log_time_ms for row in rows)


def test_analysts_read_the_same_in_parquet(played: Played, tmp_path: Path) -> None:
    from pyarrow import parquet

    backfill(played.archive, tmp_path / "out")
    for archive in (played.archive, tmp_path / "out"):
        reader = ArchiveReader(archive)
        seen = 0
        for folder in archive.glob("record=*"):
            for path in folder.rglob("*.parquet"):
                for told in parquet.read_table(path, partitioning=None).to_pylist():
                    seen += 1
                    if folder.name == "record=OutcomeClosed":
                        _is_the_outcome(reader, told)
        assert seen == sum(reader.counts().values())
    unreadable = list((played.archive / "record=Unreadable").rglob("*.parquet"))
    told = parquet.read_table(unreadable[0], partitioning=None).to_pylist()
    assert told[0]["row_stream"] == "rewards"
    assert "No release of PHO wrote that" in told[0]["error"]


def _is_the_outcome(reader: ArchiveReader, told: dict[str, object]) -> None:
    (row,) = [
        row
        for row in reader.scan("outcomes")
        if (row.partition, row.position) == (told["row_partition"], told["row_position"])
    ]
    value = decode(row.value)
    choice = told["choice"]
    assert isinstance(choice, dict)
    assert told["reward"] == value.reward
    assert told["result"] == value.result
    assert told["shown_at_ms"] == value.shown_at_ms
    assert choice["decision_id"] == value.choice.decision_id
    assert choice["features"]["dense"] == list(value.choice.features.dense)
    assert [a["probability_ppb"] for a in choice["actions"]] == [
        action.probability_ppb for action in value.choice.actions
    ]


def test_a_comparison_names_what_differs(played: Played, tmp_path: Path) -> None:
    backfill(played.archive, tmp_path / "out", tables=False)
    # The first half of the archive: its outcomes are missing, and the others are ahead of it.
    reader = ArchiveReader(tmp_path / "out")
    (part,) = [part for part in reader.manifest.parts if part.stream == "outcomes"]
    parts = tuple(each for each in reader.manifest.parts if each is not part)
    told = json.loads((tmp_path / "out" / MANIFEST).read_text())
    told["parts"] = [each for each in told["parts"] if each["stream"] != "outcomes"]
    assert len(told["parts"]) == len(parts)
    (tmp_path / "out" / MANIFEST).write_text(json.dumps(told))
    found = compare(played.archive, tmp_path / "out")
    assert (found.same, len(found.missing), found.equal) == (0, 60, False)


def test_an_interrupted_backfill_starts_again(played: Played, tmp_path: Path) -> None:
    out = tmp_path / "out"
    backfill(played.archive, out, tables=False)
    # As it is when the process ends before the manifest: shards and parts, some of another cut.
    (out / MANIFEST).unlink()
    (out / SHARDS).mkdir()
    stray = out / "stream=outcomes" / "day=2020-01-01" / "part-9-0.avro"
    stray.parent.mkdir()
    stray.write_bytes(b"of another cut")
    backfill(played.archive, out, tables=False)
    assert not stray.exists()
    assert given_by_join(ArchiveReader(out).scan()) == played.given


def test_a_folder_that_holds_something_is_left_alone(played: Played, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(UsageError, match="is not empty"):
        backfill(played.archive, tmp_path)
    backfill(played.archive, tmp_path / "out", tables=False)
    with pytest.raises(UsageError, match="is not empty"):
        backfill(played.archive, tmp_path / "out")
    with pytest.raises(UsageError, match="holds no archive"):
        backfill(tmp_path / "nowhere", tmp_path / "other")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_torn_part_is_named_and_nothing_is_published(
    played: Played, tmp_path: Path, workers: int
) -> None:
    shutil.copytree(played.archive, tmp_path / "archive")
    torn = next((tmp_path / "archive" / "stream=visits").rglob("part-*.avro"))
    torn.write_bytes(torn.read_bytes()[:-20])
    with pytest.raises(LogUnavailable, match=rf"{torn.name} is torn"):
        backfill(tmp_path / "archive", tmp_path / "out", workers=workers)
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_a_runner_that_is_none_is_named(played: Played, tmp_path: Path) -> None:
    with pytest.raises(LogUnavailable, match="NoRunner"):
        backfill(played.archive, tmp_path / "out", runner="NoRunner")
