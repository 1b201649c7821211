"""`kill -9` of whoever keeps the tables, anywhere, again and again: nothing is lost or twice.

KILLS=300 SEED=3 python -m pytest tests/scenarios/test_tables_kill.py   # a long campaign
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from analysts import all_rows, feed, feed_here, opened, wanted, write_shop, write_visits
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.erasure_key import make_key
from engines.forgetting import Asked, forget_embedded
from postgres import Postgres

KILLS = int(os.environ.get("KILLS", "6"))
SEED = int(os.environ.get("SEED", "1"))
VISITS = 90
# A child that starts where the test stands: a new interpreter would take a second for each kill.
FORK = get_context("fork")
# Where it ends itself, and how often a whole run comes there, about.
STEPS = {
    "write.before": 40,
    "rows": 40,
    "history": 40,
    "places": 40,
    "write.after": 40,
    "refresh.before": 2,
    "daily": 4,
    "refresh.after": 2,
}
FILE_STEPS = {"file": 20, "manifest": 1}


@pytest.fixture
def server() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.close()


def killed_at_a_step(folder: Path, kind: str, place: Any, step: str, rows: int) -> bool:
    """Let a consumer run in a process of its own; return whether it was killed."""
    child = FORK.Process(target=feed_here, args=(folder, kind, place, step, rows))
    child.start()
    child.join(120)
    assert child.exitcode in (0, -signal.SIGKILL), f"SEED={SEED} {kind} {step}: {child.exitcode}"
    return child.exitcode != 0


def killed_after(folder: Path, kind: str, place: Any, wait_s: float, rows: int) -> bool:
    """Kill it from outside, after so long."""
    child = FORK.Process(target=feed_here, args=(folder, kind, place, "", rows))
    child.start()
    child.join(wait_s)
    if child.is_alive() and child.pid is not None:
        os.kill(child.pid, signal.SIGKILL)
    child.join(120)
    return child.exitcode != 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", "parquet", "postgres"])
def test_killed_anywhere_the_tables_are_as_if_nobody_had(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(f"{SEED}.{kind}")  # noqa: S311 - a place to kill at, no secret
    base = tmp_path / "base"
    write_shop(base, VISITS).close()
    server = request.getfixturevalue("server") if kind == "postgres" else None
    steps = STEPS | (FILE_STEPS if kind == "parquet" else {})
    killed = round_number = 0
    while killed < KILLS:
        folder = Path(shutil.copytree(base, tmp_path / f"log-{round_number}"))
        place = tmp_path / f"tables-{round_number}"
        where: Any = server.new_database(f"r{round_number}") if server else place
        round_number += 1
        forgotten = False
        for turn in range(6):
            rows = chance.choice([7, 40, 2_000])
            if chance.random() < 0.7:
                step = chance.choice(list(steps))
                # Small numbers often: it dies again and again before anything is done.
                number = 1 + int(steps[step] * chance.random() ** 2)
                killed += killed_at_a_step(folder, kind, where, f"{step}:{number}", rows)
            else:
                killed += killed_after(folder, kind, where, chance.random() * 0.3, rows)
            # The log goes on meanwhile, and somebody is forgotten.
            log = EmbeddedLog(folder, SetClock(0), "OFF")
            log.clock.set(log.newest_log_time_ms())  # type: ignore[attr-defined]
            write_visits(log, range(VISITS + 3 * turn, VISITS + 3 * turn + 3))
            if not forgotten and chance.random() < 0.4:
                asked = Asked("visitor-00023-qzx", None, make_key(folder / "erasure.key"))
                forgotten = forget_embedded(log, asked, None)[0].known
            log.close()
        log = EmbeddedLog(folder, SetClock(0), "OFF")
        tables = opened(kind, where)
        feed(log, tables, key_folder=folder).run()
        found, right = all_rows(tables), wanted(log, tmp_path, folder)
        tables.close()
        log.close()
        assert found == right, f"SEED={SEED} {kind}, round {round_number - 1}"
        assert len(right["decisions"]) > VISITS * 0.9
        assert not list(place.rglob("*.tmp")) if place.is_dir() else True


@pytest.mark.timeout(300)
def test_a_server_killed_under_way_loses_nothing(tmp_path: Path) -> None:
    server = Postgres(durable=True)
    folder = tmp_path / "log"
    write_shop(folder, VISITS).close()
    try:
        server.start()
        where = server.new_database("shop")
        for wait_s in (0.15, 0.3, 0.5):
            child = FORK.Process(target=feed_here, args=(folder, "postgres", where, "", 7))
            child.start()
            time.sleep(wait_s)
            server.kill()
            child.join(60)
            server.start()
        log = EmbeddedLog(folder, SetClock(0), "OFF")
        tables = opened("postgres", where)
        feed(log, tables).run()
        found = all_rows(tables)
        tables.close()
        assert found == wanted(log, tmp_path)
        log.close()
    finally:
        server.close()
