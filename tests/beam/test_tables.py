"""The tables of an archive: every field of every record, and each record once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import parquet

from archiving import DAY_MS, FIRST_DAY_MS, write_days
from connectors import archive_parts, archive_tables
from connectors.archive import ArchiveReader
from connectors.archive_parts import PartWriter
from connectors.archive_writer import Archiver
from connectors.logs import Row
from golden_records import as_json, example
from schemas.codec import encode
from schemas.streams import RECORDS


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_of_every_record_is_a_column(name: str, tmp_path: Path) -> None:
    value = example(RECORDS[name])
    row = Row(17, "alarms", "a key", FIRST_DAY_MS, encode(value), 3)
    writer = PartWriter(tmp_path, row)
    writer.write(row)
    part = writer.close()
    archive_tables.write(tmp_path, writer.temporary, part)
    path = tmp_path / archive_tables.table_path(name, part)
    assert str(path.relative_to(tmp_path)) == f"record={name}/day=2026-01-05/alarms-3-17.parquet"
    (told,) = parquet.read_table(path, partitioning=None).to_pylist()
    where = ("row_stream", "row_partition", "row_position", "row_key", "row_log_time_ms")
    assert tuple(told.pop(name) for name in where) == ("alarms", 3, 17, "a key", FIRST_DAY_MS)
    assert told == as_json(value)


def places(archive: Path) -> Counter[tuple[str, int]]:
    """Return stream and position of each row of all tables."""
    return Counter(
        (row["row_stream"], row["row_position"])
        for path in archive.rglob("*.parquet")
        for row in parquet.read_table(path, partitioning=None).to_pylist()
    )


class Stopped(BaseException):
    """Stands for the end of the process."""


def stop_at(step: str, number: int) -> Callable[[str], None]:
    """Return what stops an archiver at the n-th step of a name."""

    def steps(at: str) -> None:
        nonlocal number
        number -= at == step
        if number == 0:
            raise Stopped

    return steps


def test_an_archiver_stopped_anywhere_leaves_each_record_in_the_tables_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_parts, "PART_ROWS_MAX", 7)
    log = write_days(tmp_path / "log", days=2)
    archive = tmp_path / "archive"
    until_ms = FIRST_DAY_MS
    for step in ("part.written", "part.tables", "part.published", "manifest.before"):
        for number in (1, 2):
            # Each time a little further, so that a part that was stopped grows at the next try.
            until_ms += DAY_MS // 5
            with pytest.raises(Stopped):
                Archiver(log, archive, steps=stop_at(step, number)).run(until_ms)
    Archiver(log, archive).run(2**62)
    wanted = Counter((row.stream, row.position) for row in log.scan())
    assert places(archive) == wanted
    assert sum(ArchiveReader(archive).counts().values()) == sum(wanted.values())
