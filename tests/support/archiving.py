"""Logs over several days, and an archiver that a test can run, and kill, in a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors import archive_parts
from connectors.archive_sources import until_ms
from connectors.archive_writer import Archived, Archiver
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.logs import Row
from schemas.codec import encode
from schemas.operations import Tick
from serving.crashes import crash_steps
from worlds import ended, rewarded, shown

DAY_MS = 86_400_000
FIRST_DAY_MS = 1_767_571_200_000
"""2026-01-05, 00:00 UTC."""
ROWS_OF_A_PART = 7


def write_days(
    folder: Path, days: int, rows_a_day: int = 20, odd: bytes = b"nobody can read this"
) -> EmbeddedLog:
    """Return a log of some whole days, in four streams, with a record nobody can read in each."""
    clock = SetClock(FIRST_DAY_MS)
    log = EmbeddedLog(folder, clock, "OFF")
    for day in range(days):
        for number in range(rows_a_day):
            at_ms = FIRST_DAY_MS + day * DAY_MS + number * (DAY_MS // rows_a_day)
            clock.set(at_ms)
            name = f"d{day}v{number}"
            values: list[tuple[str, Any]] = [
                ("rewards", rewarded(name, 1, 0.5, at_ms)),
                ("visits", ended(name, at_ms)),
                ("impressions", shown(name, "a0", at_ms)),
                ("ticks", Tick(at_ms, "test")),
            ]
            log.append_all(values[number % 3 :])
        log.append_bytes([("rewards", f"d{day}", odd)])
    clock.set(FIRST_DAY_MS + days * DAY_MS)
    log.append("ticks", Tick(clock(), "test"))
    return log


class PartitionedLog:
    """What an archive needs of a log, over partitions as Kafka has them."""

    name = "partitioned"

    def __init__(self, rows: Sequence[Row], complete_ms: int) -> None:
        self.rows = list(rows)
        self.complete_ms = complete_ms
        self.scans: list[dict[tuple[str, int], int]] = []

    def clock(self) -> int:
        """Return the time of the newest row, ms."""
        return max(row.log_time_ms for row in self.rows)

    def scan(self, *streams: str, key: str | None = None) -> Iterator[Row]:
        """Yield all rows in the protocol's order."""
        rank = {stream: place for place, stream in enumerate(streams)}
        chosen = [row for row in self.rows if not streams or row.stream in streams]
        chosen.sort(key=lambda r: (r.log_time_ms, rank.get(r.stream, 0), r.partition, r.position))
        return iter([row for row in chosen if key in (None, row.key)])

    def scan_from(
        self, places: Mapping[tuple[str, int], int], *streams: str, key: str | None = None
    ) -> Iterator[Row]:
        """Yield rows from the given positions on."""
        self.scans.append(dict(places))
        for row in self.scan(*streams, key=key):
            if row.position >= places.get((row.stream, row.partition), 0):
                yield row

    def complete_through_ms(self) -> int:
        """Return what the test said, ms."""
        return self.complete_ms


def partitioned_rows(partitions: int, steps: int) -> list[Row]:
    """Return rewards and impressions in partitions whose log times interleave, Ticks in each."""
    rows = []
    makes: dict[str, Callable[[str, int], Any]] = {
        "rewards": lambda name, at_ms: rewarded(name, 1, 0.5, at_ms),
        "impressions": lambda name, at_ms: shown(name, "a0", at_ms),
    }
    for stream, make in makes.items():
        for partition in range(partitions):
            for step in range(steps):
                at_ms = FIRST_DAY_MS + step * DAY_MS // 3 + partition
                name = f"p{partition}v{step}"
                value = Tick(at_ms, "t") if step % 4 == 3 else make(name, at_ms)
                rows.append(Row(step, stream, name, at_ms, encode(value), partition))
    return rows


def archive(log: EmbeddedLog, folder: Path, crash_at: str = "", until: str = "now") -> Archived:
    """Archive everything, in small parts."""
    archive_parts.PART_ROWS_MAX = ROWS_OF_A_PART
    steps = crash_steps(crash_at)
    return Archiver(log, folder, tables=False, steps=steps).run(until_ms(until, log))


def archive_here(log: Path, folder: Path, crash_at: str, until: str) -> None:
    """Archive everything, in a process that ends itself at a step."""
    opened = EmbeddedLog(log, SetClock(0), "OFF")
    archive(opened, folder, crash_at, until)
    opened.close()
