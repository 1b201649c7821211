"""Many logs as one: each with ids of its own, so that one job answers them all side by side."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from connectors.logs import Row
from join_scripts import Entry
from operator_logs import LEARNING_CONFIGS, LOGS, answer_of
from pipelines.operators import Keyed
from pipelines.topology import greeting_loop
from schemas.codec import decode, encode
from schemas.loops import with_hash
from schemas.operations import SideRecord
from schemas.streams import SIDE_STREAMS, key_of
from worlds import START_MS

Said = tuple[str, str, bytes]
"""Stream, key and bytes of a record given out."""
Place = tuple[str, int, int]
"""Stream, partition and offset."""
SEED = 20_260_111
"""What the corpora are drawn with."""
STRETCH_MS = 300_000
"""Log time of one log: longer than any of them lasts."""
_ID = re.compile(r"v\d+(\..*)?")
_NUMBER = re.compile(r"log(\d+)")


@dataclass(frozen=True, slots=True)
class Log:
    """One log among many."""

    number: int
    """Its place in the corpus; its ids begin with ``log`` and this number."""
    entries: list[Entry]
    """Its records."""


def drawn(name: str, count: int) -> list[list[Entry]]:
    """Return logs for an operator, the same ones each time."""
    logs: list[list[Entry]] = []

    @seed(SEED)
    @settings(max_examples=count, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(LOGS[name])
    def keep(entries: list[Entry]) -> None:
        logs.append(entries)

    keep()
    return logs


def corpus(name: str, count: int, stretch_ms: int = STRETCH_MS) -> list[Log]:
    """Return logs with disjoint keys, one after the other; all at the same time for stretch 0."""
    return [
        Log(number, [_moved(entry, number, number * stretch_ms) for entry in entries])
        for number, entries in enumerate(drawn(name, count))
    ]


def part_of(name: str) -> Keyed:
    """Return an operator of the greeting loop."""
    return next(part for part in greeting_loop().keyed if part.name == name)


def rows_of(name: str, logs: Iterable[Log]) -> list[Row]:
    """Return what an operator reads of many logs, in the order of log time.

    A row's position is the number of its log times 10,000 and its place there. Configurations are
    the same in all logs; the first is enough.
    """
    inputs = (*part_of(name).inputs, "ticks")
    rows = [
        Row(
            10_000 * log.number + place, e.stream, key_of(e.value, e.stream), at_ms, encode(e.value)
        )
        for log in logs
        for place, e in enumerate(log.entries)
        if e.stream in inputs
        for at_ms in (e.log_time_ms,)
    ]
    return sorted(rows, key=lambda row: row.log_time_ms)


def wanted_of(name: str, log: Log) -> Counter[Said]:
    """Return what the reference gives out for a log."""
    run = answer_of(name, log.entries)
    streams = (*part_of(name).outputs, *SIDE_STREAMS)
    return Counter((s, key, data) for s in streams for key, _, data in run.out(s))


def said(stream: str, key: str, data: bytes, position_of: dict[Place, int]) -> Said:
    """Return a record given out on Kafka as the reference says it: places are those of its log."""
    value = decode(data)
    if isinstance(value, SideRecord):
        position = position_of[value.stream, value.partition, value.offset]
        data = encode(replace(value, partition=0, offset=position % 10_000))
    return stream, key, data


def number_of(told: Said) -> int | None:
    """Return the log that something given out belongs to."""
    found = _NUMBER.search(told[1]) or _NUMBER.search(told[2].decode("latin-1"))
    return int(found[1]) if found else None


def differences(name: str, logs: Sequence[Log], given_out: Counter[Said]) -> list[str]:
    """Say of which logs something is missing, and of which there is too much."""
    wanted = {log.number: wanted_of(name, log) for log in logs}
    all_wanted = sum(wanted.values(), Counter[Said]())
    lines = []
    for log in logs:
        missing = wanted[log.number] - given_out
        extra = Counter(
            {t: n for t, n in (given_out - all_wanted).items() if number_of(t) == log.number}
        )
        if missing or extra:
            lines.append(
                f"{name}, log {log.number} (seed {SEED}): missing {_shown(missing)}, "
                f"too much {_shown(extra)}; the log: {log.entries}"
            )
    nobody = [told for told in given_out - all_wanted if number_of(told) is None]
    return lines + [f"{name}: of no log: {_shown(Counter(nobody))}"] * bool(nobody)


def _shown(told: Counter[Said]) -> str:
    return str([(stream, key, decode(data), n) for (stream, key, data), n in told.items()])


def _moved(entry: Entry, number: int, shift_ms: int) -> Entry:
    names = {}
    if entry.stream == "outcomes":
        loop_id = f"log{number}"
        names = {"greeting": loop_id}
        for config in LEARNING_CONFIGS:
            other = with_hash(replace(config, loop_id=loop_id))
            names[config.config_hash] = other.config_hash
    if entry.stream == "loops":
        return Entry(entry.log_time_ms, entry.stream, entry.value)
    value = _renamed(entry.value, f"log{number}.", shift_ms, names)
    return Entry(entry.log_time_ms + shift_ms, entry.stream, value)


def _renamed(value: Any, prefix: str, shift_ms: int, names: dict[str, str]) -> Any:
    match value:
        case str() if _ID.fullmatch(value):
            return prefix + value
        case str():
            return names.get(value, value)
        # Times of this log; those of 1970 and 2100 stay where they are.
        case int() if abs(value - START_MS) <= STRETCH_MS:
            return value + shift_ms
        case tuple():
            return tuple(_renamed(each, prefix, shift_ms, names) for each in value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            changes = {f.name: getattr(value, f.name) for f in fields(value)}
            changed = {k: _renamed(v, prefix, shift_ms, names) for k, v in changes.items()}
            return replace(value, **changed)
        case _:
            return value
