"""Logs that are replayed, and altered before."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connectors.embedded_log import FILE_NAME, EmbeddedLog
from connectors.logs import Row
from serving.replay.running import Replayed, replay


def verdicts(folder: Path, tolerance_ppb: int = 0) -> Replayed:
    log = EmbeddedLog(folder)
    told = replay(log, tolerance_ppb)
    log.close()
    return told


def counts(told: Replayed) -> list[tuple[str, int, int]]:
    return [(each.what, each.identical, each.differing) for each in told.verdicts]


def rows_of(folder: Path, *streams: str) -> list[Row]:
    log = EmbeddedLog(folder)
    rows = list(log.scan(*streams))
    log.close()
    return rows


@contextmanager
def altered(folder: Path, row: Row, data: bytes) -> Iterator[None]:
    """Put other bytes where a record stands, for a while."""
    write(folder, row.position, data)
    yield
    write(folder, row.position, row.value)


def write(folder: Path, position: int, data: bytes) -> None:
    with sqlite3.connect(folder / FILE_NAME) as db:
        db.execute("UPDATE log SET value = ? WHERE position = ?", (data, position))
    db.close()


def with_bit(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def delete(folder: Path, position: int) -> None:
    """Take a record out."""
    with sqlite3.connect(folder / FILE_NAME) as db:
        db.execute("DELETE FROM log WHERE position = ?", (position,))
    db.close()
