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
from one_key_runs import smallest_quarrel
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


def differences(name: str, logs: Sequence[Log], given_out: Counter[Said]) -> str:
    """Say what is missing and what is too much, and of which log; nothing: all is as it must be."""
    wanted = sum_of(name, logs)
    missing, extra = _by_log(wanted - given_out), _by_log(given_out - wanted)
    wrong = sorted(missing.keys() | extra.keys())
    if not wrong:
        return ""
    lines = [f"{name}: {len(wrong)} of {len(logs)} logs (seed {SEED}) have another answer: {wrong}"]
    for number in wrong[:2]:
        lines += [f"log {number}", f"missing: {_shown(missing.get(number, Counter()))}"]
        lines += [f"too much: {_shown(extra.get(number, Counter()))}"]
        lines += [f"the log: {log.entries}" for log in logs if log.number == number]
    (first, *_) = [log for log in logs if log.number == max(wrong[0], 0)]
    small = smallest_quarrel(name, first.entries)
    lines += [f"engines/one_key.py quarrels with the reference over {small}"] * bool(small)
    lines += ["engines/one_key.py answers it rightly: look at what lies around it"] * (not small)
    return "\n".join(line[:4_000] for line in lines)


def sum_of(name: str, logs: Iterable[Log]) -> Counter[Said]:
    """Return what the reference gives out for some logs."""
    total: Counter[Said] = Counter()
    for log in logs:
        total.update(wanted_of(name, log))
    return total


def _by_log(told: Counter[Said]) -> dict[int, Counter[Said]]:
    """Sort by log; -1: it belongs to none."""
    found: dict[int, Counter[Said]] = {}
    for each, count in told.items():
        match = _NUMBER.search(each[1]) or _NUMBER.search(each[2].decode("latin-1"))
        found.setdefault(int(match[1]) if match else -1, Counter())[each] = count
    return found


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
