"""`pho tables --follow` beside a log that goes on, while its Postgres is killed and comes back."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from analysts import all_rows, opened, wanted, write_shop, write_visits
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from postgres import Postgres
from schemas.errors import EngineBusy, TablesDown

WAIT_S = 60.0


def visits_in(server: Postgres) -> int:
    """Return the rows of visits; -1: nobody answers, or there are none yet."""
    try:
        return int(str(server.query("SELECT COUNT(*) FROM pho.visits", "shop")[0][0]))
    except Exception:  # noqa: BLE001 - whatever a server says that is going down
        return -1


def wait_for(server: Postgres, visits: int) -> None:
    until_s = time.monotonic() + WAIT_S
    while visits_in(server) != visits:
        assert time.monotonic() < until_s, f"{visits_in(server)} visits, not {visits}"
        time.sleep(0.1)


@pytest.mark.timeout(240)
def test_a_server_that_goes_and_comes_back_misses_nothing(pho: Any, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    log = write_shop(folder, 20)
    server = Postgres(durable=True)
    try:
        server.start()
        settings = {"PHO_TABLES__POSTGRES": server.new_database("shop")}
        keeper = pho.start(
            "tables", "--to", "postgres", "--follow", "--data", folder, settings=settings
        )
        wait_for(server, 20)
        write_visits(log, range(20, 25))
        wait_for(server, 25)
        server.kill()
        write_visits(log, range(25, 40))
        time.sleep(1.5)
        assert keeper.poll() is None, pho.output(keeper)
        server.start()
        wait_for(server, 40)
        assert "trying again" in pho.output(keeper)[1]
        keeper.send_signal(signal.SIGTERM)
        assert keeper.wait(30) == 0, pho.output(keeper)
        assert ": 40 visits" in pho.output(keeper)[0]
        tables = _opened(server)
        assert all_rows(tables) == wanted(log, tmp_path)
        tables.close()
    finally:
        server.close()
        log.close()


def _opened(server: Postgres) -> Any:
    until_s = time.monotonic() + WAIT_S
    while True:
        try:
            return opened("postgres", server.dsn("shop"))
        except (TablesDown, EngineBusy):
            assert time.monotonic() < until_s


@pytest.mark.timeout(120)
def test_files_follow_a_log_that_goes_on(pho: Any, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    write_shop(folder, 20).close()
    keepers = [
        pho.start("tables", "--to", kind, "--follow", "--seconds", 7, "--data", folder)
        for kind in ("sqlite", "parquet")
    ]
    time.sleep(2.0)
    log = EmbeddedLog(folder, SetClock(0), "NORMAL")
    for number in range(20, 40):
        write_visits(log, range(number, number + 1))
        time.sleep(0.05)
    for keeper in keepers:
        assert keeper.wait(60) == 0, pho.output(keeper)
    right = wanted(log, tmp_path)
    for kind, place in (("sqlite", folder / "tables.db"), ("parquet", folder / "tables")):
        tables = opened(kind, place)
        assert all_rows(tables) == right
        tables.close()
    log.close()
