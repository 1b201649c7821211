"""An archive's tables lose whom the archive loses."""

from __future__ import annotations

from pathlib import Path

from pyarrow import parquet

from connectors.archive import ArchiveReader
from connectors.archive_sources import until_ms
from connectors.archive_writer import Archiver, erase_from_archive
from connectors.embedded_log import EmbeddedLog
from connectors.persons import Person
from forgetful import shop_of, visit_id


def keys_in_tables(archive: Path) -> list[str]:
    """Return the keys of all rows of all tables."""
    files = sorted(archive.glob("record=*/day=*/*.parquet"))
    return sorted(key for path in files for key in parquet.read_table(path)["row_key"].to_pylist())


def test_the_tables_are_those_of_an_archive_without_him(tmp_path: Path) -> None:
    log = EmbeddedLog(shop_of(tmp_path / "shop", range(6)))
    archive = tmp_path / "archive"
    Archiver(log, archive).run(until_ms("now", log))
    log.close()
    name = visit_id(3)
    assert name in keys_in_tables(archive)
    done = erase_from_archive(archive, Person(frozenset({name})), [])
    assert (done.rows > 5, done.tables) == (True, 0)
    assert keys_in_tables(archive) == sorted(row.key for row in ArchiveReader(archive).scan())
    assert name not in keys_in_tables(archive)
