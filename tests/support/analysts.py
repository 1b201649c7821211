"""Logs for tables: days of visitors with all that can befall them, and what must come of them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors import tables_feed
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.erasure_key import read_key
from connectors.logs import Log
from connectors.persons import Erased
from connectors.tables_contract import Steps
from connectors.tables_feed import Feed
from connectors.tables_parquet import ParquetTables
from connectors.tables_schema import TABLES, Row
from connectors.tables_sqlite import SqliteTables
from engines.policy_history import PolicyHistory
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import PolicyDirected
from worlds import START_MS, analyzed, decided, ended, loop, outcome

HOUR_MS = 3_600_000
KEY = bytes(range(32))
VISIT_ZERO_LANGUAGE = "=1+1"
"""What a kiosk page may say for a language, and a spreadsheet would compute."""
CONFIG = loop(
    policies=(PolicyConfigured("main", "thompson"), PolicyConfigured("even", "uniform", "shadow"))
)
RESULTS: tuple[dict[str, Any], ...] = (
    {},
    {"result": "defaulted", "result_reason": "nothing_usable", "source": "default"},
    {"result": "dropped", "result_reason": "shown_other", "learnable": False},
    {"result": "not_activated", "result_reason": "no_impression", "learnable": False},
)


def visit_name(number: int) -> str:
    """Return the id of a visit, long enough to be looked for everywhere."""
    return f"visitor-{number:05d}-qzx"


def visit_records(
    number: int, at_ms: int, config: LoopConfigured = CONFIG, seed: int = 5
) -> list[tuple[str, Any]]:
    """Return the records of a visit in their order: some stay open, some come twice."""
    chance = random.Random(f"{seed}.{number}")  # noqa: S311 - a visitor, no secret
    name = visit_name(number)
    kiosk = f"kiosk-{number % 3}"
    before, after = round(chance.random(), 3), round(chance.random(), 3)
    seen = analyzed(
        name, "pre", 0, at_ms, before, kiosk_id=kiosk, utc_offset_minutes=120, language="de"
    )
    if number % 17 == 0:
        refused = dataclasses.replace(seen, status="refused", faces=())
        language = "de" if number else VISIT_ZERO_LANGUAGE
        return [("analyses", dataclasses.replace(refused, language=language))]
    made = decided(name, at_ms, config, before, kiosk_id=kiosk, visit_id=name)
    records: list[tuple[str, Any]] = [("analyses", seen), ("decisions", made)]
    smiling = analyzed(name, "post", 1, at_ms + 1_500, after, kiosk_id=kiosk)
    records.append(("analyses", dataclasses.replace(smiling, utc_offset_minutes=120)))
    records.append(("visits", dataclasses.replace(ended(name, at_ms + 4_000, 1), kiosk_id=kiosk)))
    if number % 11 == 0:
        return records  # stays open
    told = RESULTS[number % 5] if number % 5 < len(RESULTS) else {}
    closed = outcome(
        made,
        0.0 if told else after - before,
        at_ms + 4_000,
        shown_at_ms=None if told.get("result") == "not_activated" else at_ms + 300,
        shown_action_id=made.choice.action_id,
        happiness_after=None if told else after,
        confidence_after=None if told else 0.9,
        member_ids=(f"{name}.post.1",),
        **told,
    )
    records.append(("outcomes", closed))
    if number % 7 == 0:
        # At least once: the same again, and another that comes second and changes nothing.
        other = dataclasses.replace(made, choice=dataclasses.replace(made.choice, epoch=99))
        records += [("decisions", other), ("outcomes", closed), ("visits", records[3][1])]
    return records


def write_visits(
    log: Log, numbers: range, every_ms: int = HOUR_MS, start_ms: int = START_MS
) -> None:
    """Append visitors, one each so often; now and then something nobody can read."""
    for number in numbers:
        at_ms = start_ms + number * every_ms
        if isinstance(log.clock, SetClock):
            log.clock.set(at_ms)
        log.append_all(visit_records(number, at_ms))
        if number % 13 == 0:
            log.append_bytes([("decisions", f"odd{number}", b"nobody can read this")])


def write_shop(folder: Path, visits: int, every_ms: int = HOUR_MS) -> EmbeddedLog:
    """Return a log with its loop, visitors, and a directive in their middle."""
    log = EmbeddedLog(folder, SetClock(START_MS), "OFF")
    log.append("outcomes", CONFIG)
    log.append("loops", CONFIG)
    write_visits(log, range(visits // 2), every_ms)
    directive = PolicyDirected(
        "wide", "greeting", "main", "explore", "test", "a test", floor_ppb=200_000_000
    )
    log.append("outcomes", directive)
    write_visits(log, range(visits // 2, visits), every_ms)
    return log


def erased_by(folder: Path | None) -> Any:
    """Return what tells who was forgotten, with the key of a folder."""

    def known(hashes: set[str]) -> Erased:
        key = read_key(folder / "erasure.key") if folder is not None else KEY
        return Erased(key or KEY, hashes)

    return known


def feed(
    log: Log,
    tables: Any,
    steps: Steps = lambda _name: None,
    *,
    key_folder: Path | None = None,
    through: Mapping[tuple[str, int], int] | None = None,
) -> Feed:
    """Return what brings a log into tables."""
    return Feed(log, tables, PolicyHistory, erased_by(key_folder), steps, through=through)


def opened(kind: str, place: Any) -> Any:
    """Open tables of a kind."""
    if kind == "postgres":
        from connectors.tables_postgres import PostgresTables

        return PostgresTables(place)
    return {"sqlite": SqliteTables, "parquet": ParquetTables}[kind](place)


def all_rows(tables: Any) -> dict[str, list[Row]]:
    """Return every row of every table."""
    return {name: list(tables.rows(table)) for name, table in TABLES.items()}


def wanted(log: Log, folder: Path, key_folder: Path | None = None) -> dict[str, list[Row]]:
    """Return every row of every table, made anew from the log."""
    tables = SqliteTables(folder / "anew.db")
    try:
        feed(log, tables, key_folder=key_folder).run()
        return all_rows(tables)
    finally:
        tables.close()
        for path in folder.glob("anew.db*"):
            path.unlink()


def feed_here(folder: Path, kind: str, place: Any, crash: str, batch_rows: int) -> None:
    """Bring a folder's log into tables, in a process that ends itself at a step."""
    from serving.crashes import crash_steps

    tables_feed.BATCH_ROWS = batch_rows
    log = EmbeddedLog(folder, SetClock(0), "OFF")
    tables = opened(kind, place)
    feed(log, tables, crash_steps(crash), key_folder=folder).run()
    tables.close()
    log.close()
