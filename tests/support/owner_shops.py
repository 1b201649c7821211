"""Logs for the owner's page: a finished simulation, the same record by record, and one at work."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from itertools import groupby
from pathlib import Path

from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.logs import Row
from serving.gateway.owner_board import OwnerBoard
from serving.gateway.owner_fold import FOLDED, OwnerFold
from serving.settings import load
from serving.simulating import Plan, Simulation


def simulated(folder: Path, visits: int, seed: int = 1, kiosks: int = 20) -> Path:
    """Play a simulation to its end; return its folder."""
    flags = {"data": str(folder), "loops.greeting.control_share": 0.15}
    settings = load(None, flags, {})
    config_hash = settings.loop("greeting").config_hash
    played = Simulation(settings, Plan(visits, seed, None, kiosks, config_hash))
    with closing(played.log):
        played.run(lambda _done, _all: None)
    return folder


def rows_of(folder: Path) -> list[Row]:
    """Return every record of a folder's log."""
    with closing(EmbeddedLog(folder)) as log:
        return list(log.scan())


def write(folder: Path, rows: Iterable[Row]) -> None:
    """Append records to a folder's log, each at its own log time."""
    clock = SetClock()
    with closing(EmbeddedLog(folder, clock, "NORMAL")) as log:
        for at_ms, group in groupby(rows, key=lambda row: row.log_time_ms):
            clock.set(at_ms)
            log.append_bytes([(row.stream, row.key, row.value) for row in group])


def folded(rows: Iterable[Row]) -> OwnerFold:
    """Fold records."""
    fold = OwnerFold()
    for row in rows:
        if row.stream in FOLDED:
            fold.take(row)
    return fold


def board_of(folder: Path) -> OwnerBoard:
    """Return a board on a folder's log, not yet reading."""
    return OwnerBoard(lambda: EmbeddedLog(folder))
