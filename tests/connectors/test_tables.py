"""The tables in SQLite, Parquet and Postgres: the same rows, and clear words where it fails."""

from __future__ import annotations

import resource
import shutil
import sqlite3
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from zlib import crc32

import psycopg
import pytest

from analysts import KEY, all_rows, feed, opened, visit_name, wanted, write_shop, write_visits
from archiving import PartitionedLog
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.logs import Row
from connectors.persons import Erased
from connectors.tables_contract import Batch
from connectors.tables_parquet import ParquetTables
from connectors.tables_postgres import PostgresTables
from connectors.tables_schema import DECISIONS, POLICY_HISTORY, TABLES, VISITS
from connectors.tables_sqlite import SqliteTables
from engines.rebuilding import learning
from policies.base import checksum_of
from postgres import Postgres, shared_postgres
from schemas.erasure import id_hash
from schemas.errors import (
    EngineBusy,
    SettingsError,
    TablesDown,
    TablesUnavailable,
    UsageError,
)
from worlds import START_MS, analyzed

VISITS_COUNT = 60
_ROOM_BYTES = 200_000
"""As large as a file may become: the tables when empty take half of it."""


@pytest.fixture(scope="module")
def server() -> Postgres:
    return shared_postgres()


@pytest.fixture(scope="module")
def _shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop") / "log"
    write_shop(folder, VISITS_COUNT).close()
    return folder


@pytest.fixture
def log(_shop: Path, tmp_path: Path) -> Iterator[EmbeddedLog]:
    """Return a log of two and a half days."""
    log = EmbeddedLog(Path(shutil.copytree(_shop, tmp_path / "log")), SetClock(START_MS), "OFF")
    yield log
    log.close()


@pytest.fixture(params=["sqlite", "parquet", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Any]:
    """Return a kind of tables, and where there is room for some."""
    if request.param == "postgres":
        server = request.getfixturevalue("server")
        return "postgres", server.new_database()
    return request.param, tmp_path / f"{request.param}-tables"


def test_all_databases_hold_what_the_log_says(
    log: EmbeddedLog, place: tuple[str, Any], tmp_path: Path
) -> None:
    tables = opened(*place)
    done = feed(log, tables).run()
    found = all_rows(tables)
    assert found == wanted(log, tmp_path)
    # 60 visits less those refused; repeats and what nobody can read stand there once, or not.
    refused = [n for n in range(VISITS_COUNT) if n % 17 == 0]
    assert len(found["visits"]) == VISITS_COUNT
    assert len(found["decisions"]) == VISITS_COUNT - len(refused)
    assert all(row[DECISIONS.place("epoch")] == 0 for row in found["decisions"]), "the first holds"
    assert done.unreadable == 5
    assert tables.counts() == {name: len(rows) for name, rows in found.items()}
    for name in TABLES:
        assert tables.stale_days(name) == []
    tables.close()


def test_the_history_is_what_learn_learned(log: EmbeddedLog, tmp_path: Path) -> None:
    state = learning(log.scan("outcomes", key="greeting"))
    rows = wanted(log, tmp_path)["policy_history"]
    (newest,) = [row for row in rows if row[1] == "main" and row == rows[-1]]
    learner = state.learner("main")
    assert learner is not None
    assert newest[POLICY_HISTORY.place("last_version")] == learner.version
    assert newest[POLICY_HISTORY.place("checksum")] == checksum_of(learner.policy)
    assert newest[POLICY_HISTORY.place("floor_share")] == 0.2
    told = sum(int(row[POLICY_HISTORY.place("learned")] or 0) for row in rows)
    directed = sum(int(row[POLICY_HISTORY.place("directives")] or 0) for row in rows)
    assert (told + directed, directed) == (learner.version, 1)


def test_started_anywhere_and_run_again_it_ends_the_same(
    log: EmbeddedLog, place: tuple[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.tables_feed.BATCH_ROWS", 7)
    for more in range(3):
        tables = opened(*place)
        feed(log, tables).run()
        tables.close()
        write_visits(log, range(VISITS_COUNT + 5 * more, VISITS_COUNT + 5 * more + 5))
    tables = opened(*place)
    feed(log, tables).run()
    again = feed(log, tables).run()
    assert not again.records, "nothing is read twice"
    assert all_rows(tables) == wanted(log, tmp_path)
    tables.close()


def test_partitions_in_any_order_and_twice_give_the_same(log: EmbeddedLog, tmp_path: Path) -> None:
    rows: list[Row] = []
    places: dict[tuple[str, int], int] = {}
    for row in log.scan("decisions", "analyses", "visits", "outcomes"):
        number = crc32(row.key.encode()) % 3 if row.stream != "outcomes" else 0
        # As on Kafka: each partition counts for itself, and brokers' clocks differ a little.
        for _ in range(2 if row.position % 5 == 0 else 1):
            position = places.get((row.stream, number), -1) + 1
            places[row.stream, number] = position
            at_ms = row.log_time_ms + 40 * number
            rows.append(Row(position, row.stream, row.key, at_ms, row.value, number))
    right = wanted(log, tmp_path)
    for count in (10, 60, len(rows)):
        found = SqliteTables(tmp_path / "tables.db")
        some = PartitionedLog(rows[:count], START_MS)
        feed(some, found).run()  # type: ignore[arg-type]
        found.close()
    found = SqliteTables(tmp_path / "tables.db")
    assert all_rows(found) == right
    found.close()


def test_a_log_that_dropped_records_unread_is_told(log: EmbeddedLog, tmp_path: Path) -> None:
    rows = [
        Row(number, "decisions", row.key, row.log_time_ms, row.value)
        for number, row in enumerate(log.scan("decisions"))
    ]
    tables = SqliteTables(tmp_path / "tables.db")

    class OnKafka(PartitionedLog):
        def newest(self, *_: str) -> dict[tuple[str, int], Row]:
            return {("decisions", 0): self.rows[-1]}

    feed(OnKafka(rows[:10], 0), tables).run()  # type: ignore[arg-type]
    late = feed(OnKafka(rows[20:], 0), tables)  # type: ignore[arg-type]
    assert late.run().lost == ["decisions[0]"]
    tables.close()


def test_tables_of_another_log_are_refused(
    log: EmbeddedLog, place: tuple[str, Any], tmp_path: Path
) -> None:
    tables = opened(*place)
    feed(log, tables).run()
    before = all_rows(tables)
    for visits in (4, 300):  # shorter, and longer
        other = write_shop(tmp_path / f"other-{visits}", visits, every_ms=1_000)
        with pytest.raises(UsageError, match="another log"):
            feed(other, tables).run()
        other.close()
    assert all_rows(tables) == before
    tables.close()


def test_one_writer_at_a_time_and_any_number_of_readers(
    log: EmbeddedLog, place: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.tables_postgres._LOCK_WAIT_S", 0.1)
    tables = opened(*place)
    feed(log, tables).run()
    with pytest.raises(EngineBusy, match="another process"):
        opened(*place)
    kind, where = place
    kinds: dict[str, Any] = {
        "sqlite": SqliteTables,
        "parquet": ParquetTables,
        "postgres": PostgresTables,
    }
    reader = kinds[kind](where, reads_only=True)
    with reader.snapshot():
        before = all_rows(reader)
        write_visits(log, range(VISITS_COUNT, VISITS_COUNT + 3))
        feed(log, tables).run()
        if kind != "parquet":
            assert all_rows(reader) == before, "of one moment"
    assert all_rows(reader) == all_rows(tables)
    reader.close()
    tables.close()


def _meta(place: tuple[str, Any], value: str) -> None:
    kind, where = place
    text = f"UPDATE {'pho.' * (kind == 'postgres')}pho_meta SET value = '{value}'"  # noqa: S608
    if kind == "postgres":
        with psycopg.connect(where) as db:
            db.execute(text.encode())
        return
    with sqlite3.connect(where if kind == "sqlite" else where / ".pho/tables.db") as file:
        file.execute(text)
    file.close()


def test_tables_of_a_newer_release_are_refused(log: EmbeddedLog, place: tuple[str, Any]) -> None:
    opened(*place).close()
    for version, cure in (("2", "newer"), ("0", "Drop them")):
        _meta(place, version)
        with pytest.raises(TablesUnavailable) as refused:
            opened(*place)
        assert cure in refused.value.cure


def test_foreign_tables_are_left_alone(server: Postgres, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE visits (mine TEXT)")
    db.close()
    with pytest.raises(UsageError, match="did not make"):
        SqliteTables(path)
    dsn = server.new_database("foreign")
    server.query("CREATE SCHEMA pho", "foreign")
    server.query("CREATE TABLE pho.outcomes (mine TEXT)", "foreign")
    with pytest.raises(UsageError, match="did not make"):
        PostgresTables(dsn)
    tables = PostgresTables(dsn, "shop")
    tables.close()
    assert server.query("SELECT * FROM pho.outcomes", "foreign") == []
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(TablesUnavailable, match="cannot be used"):
        SqliteTables(path)


def test_what_postgres_refuses_says_what_to_do(server: Postgres) -> None:
    with pytest.raises(SettingsError) as no_address:
        PostgresTables("nonsense secret")
    assert "secret" not in str(no_address.value)
    with pytest.raises(TablesDown, match="cannot be reached"):
        PostgresTables("host=127.0.0.1 port=1 dbname=shop")
    with pytest.raises(TablesUnavailable, match="does not exist") as unknown:
        PostgresTables(server.dsn("nowhere"))
    assert not isinstance(unknown.value, TablesDown), "no use to try again"
    server.query("CREATE ROLE poor LOGIN")
    dsn = server.new_database("closed")
    server.query("REVOKE ALL ON DATABASE closed FROM PUBLIC", "closed")
    server.query("GRANT CONNECT ON DATABASE closed TO poor", "closed")
    with pytest.raises(TablesUnavailable) as poor:
        PostgresTables(dsn.replace("user=pho", "user=poor password=hush"))
    assert "GRANT" in poor.value.cure
    assert "hush" not in str(poor.value)
    server.query("CREATE SCHEMA pho AUTHORIZATION poor", "closed")
    PostgresTables(dsn.replace("user=pho", "user=poor")).close()


def test_a_column_somebody_dropped_is_told(server: Postgres, log: EmbeddedLog) -> None:
    tables = PostgresTables(server.new_database("altered"))
    server.query("ALTER TABLE pho.visits DROP COLUMN language", "altered")
    with pytest.raises(TablesUnavailable, match="altered"):
        feed(log, tables).run()
    assert server.query("SELECT COUNT(*) FROM pho.decisions", "altered") == [(0,)]
    tables.close()


def _without_room(folder: Path, path: Path, told: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (_ROOM_BYTES, _ROOM_BYTES))
    try:
        tables = opened(path.suffix[1:], path)
        log = EmbeddedLog(folder, SetClock(0), "OFF")
        feed(log, tables).run()
        told.send("no error")
    except TablesDown as error:
        told.send(str(error))
    except BaseException as error:  # noqa: BLE001 - or the test would wait
        told.send(repr(error))


@pytest.mark.parametrize("kind", ["sqlite", "parquet"])
def test_without_room_nothing_is_half_written(kind: str, tmp_path: Path) -> None:
    write_shop(tmp_path / "log", 250, every_ms=60_000).close()
    path = tmp_path / f"tables.{kind}"
    ours, theirs = get_context("fork").Pipe()
    child = get_context("fork").Process(target=_without_room, args=(tmp_path / "log", path, theirs))
    child.start()
    assert ours.poll(60)
    assert "no room" in ours.recv()
    child.join(60)
    log = EmbeddedLog(tmp_path / "log", SetClock(0), "OFF")
    tables = opened(kind, path)
    feed(log, tables).run()
    assert all_rows(tables) == wanted(log, tmp_path)
    tables.close()
    log.close()


def test_parquet_has_the_types_it_promises(log: EmbeddedLog, tmp_path: Path) -> None:
    from pyarrow import parquet

    tables = ParquetTables(tmp_path / "tables")
    feed(log, tables).run()
    tables.close()
    days = sorted(path.stem for path in (tmp_path / "tables/visits").glob("*.parquet"))
    assert days == sorted(
        {str(row[VISITS.place("day")]) for row in wanted(log, tmp_path)["visits"]}
    )
    schema = parquet.read_schema(tmp_path / f"tables/visits/{days[0]}.parquet")
    assert str(schema.field("started_at").type) == "timestamp[ms, tz=UTC]"
    assert str(schema.field("day").type) == "date32[day]"
    assert not schema.field("visit_id").nullable


def test_a_visit_that_moves_to_another_day_leaves_its_file(tmp_path: Path) -> None:
    midnight_ms = START_MS // 86_400_000 * 86_400_000
    log = EmbeddedLog(tmp_path / "log", SetClock(START_MS), "OFF")
    log.append("analyses", analyzed("v1", "post", 1, midnight_ms + 5, 0.5))
    tables = ParquetTables(tmp_path / "tables")
    feed(log, tables).run()
    assert (tmp_path / "tables/visits/2026-01-05.parquet").exists()
    log.append("analyses", analyzed("v1", "pre", 0, midnight_ms - 5, 0.5))
    feed(log, tables).run()
    assert not (tmp_path / "tables/visits/2026-01-05.parquet").exists()
    assert len(list(tables.rows(VISITS, "2026-01-04"))) == 1
    tables.close()
    log.close()


def test_no_byte_stays_in_the_gaps_of_pages_that_were_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.tables_feed.BATCH_ROWS", 7)
    log = write_shop(tmp_path / "log", 160, every_ms=60_000)
    tables = SqliteTables(tmp_path / "tables.db")
    feed(log, tables).run()
    names = [visit_name(number) for number in range(160) if number % 4 != 2]
    pages = tables.run("PRAGMA page_count")[0][0]
    tables.write(Batch(erased=Erased(KEY, {id_hash(KEY, name) for name in names})))
    assert tables.run("PRAGMA secure_delete") == [(1,)]
    assert tables.run("PRAGMA page_count")[0][0] < pages, "the file was written anew"
    tables.close()
    log.close()
    data = (tmp_path / "tables.db").read_bytes()
    assert visit_name(2).encode() in data
    assert [name for name in names if name.encode() in data] == []
