"""The commands `pho archive` and `pho backfill`: what they print, and how they leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from connectors.archive import MANIFEST, ArchiveReader
from connectors.embedded_log import EmbeddedLog
from history import Played
from schemas.errors import UsageError
from serving import history_commands


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    app = typer.Typer()
    history_commands.register(app)
    return app


def ran(app: typer.Typer, *arguments: object, status: int = 0) -> Any:
    """Run a line; return its JSON, or its text."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return json.loads(result.stdout) if "--json" in arguments else result.stdout


def test_a_shop_is_archived_and_its_outcomes_are_rebuilt_and_checked(
    app: typer.Typer, played: Played, tmp_path: Path
) -> None:
    shop, archive = played.archive.parent / "log", tmp_path / "archive"
    line = ("archive", "--archive", archive, "--data", shop)
    told = ran(app, *line, "--until", "now", "--no-tables", "--json")
    rows = list(EmbeddedLog(shop).scan())
    assert (told["rows"], told["days"]) == (len(rows), ["2026-01-05"])
    assert list(ArchiveReader(archive).scan()) == rows
    assert "0 records in 0 files" in ran(app, *line, "--until", "now", "--no-tables")
    told = ran(
        app, "backfill", "--archive", archive, "--out", tmp_path / "out", "--check", "--json"
    )
    assert told["check"] == {
        "same": 60,
        "different": [],
        "missing": [],
        "ahead": 0,
        "equal": True,
    }


def test_outcomes_that_differ_leave_with_1_and_are_named(
    app: typer.Typer, played: Played, tmp_path: Path
) -> None:
    # An archive whose rewards are gone: their outcomes are other ones.
    archive = tmp_path / "archive"
    archive.mkdir()
    for path in played.archive.iterdir():
        (archive / path.name).symlink_to(path)
    (archive / MANIFEST).unlink()
    told = json.loads((played.archive / MANIFEST).read_text())
    told["parts"] = [part for part in told["parts"] if part["stream"] != "rewards"]
    (archive / MANIFEST).write_text(json.dumps(told))
    text = ran(
        app, "backfill", "--archive", archive, "--out", tmp_path / "out", "--check", status=1
    )
    assert "differs" in text
    assert "v3" in text


def test_wrong_usage_says_what_to_do(app: typer.Typer, played: Played, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Use deflate or zstandard"):
        ran(app, "archive", "--archive", tmp_path, "--codec", "lzw")
    shop = played.archive.parent / "log"
    with pytest.raises(UsageError, match="Write now, or a day"):
        ran(app, "archive", "--archive", tmp_path / "a", "--data", shop, "--until", "soon")
    with pytest.raises(UsageError, match="holds no archive"):
        ran(app, "backfill", "--archive", tmp_path, "--out", tmp_path / "out")
