"""Windows that are open at midnight: archived by whole days, they close with the next one."""

from __future__ import annotations

from pathlib import Path

from archiving import DAY_MS, FIRST_DAY_MS
from connectors.archive import ArchiveReader
from connectors.archive_sources import until_ms
from connectors.archive_writer import Archiver
from engines.beam.backfill import backfill, compare
from history import given_by_join
from join_scripts import Entry
from pipelines.topology import greeting_loop
from runs import EmbeddedRun, feed, finish
from schemas.codec import decode
from schemas.operations import Tick
from worlds import decided, rewarded, shown

MIDNIGHT_MS = FIRST_DAY_MS + DAY_MS


def entries_around_midnight() -> list[Entry]:
    """Return a visit a second, from ten seconds before midnight; every other one is rewarded."""
    entries = []
    for number in range(20):
        at_ms = MIDNIGHT_MS - 10_000 + number * 1_000
        name = f"v{number}"
        made = decided(name, at_ms)
        entries.append(Entry(at_ms, "decisions", made))
        entries.append(Entry(at_ms, "impressions", shown(name, made.choice.action_id, at_ms)))
        if number % 2:
            reward = rewarded(name, 1, 0.5, at_ms + 3_000)
            entries.append(Entry(at_ms + 3_000, "rewards", reward))
    entries.append(Entry(MIDNIGHT_MS + 60_000, "ticks", Tick(MIDNIGHT_MS + 60_000, "test")))
    return sorted(entries, key=lambda entry: entry.log_time_ms)


def test_a_window_open_at_midnight_closes_with_the_next_day(tmp_path: Path) -> None:
    run = EmbeddedRun(greeting_loop().only("join"), tmp_path / "log")
    entries = entries_around_midnight()
    feed(run, entries, [1] * len(entries))
    finish(run, entries)
    live = given_by_join(run.log.scan())
    archive = tmp_path / "archive"
    Archiver(run.log, archive, tables=False).run()
    backfill(archive, tmp_path / "first", tables=False)
    closed = [decode(row.value) for row in ArchiveReader(tmp_path / "first").scan("outcomes")]
    # Decided 10, 9, 8, 7 and 6 seconds before midnight; a window and its grace last 5.5 s.
    assert {outcome.choice.decision_id for outcome in closed} == {f"v{n}" for n in range(5)}
    assert all(outcome.closed_at_ms < MIDNIGHT_MS for outcome in closed)
    assert compare(archive, tmp_path / "first").equal
    Archiver(run.log, archive, tables=False).run(until_ms("now", run.log))
    backfill(archive, tmp_path / "both", tables=False)
    reader = ArchiveReader(tmp_path / "both")
    assert given_by_join(reader.scan()) == live
    days = {part.path.split("/")[1] for part in reader.manifest.parts if part.stream == "outcomes"}
    assert days == {"day=2026-01-05", "day=2026-01-06"}
    run.close()
