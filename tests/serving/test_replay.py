"""A replay says `identical` of a log that nobody touched, and names whatever was altered."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archiving import PartitionedLog
from brokers import fresh_address, shared_broker
from connectors.archive import ArchiveReader
from connectors.embedded_log import FILE_NAME, EmbeddedLog
from connectors.logs import Row
from engines.embedded import EmbeddedEngine
from history import play_and_archive
from pipelines.topology import greeting_loop
from replayed import counts, rows_of, verdicts, with_bit, write
from schemas.codec import decode, encode
from schemas.outcomes import OutcomeClosed
from serving.replay.running import ERASED, replay
from serving.replay.verdicts import GONE

VISITS = 24


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a log of visits of every kind, in `log`, and its archive."""
    folder = tmp_path_factory.mktemp("played")
    play_and_archive(folder, VISITS)
    return folder


@pytest.fixture
def folder(played: Path, tmp_path: Path) -> Path:
    """Return a copy of the log that may be altered."""
    return Path(shutil.copytree(played / "log", tmp_path / "log"))


def test_a_log_that_nobody_touched_is_identical(played: Path) -> None:
    told = verdicts(played / "log")
    assert told.holds
    assert counts(told) == [("outcomes", VISITS, 0), ("policies", 1, 0), ("decisions", VISITS, 0)]
    assert not any(verdict.beside for verdict in told.verdicts)


def test_so_is_its_archive(played: Path) -> None:
    told = replay(ArchiveReader(played / "archive"))
    assert told.holds
    assert counts(told)[0] == ("outcomes", VISITS, 0)
    assert counts(told)[2] == ("decisions", VISITS, 0)


def test_what_stands_there_twice_counts_once(folder: Path) -> None:
    log = EmbeddedLog(folder)
    outcomes = [r for r in log.scan("outcomes") if isinstance(decode(r.value), OutcomeClosed)]
    decision = next(log.scan("decisions"))
    made = decode(decision.value)
    other = dataclasses.replace(made, box_before=None)
    again = [("outcomes", row.key, row.value) for row in outcomes]
    log.append_bytes([*again, ("decisions", decision.key, encode(other))])
    log.close()
    told = verdicts(folder)
    assert told.holds
    assert told.verdicts[0].identical == VISITS
    assert told.verdicts[2].beside == {"repeated or newer": 1}


def test_a_record_under_a_wrong_key_is_no_difference(folder: Path) -> None:
    log = EmbeddedLog(folder)
    # Whoever took them would open their windows anew.
    wrong = [("decisions", "another", row.value) for row in log.scan("decisions")]
    log.append_bytes(wrong)
    engine = EmbeddedEngine(log, greeting_loop())
    engine.run_to_rest()
    engine.close()
    letters = [decode(row.value) for row in log.last("dead-letters", len(wrong))]
    log.close()
    assert [letter.reason for letter in letters] == ["WrongKey"] * len(wrong)
    told = verdicts(folder)
    assert told.holds
    assert counts(told)[0] == ("outcomes", VISITS, 0)


def test_a_log_of_many_partitions_with_repeats_is_identical(played: Path) -> None:
    told = replay(PartitionedLog(_spread(rows_of(played / "log")), _end_ms(played / "log")))
    assert told.holds, told.document()
    assert [told.verdicts[place].identical for place in (0, 2)] == [VISITS, VISITS]


def _end_ms(folder: Path) -> int:
    return max(row.log_time_ms for row in rows_of(folder))


def _spread(rows: list[Row]) -> list[Row]:
    """Return a log as Kafka has it: partitions by key, some records written twice."""
    ends: Counter[tuple[str, int]] = Counter()
    found = []
    for number, row in enumerate(rows):
        twice = row.stream in ("decisions", "outcomes", "policies", "late") and number % 3 == 0
        for _ in range(1 + twice):
            place = row.stream, zlib.crc32(row.key.encode()) % 3
            found.append(row._replace(partition=place[1], position=ends[place]))
            ends[place] += 1
    return found


def test_what_retention_took_is_counted_and_held_against_nobody(folder: Path) -> None:
    decisions = rows_of(folder, "decisions")
    cut = decisions[VISITS // 2].position
    with sqlite3.connect(folder / FILE_NAME) as db:
        loops = "(SELECT id FROM streams WHERE name = 'loops')"
        db.execute(f"DELETE FROM log WHERE position < ? AND stream NOT IN {loops}", (cut,))  # noqa: S608
    db.close()
    told = verdicts(folder)
    assert told.holds, told.document()
    assert told.verdicts[1].beside == {GONE: 1}
    left = VISITS - VISITS // 2
    fallbacks = sum(decode(row.value).choice.mode == "fallback" for row in decisions[-left + 1 :])
    assert told.verdicts[2].identical == fallbacks
    assert told.verdicts[2].beside == {GONE: left - fallbacks}
    assert told.verdicts[0].identical >= left - 1
    assert set(told.verdicts[0].beside) <= {GONE}


_ELSEWHERE = """
import json, sys
from hashlib import blake2b
import numpy as np
from pathlib import Path
from connectors.embedded_log import EmbeddedLog
from serving.replay.verdicts import GONE
from serving.replay.running import replay

log = EmbeddedLog(Path(sys.argv[1]))
exact, near = (replay(log, tolerance_ppb).document() for tolerance_ppb in (0, 2))
numbers = np.random.default_rng(0).normal(size=100_000)
bits = [function(numbers).tobytes() for function in (np.exp, np.tanh)]
print(json.dumps({"exact": exact, "near": near, "bits": blake2b(b"".join(bits)).hexdigest()}))
"""


def _elsewhere(folder: Path, repository: Path, **environment: str) -> Any:
    """Replay a log in a process that takes this machine for another."""
    mine = {name: text for name, text in os.environ.items() if not name.startswith("PHO_")}
    ran = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, str(folder)],
        env={**mine, "PYTHONPATH": str(repository), **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(ran.stdout)


def test_without_the_processors_features_policies_are_the_same_bytes(
    played: Path, repository: Path
) -> None:
    features = np._core._multiarray_umath.__cpu_dispatch__  # type: ignore[attr-defined]
    here = _elsewhere(played / "log", repository)
    there = _elsewhere(played / "log", repository, NPY_DISABLE_CPU_FEATURES=" ".join(features))
    # Wrong names are ignored without a word: then this would compare a machine with itself. Without
    # AVX-512 `exp` is the C library's, and only `tanh` tells.
    assert there["bits"] != here["bits"]
    assert here["exact"]["holds"]
    assert there["exact"]["outcomes"]["holds"]
    assert there["exact"]["policies"]["holds"]
    assert there["exact"]["policies"]["identical"] == 1
    assert there["near"]["decisions"]["holds"], there["near"]["decisions"]
    assert there["near"]["decisions"]["identical"] == VISITS


def test_with_another_linear_algebra_policies_are_the_same_bytes(
    played: Path, repository: Path
) -> None:
    there = _elsewhere(played / "log", repository, OPENBLAS_CORETYPE="Prescott")
    assert there["exact"]["policies"]["holds"]
    assert there["near"]["decisions"]["holds"], there["near"]["decisions"]


def test_the_command_says_what_holds_and_what_does_not(pho: Any, demo_folder: Path) -> None:
    ran = pho("replay", "--data", demo_folder)
    assert (ran.status, ran.err.strip()) == (0, "")
    assert [line.split()[:2] for line in ran.out.splitlines()] == [
        ["outcomes", "identical"],
        ["policies", "identical"],
        ["decisions", "identical"],
    ]
    told = pho("replay", "--data", demo_folder, "--json").json
    assert (told["holds"], told["decisions"]["identical"]) == (True, 6)
    row = rows_of(demo_folder, "decisions")[4]
    write(demo_folder, row.position, with_bit(row.value, len(row.value) - 3, 2))
    ran = pho("replay", "--data", demo_folder)
    assert ran.status == 1
    assert row.key in ran.out
    told = pho("replay", "--data", demo_folder, "--json")
    assert (told.status, told.json["holds"], told.json["decisions"]["holds"]) == (1, False, False)


def test_the_command_refuses_what_is_no_log(pho: Any, tmp_path: Path) -> None:
    assert pho("replay", "--data", tmp_path).status == 2
    assert pho("replay", "--archive", tmp_path).status == 2
    assert pho("replay", "--archive", tmp_path, "--data", tmp_path).status == 2


@pytest.mark.slow
def test_a_log_on_kafka_replays_and_tells_as_its_folder_does(pho: Any, demo_folder: Path) -> None:
    address = fresh_address(shared_broker().bootstrap)
    assert pho("topics", "create", "--bridged", "--log", address).status == 0
    assert pho("bridge", "--from", demo_folder, "--log", address).status == 0
    told = pho("replay", "--log", address, "--json")
    assert told.status == 0, told.out
    assert [told.json[what]["identical"] for what in ("outcomes", "decisions")] == [6, 6]
    name = rows_of(demo_folder, "decisions")[3].key
    on_kafka = pho("receipt", name, "--log", address, "--json").json
    in_folder = pho("receipt", name, "--data", demo_folder, "--json").json
    assert {**on_kafka, "log": ""} == {**in_folder, "log": ""}


def test_a_log_somebody_was_forgotten_in_is_identical(pho: Any, demo_folder: Path) -> None:
    name = rows_of(demo_folder, "decisions")[3].key
    assert pho("forget", name, "--data", demo_folder).status == 0
    told = pho("replay", "--data", demo_folder, "--json")
    assert told.status == 0, told.out
    assert told.json["outcomes"]["identical"] == 5
    assert told.json["policies"]["identical"] == 1
    assert told.json["decisions"]["not_compared"] == {ERASED: 5}
    assert pho("receipt", name, "--data", demo_folder).status == 1
