"""Commands that look after a shop: what they print, and with which status they leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import worlds
from connectors.assets import ASSETS, asset_cache
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from schemas.streams import RECORDS, STREAMS

COMMANDS = (
    "demo", "run", "camera", "analyze", "ledger", "topics", "schemas", "dead-letters", "loops",
    "doctor", "ticks", "bridge", "archive", "backfill", "submit",
    "policy", "watch", "evaluate", "export", "replay", "receipt", "simulate", "forget",
    "up", "gateway", "keys", "tables", "uploads", "alarms", "demo-aws",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(pho: Any, command: str) -> None:
    ran = pho(command, "--help")
    assert ran.status == 0
    assert f"Example: pho {command}" in " ".join(ran.out.split())


def test_no_command_is_unknown_to_these_tests(pho: Any) -> None:
    listed = pho("--help").out.split("Commands")[1]
    names = [line.split()[1] for line in listed.splitlines() if line[:2] == "│ " and line[2] != " "]
    assert sorted(names) == sorted(COMMANDS)


@pytest.mark.parametrize(
    "line",
    [
        ("--no-such-option",),
        ("no-such-command",),
        ("demo", "--visits", "0"),
        ("demo", "--visits", "many"),
        ("demo", "--config", "none.toml"),
        ("camera", "recorded", "--notice", "everywhere"),
        ("topics", "no-such-stream"),
        ("schemas", "NoSuchRecord"),
        ("dead-letters", "--side", "frames"),
        ("dead-letters", "--side", "late", "--replay"),
        ("analyze",),
        ("ledger", "--data", "no-such-folder"),
        ("topics", "--data", "no-such-folder"),
        ("dead-letters", "--data", "no-such-folder"),
    ],
)
def test_wrong_usage_leaves_with_2_and_says_what_to_do(
    pho: Any, demo_folder: Path, line: tuple[str, ...]
) -> None:
    more = ("--data", demo_folder) if line[0] in ("topics", "dead-letters", "ledger") else ()
    ran = pho(line[0], *(() if "--data" in line else more), *line[1:])
    assert ran.status == 2
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert not Path("no-such-folder").exists()
    assert "do:" in ran.err or "Usage:" in ran.err


def test_debug_shows_the_traceback_wherever_it_stands(pho: Any) -> None:
    for line in (("--debug", "ledger"), ("ledger", "--debug")):
        ran = pho(*line)
        assert ran.status == 2
        assert "Traceback" in ran.err
        assert "holds no log" in ran.err


@pytest.mark.parametrize(
    "line",
    [
        ("ledger",),
        ("topics",),
        ("topics", "decisions"),
        ("schemas",),
        ("dead-letters",),
        ("loops",),
        ("doctor",),
    ],
)
def test_json_is_one_document_and_nothing_else(
    pho: Any, demo_folder: Path, line: tuple[str, ...]
) -> None:
    data = () if line == ("schemas",) else ("--data", demo_folder)
    ran = pho(*line, *data, "--json")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out) is not None
    assert ran.err == ""
    person = pho(*line, *data)
    assert person.status == 0
    assert person.out.strip()


def test_the_ledger_of_a_demo_is_balanced(pho: Any, demo_folder: Path) -> None:
    ran = pho("ledger", "--data", demo_folder, "--json")
    assert (ran.status, ran.json["balanced"], ran.json["decisions"]) == (0, True, 6)
    assert "balanced" in pho("ledger", "--data", demo_folder).out


def test_a_ledger_that_does_not_add_up_leaves_with_1(pho: Any, tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path, SetClock(worlds.START_MS))
    decision = worlds.decided("ghost", worlds.START_MS)
    log.append("outcomes", worlds.outcome(decision, 0.5))
    log.close()
    ran = pho("ledger", "--data", tmp_path, "--json")
    assert (ran.status, ran.json["balanced"]) == (1, False)
    assert ran.json["problems"] == ["an outcome has no decision: ghost"]
    person = pho("ledger", "--data", tmp_path)
    assert person.status == 1
    assert "does not add up" in person.out


def test_topics_count_every_stream_and_show_the_newest_records(pho: Any, demo_folder: Path) -> None:
    told = {each["stream"]: each["records"] for each in pho(
        "topics", "--data", demo_folder, "--json"
    ).json}  # fmt: skip
    assert told.keys() == STREAMS.keys()
    assert (told["decisions"], told["greetings"], told["frames"]) == (6, 6, 18)
    newest = pho("topics", "decisions", "--last", 2, "--data", demo_folder, "--json").json
    ids = [each["record"]["choice"]["decision_id"] for each in newest]
    assert ids == ["visit-1-00004", "visit-1-00005"]
    assert newest[0]["key"] == ids[0]


def test_topics_show_bytes_that_are_no_record_with_their_error(pho: Any, tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path)
    log.append_bytes([("frames", "key", b"foreign")])
    log.close()
    (told,) = pho("topics", "frames", "--data", tmp_path, "--json").json
    assert "error" in told
    assert "record" not in told


def test_schemas_are_listed_and_one_is_printed_as_released(pho: Any, repository: Path) -> None:
    listed = pho("schemas", "--json").json
    assert {each["record"] for each in listed} == set(RECORDS)
    avro = repository / "schemas" / "avro"
    assert len(listed) == len(list(avro.glob("*.avsc")))
    printed = pho("schemas", "DecisionMade").out
    newest = max(each["version"] for each in listed if each["record"] == "DecisionMade")
    assert printed == (avro / f"DecisionMade.v{newest}.avsc").read_text(encoding="utf-8")


def test_schemas_are_written_only_in_the_source_folder(pho: Any) -> None:
    ran = pho("schemas", "--write")
    assert ran.status == 2
    assert not Path("schemas").exists()


def test_loops_say_whether_the_log_knows_them(
    pho: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state() -> str:
        (loop,) = pho("loops", "--data", tmp_path / "shop", "--json").json
        return str(loop["state"])

    assert state() == "not in the log yet"
    assert pho("run", "--seconds", 0.2, "--data", tmp_path / "shop").status == 0
    assert state() == "in force"
    monkeypatch.setenv("PHO_LOOPS__GREETING__FLOOR", "0.2")
    assert state().startswith("changed")
    assert pho("run", "--seconds", 0.2, "--data", tmp_path / "shop").status == 0
    assert state() == "in force"


def test_doctor_finds_what_is_missing_and_what_is_broken(
    pho: Any, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pho("doctor", "--data", demo_folder).status == 0
    monkeypatch.setenv("PHO_CACHE", str(tmp_path / "empty"))
    ran = pho("doctor", "--data", demo_folder, "--json")
    assert ran.status == 3
    (models,) = [each for each in ran.json if each["what"] == "models"]
    assert models["state"] == "missing"
    assert models["cure"] == "pho doctor --fetch"
    (demo_folder / "pho.db").write_bytes(b"no database at all" * 100)
    ran = pho("doctor", "--data", demo_folder, "--json")
    assert ran.status == 1
    assert [each["state"] for each in ran.json if each["what"] == "log"] == ["broken"]


def test_doctor_leaves_what_it_looks_at_as_it_is(pho: Any, tmp_path: Path) -> None:
    assert pho("doctor", "--data", tmp_path / "none").status == 0
    assert not (tmp_path / "none").exists()


def test_fetching_contacts_nobody_when_all_is_there(
    pho: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {path.name for path in asset_cache().iterdir()} >= {
        asset.file_name for asset in ASSETS.values()
    }
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    assert pho("doctor", "--fetch", "--json").status == 0
