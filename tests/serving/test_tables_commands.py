"""`pho tables` and `pho export --table`, as their users run them."""

from __future__ import annotations

import csv
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from analysts import VISIT_ZERO_LANGUAGE, write_shop
from connectors.tables_schema import TABLES, VISITS
from postgres import shared_postgres
from serving.settings import load


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a shop of thirty visitors."""
    write_shop(tmp_path / "shop", 30).close()
    return tmp_path / "shop"


def test_tables_and_their_check(pho: Any, shop: Path, tmp_path: Path) -> None:
    done = pho("tables", "--data", shop)
    assert done.status == 0, done.err
    assert done.out.startswith(f"{shop}/tables.db: 30 visits, 28 decisions, ")
    assert "3 records could not be read" in done.err
    assert pho("tables", "check", "--data", shop).status == 0
    out = tmp_path / "elsewhere"
    told = pho("tables", "--to", "parquet", "--out", out, "--data", shop, "--json").json
    assert told["place"] == str(out)
    assert told["rows"]["visits"] == 30
    assert told["records"]["decisions"] == 28 + 4 + 3, "with repeats and odd ones"
    checked = pho("tables", "check", "--to", "parquet", "--out", out, "--data", shop, "--json")
    assert checked.status == 0
    assert checked.json["equal"] is True


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("DELETE FROM decisions WHERE rowid = 3", "missing"),
        ("UPDATE outcomes SET reward = reward + 1e-9 WHERE rowid = 5", "different"),
        ("UPDATE greetings_daily SET decisions = decisions + 1 WHERE rowid = 1", "different"),
        ("INSERT INTO visits (visit_id, day) VALUES ('made-up', '2026-01-05')", "extra"),
        ("UPDATE policy_history SET learned = 0", "different"),
    ],
)
def test_what_does_not_add_up_is_found(pho: Any, shop: Path, change: str, what: str) -> None:
    assert pho("tables", "--data", shop).status == 0
    with sqlite3.connect(shop / "tables.db") as db:
        db.execute(change)
    db.close()
    found = pho("tables", "check", "--data", shop, "--json")
    assert found.status == 1
    wrong = [each for each in found.json["tables"].values() if each[what]]
    assert len(wrong) == 1
    assert wrong[0]["such_as"][0].startswith(what)
    shown = pho("tables", "check", "--data", shop)
    assert shown.status == 1
    assert "differs" in shown.out


def test_what_is_new_since_is_told_and_no_error(pho: Any, shop: Path) -> None:
    assert pho("tables", "--data", shop).status == 0
    write_more(shop)
    checked = pho("tables", "check", "--data", shop)
    assert checked.status == 0
    assert "newer records are not read yet" in checked.err


def write_more(shop: Path) -> None:
    from analysts import write_visits
    from connectors.clocks import SetClock
    from connectors.embedded_log import EmbeddedLog

    log = EmbeddedLog(shop, SetClock(0), "OFF")
    write_visits(log, range(30, 33))
    log.close()


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--to", "excel"), 2, "sqlite, parquet, postgres"),
        (("--to", "postgres"), 2, "PHO_TABLES__POSTGRES"),
        (("--to", "postgres", "--out", "x"), 2, "neither"),
        (("--out", "."), 2, "is a folder"),
        (("--out", "/proc/nowhere/tables.db"), 3, "permissions"),
        (("--seconds", "3"), 2, "Add --follow"),
        (("--data", "nowhere"), 2, "holds no log"),
        (("check", "--out", "nowhere.db"), 3, "pho tables"),
        (("check", "--to", "parquet", "--out", "nowhere"), 3, "pho tables"),
    ],
)
def test_wrong_input_says_what_to_do(
    pho: Any, shop: Path, arguments: tuple[str, ...], status: int, told: str
) -> None:
    data = () if "--data" in arguments else ("--data", shop)
    done = pho("tables", *arguments, *data)
    assert (done.status, done.out) == (status, ""), done.err
    assert told in done.err
    assert not Path("nowhere").exists()


def test_a_password_is_never_shown(pho: Any, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in (
        "postgresql://pho:hush-hush@127.0.0.1:1/shop",
        "host=127.0.0.1 port=1 password=hush-hush",
        "hush-hush",
    ):
        monkeypatch.setenv("PHO_TABLES__POSTGRES", address)
        done = pho("--debug", "tables", "--to", "postgres", "--data", shop)
        assert done.status in (2, 3)
        assert "hush" not in done.out + done.err.replace(f"'{address}'", "")
        assert "hush" not in repr(load())


@pytest.mark.parametrize("schema", ["Shop", "1shop", "pg_shop", "", "a;b", "x" * 64])
def test_a_schema_that_cannot_be_is_refused(pho: Any, shop: Path, schema: str) -> None:
    Path("pho.toml").write_text(f"[tables]\nschema = '{schema}'\n")
    done = pho("tables", "--data", shop)
    assert done.status == 2
    assert "tables.schema" in done.err


def test_a_schema_of_ones_own(pho: Any, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHO_TABLES__POSTGRES", shared_postgres().new_database())
    monkeypatch.setenv("PHO_TABLES__SCHEMA", "shop_7")
    monkeypatch.setenv("PHO_TABLES__TO", "postgres")
    done = pho("tables", "--data", shop)
    assert done.status == 0, done.err
    assert "(schema shop_7): 30 visits" in done.out
    assert pho("tables", "check", "--data", shop).status == 0


def test_csv_is_what_the_tables_say_and_no_formula(pho: Any, shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "csv"
    done = pho("export", "--table", "all", "--format", "csv", "--out", out, "--data", shop)
    assert done.status == 0, done.err
    assert {path.stem for path in out.iterdir()} == set(TABLES)
    with (out / "visits.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    assert tuple(rows[0]) == VISITS.names
    assert rows[1]["started_at"] == "2026-01-05 09:00:00.000"
    assert rows[1]["local_hour"] == "11"
    assert rows[0]["language"] == VISIT_ZERO_LANGUAGE.replace("=", "'=", 1)
    with (out / "outcomes.csv").open(encoding="utf-8-sig", newline="") as file:
        outcome = next(csv.DictReader(file))
    assert outcome["control"] in ("true", "false")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--format", "csv", "--out", "x.csv"), "--table"),
        (("--table", "people", "--format", "csv", "--out", "x.csv"), "visits, decisions"),
        (("--table", "visits", "--out", "x.csv"), "csv or parquet"),
        (("--table", "visits", "--format", "csv", "--out", "no/x.csv"), "Make it first"),
        (("--table", "visits", "--format", "csv", "--out", "x.csv", "--loop", "a"), "loop_id"),
    ],
)
def test_an_export_that_cannot_be_says_why(
    pho: Any, shop: Path, arguments: tuple[str, ...], told: str
) -> None:
    done = pho("export", *arguments, "--data", shop)
    assert done.status == 2
    assert told in done.err


def test_parquet_of_one_table(pho: Any, shop: Path, tmp_path: Path) -> None:
    from connectors.tables_parquet import read_file

    path = tmp_path / "visits.parquet"
    form = ("--table", "visits", "--format", "parquet")
    done = pho("export", *form, "--out", path, "--data", shop, "--json")
    assert done.json["files"] == {str(path): 30}
    assert len(read_file(path, VISITS)) == 30
