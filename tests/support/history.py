"""Logs that were joined live, and their archives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from connectors.archive_sources import until_ms
from connectors.archive_writer import Archiver
from connectors.logs import Row
from pipelines.topology import greeting_loop
from runs import EmbeddedRun
from schemas.codec import decode
from schemas.outcomes import OutcomeClosed
from visits import play

JOINED = ("outcomes", "alarms", "late", "unmatched", "dead-letters")
"""What the join gives out."""
Given = Counter[tuple[str, str, bytes]]
"""Stream, key and bytes, and how often."""


class Played(NamedTuple):
    """A log that was joined live."""

    archive: Path
    """Its archive."""
    given: Given
    """All that the join gave out live."""


def given_by_join(rows: Iterable[Row]) -> Given:
    """Return what the join gave out, among all that stands in a log."""
    return Counter(
        (row.stream, row.key, row.value)
        for row in rows
        if row.stream in JOINED
        and (row.stream != "outcomes" or isinstance(decode(row.value), OutcomeClosed))
    )


def play_and_archive(folder: Path, visits: int = 60) -> Played:
    """Play visits of every kind, with records that nobody can read or take among them."""
    run = EmbeddedRun(greeting_loop(), folder / "log")
    count = 0

    def spoil() -> None:
        nonlocal count
        count += 1
        if count in (30, 60):
            config = next(run.log.scan("loops"))
            poison = [("rewards", "v9", b"nobody can read this"), ("visits", "v9", config.value)]
            run.log.append_bytes(poison)

    play(run, visits, spoil)
    Archiver(run.log, folder / "archive").run(until_ms("now", run.log))
    given = given_by_join(run.log.scan())
    run.close()
    return Played(folder / "archive", given)
