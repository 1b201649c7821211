"""Whoever is forgotten leaves the tables too: no byte in files, no row in Postgres."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from analysts import all_rows, opened, wanted
from brokers import fresh_topics, open_log, shared_broker
from connectors.embedded_log import EmbeddedLog
from connectors.erasure_key import make_key
from connectors.tables_schema import POLICY_HISTORY
from forgetful import shop_of, traces, visit_id
from postgres import shared_postgres

NAME = visit_id(5)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a shop that ten visitors have left."""
    return shop_of(tmp_path / "shop", range(10))


def test_no_byte_of_the_forgotten_stays_in_files(pho: Any, shop: Path, tmp_path: Path) -> None:
    for kind in ("sqlite", "parquet"):
        assert pho("tables", "--to", kind, "--data", shop).status == 0
    assert traces(shop, NAME), "it stands there before"
    before = (shop / "tables/visits/2026-01-05.parquet").read_bytes()
    log = EmbeddedLog(shop)
    old = wanted(log, tmp_path)
    log.close()
    assert pho("forget", NAME, "--data", shop).status == 0
    left = pho("tables", "check", "--data", shop)
    assert left.status == 1, "the tables say so while they have not met it"
    assert "not taken out yet" in left.out
    for kind in ("sqlite", "parquet"):
        done = pho("tables", "--to", kind, "--data", shop, "--json")
        assert done.status == 0, done.err
        assert done.json["rows"]["visits"] == 9
    assert traces(shop, NAME) == []
    assert (shop / "tables/visits/2026-01-05.parquet").read_bytes() != before
    for kind in ("sqlite", "parquet"):
        checked = pho("tables", "check", "--to", kind, "--data", shop, "--json")
        assert checked.status == 0, checked.out
    log = EmbeddedLog(shop)
    new = wanted(log, tmp_path, shop)
    log.close()
    assert new["greetings_daily"] != old["greetings_daily"]
    epochs = {row[POLICY_HISTORY.place("epoch")] for row in new["policy_history"]}
    assert epochs == {0, 1}, "what was learned again stands in an epoch of its own"
    learned = POLICY_HISTORY.place("learned")
    (first,) = [row for row in new["policy_history"] if row[POLICY_HISTORY.place("epoch")] == 0]
    assert first[learned] == old["policy_history"][0][learned] - 1  # type: ignore[operator]
    stale = old["policy_history"][0][POLICY_HISTORY.place("checksum")]
    assert traces(shop / "tables", str(stale)) == [], "nothing of what had learned from them"


def test_a_reader_in_the_way_delays_the_last_bytes_and_no_longer(pho: Any, shop: Path) -> None:
    assert pho("tables", "--data", shop).status == 0
    reader = sqlite3.connect(shop / "tables.db", isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT COUNT(*) FROM visits").fetchone() == (10,)
    assert pho("forget", NAME, "--data", shop).status == 0
    assert pho("tables", "--data", shop).status == 0, "a dashboard must not stop the consumer"
    reader.execute("ROLLBACK")
    assert reader.execute("SELECT COUNT(*) FROM visits").fetchone() == (9,)
    assert traces(shop, NAME), "its bytes are still in the file that was in use"
    assert pho("tables", "--data", shop).status == 0
    assert traces(shop, NAME) == []
    reader.close()


def test_no_row_of_the_forgotten_stays_in_postgres(
    pho: Any, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = shared_postgres().new_database()
    monkeypatch.setenv("PHO_TABLES__POSTGRES", dsn)
    assert pho("tables", "--to", "postgres", "--data", shop).status == 0
    assert pho("forget", NAME, "--data", shop).status == 0
    assert pho("tables", "--to", "postgres", "--data", shop).status == 0
    for table in ("visits", "decisions", "outcomes"):
        with psycopg.connect(dsn) as db:
            rows = db.execute(f"SELECT * FROM pho.{table}".encode()).fetchall()  # noqa: S608 - ours
        assert len(rows) == 9
        assert NAME not in str(rows)
    log = EmbeddedLog(shop)
    tables = opened("postgres", dsn)
    assert all_rows(tables) == wanted(log, tmp_path, shop)
    tables.close()
    log.close()


def test_without_the_key_nothing_is_written(pho: Any, shop: Path) -> None:
    assert pho("tables", "--data", shop).status == 0
    assert pho("forget", NAME, "--data", shop).status == 0
    key = (shop / "erasure.key").read_bytes()
    (shop / "erasure.key").unlink()
    refused = pho("tables", "--data", shop)
    assert refused.status == 3
    assert "erasure.key" in refused.err
    (shop / "erasure.key").write_bytes(key)
    (shop / "erasure.key").chmod(0o600)
    assert pho("tables", "--data", shop).status == 0


def test_on_kafka_the_records_stay_and_the_rows_go(
    pho: Any, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHO_KAFKA__CLIENT", "confluent")
    broker = shared_broker()
    with fresh_topics(broker.bootstrap, bridged=True) as address:
        data = tmp_path / "data"
        make_key(data / "erasure.key")
        copied = pho("bridge", "--from", shop, "--log", address)
        assert copied.status == 0, copied.err
        first = pho("tables", "--log", address, "--data", data, "--json")
        assert first.status == 0, first.err
        assert first.json["rows"]["visits"] == 10
        with open_log(address) as log, closing(EmbeddedLog(shop)) as source:
            assert wanted(log, tmp_path) == wanted(source, tmp_path)
        assert pho("forget", NAME, "--log", address, "--data", data).status == 0
        second = pho("tables", "--log", address, "--data", data, "--json")
        assert second.status == 0, second.err
        assert second.json["rows"]["visits"] == 9
        assert traces(data, NAME) == []
        checked = pho("tables", "check", "--log", address, "--data", data)
        assert checked.status == 0, checked.out
