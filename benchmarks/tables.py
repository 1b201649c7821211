"""How fast `pho tables` fills each kind of tables, beside the database's own bulk load.

Run ``python benchmarks/tables.py`` from the repository; `--visits` says how many, `--kinds` into
which. A log of so many visits over ten days is laid out first. Then each kind is filled from it:
records read and decoded, learned from, inserted by id with the place in the log, a transaction for
every 2,000 records. The alternative gets the finished rows in memory and loads them in one go,
without ids, places or learning: `executemany` for SQLite, one `write_table` a table for Parquet,
COPY for Postgres. What the consumer cannot do without, reading and decoding, is timed alone as
well. Seconds are those of the clock; behind them the processor's own, which other work on the
machine does not lengthen (for Postgres: of this process, not of the server). The Postgres is a
server of this run's own, as it comes but for its folder; without one that part is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a clone, not installed
sys.path.insert(1, str(ROOT / "tests" / "support"))

from analysts import CONFIG, feed, opened, visit_records  # noqa: E402 - after the path
from connectors.clocks import SetClock  # noqa: E402
from connectors.embedded_log import EmbeddedLog  # noqa: E402
from connectors.tables_feed import STREAMS  # noqa: E402
from connectors.tables_parquet import write_file  # noqa: E402
from connectors.tables_schema import DECISIONS, OUTCOMES, TYPES, VISITS, Row, Table  # noqa: E402
from connectors.tables_sql import SqlTables  # noqa: E402
from connectors.tables_sqlite import SqliteTables  # noqa: E402
from schemas.codec import decode  # noqa: E402
from schemas.errors import RecordError  # noqa: E402
from worlds import START_MS  # noqa: E402

_TEMPLATES = 120
_DAYS_MS = 10 * 86_400_000
_LOADED = (VISITS, DECISIONS, OUTCOMES)


class _Watch:
    """Counts seconds: of the clock, and of the processor."""

    def __init__(self) -> None:
        self._begin_s, self._cpu_s = time.perf_counter(), time.process_time()

    def told(self) -> dict[str, float]:
        """Return how many it has been."""
        clock_s = time.perf_counter() - self._begin_s
        return {"clock_s": clock_s, "cpu_s": time.process_time() - self._cpu_s}


def _say(tell: Callable[[str], None], what: str, told: dict[str, float], more: str) -> None:
    tell(f"{what:<34} {told['clock_s']:7.1f} s, cpu {told['cpu_s']:6.1f} s  {more}")


def main() -> int:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--visits", type=int, default=100_000)
    parser.add_argument("--kinds", default="sqlite,parquet,postgres", help="which, with commas")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    tell: Callable[[str], None] = (lambda _line: None) if options.json else print
    load = os.getloadavg()[0]
    tell(f"{os.cpu_count()} cores, load {load:.1f}")
    with tempfile.TemporaryDirectory(prefix="pho-tables-", dir=ROOT / "build") as name:
        found = _measure(Path(name), options.visits, options.kinds.split(","), tell)
    if options.json:
        print(json.dumps({"visits": options.visits, "load_before": load, **found}, indent=2))
    return 0


def _measure(
    folder: Path, visits: int, kinds: list[str], tell: Callable[[str], None]
) -> dict[str, Any]:
    log = _lay_out(folder / "log", visits)
    records = sum(log.counts()[stream] for stream in STREAMS)
    tell(f"{visits:,} visits in {records:,} records\n")
    found: dict[str, Any] = {"records": records}
    watch = _Watch()
    for row in log.scan(*STREAMS):
        try:
            decode(row.value)
        except RecordError:
            continue
    alone = watch.told()
    found["read and decode alone"] = alone
    _say(tell, "reading and decoding alone", alone, f"{records / alone['cpu_s']:9,.0f} records/s")
    places: dict[str, Any] = {
        "sqlite": folder / "tables.db",
        "parquet": folder / "tables",
        "postgres": None,
    }
    server = _server(tell) if "postgres" in kinds else None
    rows: dict[Table, list[Row]] = {}
    try:
        if server is not None:
            places["postgres"] = server.new_database("ours")
        for kind, place in places.items():
            if place is None or kind not in kinds:
                continue
            ours, rows = _filled(log, kind, place, rows)
            count = sum(map(len, rows.values()))
            bulk = _loaded(kind, folder, rows, server)
            found[kind] = {"ours": ours, "bulk": bulk, "rows": count}
            rates = (
                f"{count / ours['cpu_s']:9,.0f} rows/s, {records / ours['cpu_s']:9,.0f} records/s"
            )
            _say(tell, f"pho tables --to {kind}", ours, rates)
            rate = f"{count / bulk['cpu_s']:9,.0f} rows/s"
            ratio = f"{ours['cpu_s'] / bulk['cpu_s']:.1f} times as fast"
            _say(tell, "  its own bulk load of these rows", bulk, f"{rate}, {ratio}")
    finally:
        if server is not None:
            server.close()
    log.close()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["peak_mb"] = peak_mb
    tell(f"\nat most {peak_mb:,.0f} MB, the rows in memory for the bulk loads among them")
    return found


def _filled(
    log: EmbeddedLog, kind: str, place: Any, known: dict[Table, list[Row]]
) -> tuple[dict[str, float], dict[Table, list[Row]]]:
    watch = _Watch()
    tables = opened(kind, place)
    feed(log, tables).run()
    told = watch.told()
    rows = {table: list(tables.rows(table)) for table in _LOADED}
    if known and rows != known:
        problem = f"{kind} does not hold what the others hold"
        raise AssertionError(problem)
    tables.close()
    return told, rows


def _loaded(kind: str, folder: Path, rows: dict[Table, list[Row]], server: Any) -> dict[str, float]:
    if kind == "parquet":
        watch = _Watch()
        for table, some in rows.items():
            write_file(folder / f"{table.name}.parquet", table, some)
        return watch.told()
    if kind == "sqlite":
        ready = _ready(SqliteTables(folder / "unused.db"), rows)
        db = sqlite3.connect(folder / "bulk.db", isolation_level=None)
        for table in _LOADED:
            db.execute(_create(table, 0))
        watch = _Watch()
        db.execute("BEGIN")
        for table, values in ready.items():
            marks = ", ".join("?" * len(table.columns))
            db.executemany(f"INSERT INTO {table.name} VALUES ({marks})", values)  # noqa: S608
        db.execute("COMMIT")
        told = watch.told()
        db.close()
        return told
    return _copied(folder, rows, server)


def _copied(folder: Path, rows: dict[Table, list[Row]], server: Any) -> dict[str, float]:
    import psycopg

    ready = _ready(opened("postgres", server.new_database("unused")), rows)
    with psycopg.connect(server.new_database("bulk")) as db:
        for table in _LOADED:
            db.execute(_create(table, 2).encode())
        db.commit()
        watch = _Watch()
        with db.cursor() as cursor:
            for table, values in ready.items():
                with cursor.copy(f"COPY {table.name} FROM STDIN".encode()) as copy:
                    for row in values:
                        copy.write_row(row)
        db.commit()
        return watch.told()


def _ready(tables: SqlTables, rows: dict[Table, list[Row]]) -> dict[Table, list[list[Any]]]:
    """Return rows as a database takes them: making them so is no part of its bulk load."""
    try:
        return {table: tables.to_database(table, some) for table, some in rows.items()}
    finally:
        tables.close()


def _create(table: Table, place: int) -> str:
    columns = [f"{column.name} {TYPES[column.kind][place]}" for column in table.columns]
    return f"CREATE TABLE {table.name} ({', '.join(columns)}, PRIMARY KEY ({table.key[0]}))"


def _server(tell: Callable[[str], None]) -> Any:
    try:
        from postgres import Postgres

        server = Postgres(durable=True)
        server.start()
    except BaseException as missing:  # noqa: BLE001 - pytest's skip is no Exception
        tell(f"no Postgres here: {missing}")
        return None
    return server


def _lay_out(folder: Path, visits: int) -> EmbeddedLog:
    """Return a log of visits that are some templates again and again, with ids of their own."""
    clock = SetClock(START_MS)
    log = EmbeddedLog(folder, clock, "OFF")
    log.append("outcomes", CONFIG)
    templates = [visit_records(number, START_MS) for number in range(_TEMPLATES)]
    step_ms = max(1, _DAYS_MS // visits)
    for start in range(0, visits, 500):
        records: list[tuple[str, Any]] = []
        for number in range(start, min(start + 500, visits)):
            shift_ms = number * step_ms
            name = f"visit-{number:07d}"
            for stream, value in templates[number % _TEMPLATES]:
                records.append((stream, _moved(value, name, shift_ms)))
        clock.set(START_MS + start * step_ms)
        log.append_all(records)
    return log


def _moved(value: Any, name: str, shift_ms: int) -> Any:
    if hasattr(value, "choice"):
        choice = dataclasses.replace(
            value.choice,
            decision_id=name,
            visit_id=name,
            decided_at_ms=value.choice.decided_at_ms + shift_ms,
        )
        times = {
            field: time_ms + shift_ms
            for field in ("shown_at_ms", "closed_at_ms")
            if (time_ms := getattr(value, field, None)) is not None
        }
        return dataclasses.replace(value, choice=choice, **times)
    field = "captured_at_ms" if hasattr(value, "captured_at_ms") else "ended_at_ms"
    moved = {field: getattr(value, field) + shift_ms, "decision_id": name, "visit_id": name}
    return dataclasses.replace(value, **moved)


if __name__ == "__main__":
    sys.exit(main())
