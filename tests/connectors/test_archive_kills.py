"""`kill -9` of an archiver at any step, again and again: the archive is as if nobody had.

KILLS=200 SEED=3 python -m pytest tests/connectors/test_archive_kills.py   # a long campaign
"""

from __future__ import annotations

import os
import random
import signal
from multiprocessing import get_context
from pathlib import Path

from archiving import archive_here, write_days
from connectors.archive import ArchiveReader

KILLS = int(os.environ.get("KILLS", "40"))
SEED = int(os.environ.get("SEED", "1"))
DAYS = 3
UNTIL = ("now", "now", "", "2026-01-06")
"""How far a run is to go: the next may be asked for less."""
# A child that starts where the test stands: a new interpreter would take a second for each kill.
FORK = get_context("fork")
# Where it ends itself, and how often a whole run comes there, about.
STEPS = {"row": 200, "part.written": 30, "part.published": 30, "manifest.before": 4}


def published(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return every part with its inode and the time it was written."""
    return {
        path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("part-*.avro")
    }


def test_an_archiver_killed_anywhere_goes_on_where_it_stopped(tmp_path: Path) -> None:
    chance = random.Random(SEED)  # noqa: S311 - a place to kill at, no secret
    log = write_days(tmp_path / "log", DAYS)
    wanted = list(log.scan())
    log.close()
    killed = round_number = 0
    while killed < KILLS:
        folder = tmp_path / f"archive-{round_number}"
        round_number += 1
        before: dict[Path, tuple[int, int]] = {}
        while True:
            step = chance.choice(list(STEPS))
            # Small numbers often: it dies again and again before anything is done.
            number = 1 + int(STEPS[step] * chance.random() ** 2) if killed < KILLS else 10**9
            process = FORK.Process(
                target=archive_here,
                args=(tmp_path / "log", folder, f"{step}:{number}", chance.choice(UNTIL)),
            )
            process.start()
            process.join(60)
            after = published(folder)
            assert {path: after[path] for path in before} == before, f"SEED={SEED}"
            before = after
            if process.exitcode == 0:
                if killed >= KILLS or chance.random() < 0.5:
                    break
                continue
            assert process.exitcode == -signal.SIGKILL, f"SEED={SEED}"
            killed += 1
        archive_here(tmp_path / "log", folder, "", "now")
        reader = ArchiveReader(folder)
        assert list(reader.scan()) == wanted, f"SEED={SEED}"
        assert not list(folder.rglob("*.tmp"))
