"""Shops whose visitors come one after the other, to be forgotten."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from connectors.logs import Row
from pipelines.topology import greeting_loop
from runs import EmbeddedRun
from schemas.codec import decode
from schemas.loops import LoopConfigured
from schemas.operations import Tick
from schemas.outcomes import OutcomeClosed, PolicySnapshot
from worlds import START_MS, captured, ended, loop, rewarded, shown

EVERY_MS = 9_000


def visit_id(number: int) -> str:
    """Return the id of a visit, long enough to be looked for everywhere."""
    return f"visit-{number:04d}-qzx"


def open_shop(folder: Path, config: LoopConfigured | None = None) -> EmbeddedRun:
    """Return a shop with its loop configured, at rest."""
    run = EmbeddedRun(greeting_loop(), folder, now_ms=START_MS)
    for stream in ("outcomes", "loops"):
        run.append(stream, config or loop())
    run.settle()
    return run


def receive(run: EmbeddedRun, number: int, *, close: bool = True) -> None:
    """Receive a visitor, who is greeted and seen, and sometimes rewards; some are never shown."""
    name, at_ms = visit_id(number), START_MS + (number + 1) * EVERY_MS
    run.set_time(at_ms)
    run.append("frames", captured(name, "pre", 0, at_ms, 0.1 + number % 5 / 10))
    run.settle()
    decision = next(decode(row.value) for row in run.log.scan("decisions", key=name))
    action_id = decision.choice.action_id
    if number % 8 != 7:
        run.append("impressions", shown(name, action_id, at_ms))
    if not close:
        run.settle()
        return
    run.set_time(at_ms + 1_200)
    happy = 0.9 if action_id == "a1" else 0.2
    run.append("frames", captured(name, "post", 1, at_ms + 1_200, happy))
    if number % 3 == 0:
        run.append("rewards", rewarded(name, 1, 0.5, at_ms + 1_200))
    run.settle()
    run.set_time(at_ms + 3_000)
    run.append("visits", ended(name, at_ms + 3_000, 1))
    run.settle()
    # After the close: a record that stands in `late`, whole.
    if number % 4 == 0:
        run.append("rewards", rewarded(name, 2, 0.5, at_ms + 3_000))
    run.settle()


def pass_time(run: EmbeddedRun, milliseconds: int) -> None:
    """Let time pass, with Ticks."""
    begin_ms = run.log.newest_log_time_ms()
    for at_ms in range(begin_ms + 1_000, begin_ms + milliseconds + 1, 1_000):
        run.set_time(at_ms)
        run.append("ticks", Tick(at_ms, "test"))
        run.settle()


def shop_of(folder: Path, visitors: Iterable[int], config: LoopConfigured | None = None) -> Path:
    """Play visitors to the end, and close the shop."""
    run = open_shop(folder, config)
    for number in visitors:
        receive(run, number)
    pass_time(run, 70_000)
    run.close()
    return folder


def taught_by(folder: Path, rows: Iterable[Row]) -> dict[str, PolicySnapshot]:
    """Return the policies of a new log that holds only these rows of `outcomes`."""
    run = EmbeddedRun(greeting_loop().only("learn"), folder, now_ms=START_MS)
    for row in rows:
        run.clock.set(row.log_time_ms)
        run.log.append_bytes([(row.stream, row.key, row.value)])
    run.set_time(run.clock() + 1)
    found = newest_policies(run)
    run.close()
    return found


def newest_policies(run: EmbeddedRun) -> dict[str, PolicySnapshot]:
    """Return the newest snapshot of each policy."""
    found: dict[str, PolicySnapshot] = {}
    for row in run.log.scan("policies"):
        snapshot: PolicySnapshot = decode(row.value)
        known = found.get(snapshot.policy_id)
        place = (snapshot.epoch, snapshot.version)
        if known is None or place >= (known.epoch, known.version):
            found[snapshot.policy_id] = snapshot
    return found


def outcomes_without(rows: Iterable[Row], *names: str) -> Iterator[Row]:
    """Yield rows of `outcomes` without some decisions."""
    for row in rows:
        value = decode(row.value)
        if not (isinstance(value, OutcomeClosed) and value.choice.decision_id in names):
            yield row


def traces(folder: Path, text: str) -> list[str]:
    """Return the files of a folder that hold a text, as it is or in hex, of either case."""
    told = text.encode()
    wanted = (told, told.hex().encode(), told.hex().upper().encode())
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(each in path.read_bytes() for each in wanted)
    ]


def reopened(folder: Path) -> EmbeddedRun:
    """Return the shop, opened again on the next day."""
    run = EmbeddedRun(greeting_loop(), folder)
    run.set_time(run.log.newest_log_time_ms() + 60_000)
    run.settle()
    return run


def with_subject(number: int, subject_hash: str) -> object:
    """Return the first frame of a visitor whom an application knows."""
    at_ms = START_MS + (number + 1) * EVERY_MS
    frame = captured(visit_id(number), "pre", 0, at_ms, 0.3)
    return dataclasses.replace(frame, subject_hash=subject_hash)
