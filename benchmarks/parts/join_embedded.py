"""The embedded engine, as a shop has it: SQLite, synchronous=FULL, exactly once."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter

from benchmarks.parts.join_case import Given, Run
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.logs import Row
from engines.embedded import EmbeddedEngine
from pipelines.topology import greeting_loop
from schemas.streams import SIDE_STREAMS


def _append(log: EmbeddedLog, clock: SetClock, rows: list[Row]) -> None:
    for at_ms, batch in groupby(rows, attrgetter("log_time_ms")):
        clock.set(at_ms)
        log.append_bytes([(row.stream, row.key, row.value) for row in batch])
    clock.set(rows[-1].log_time_ms + 1)


def _given(log: EmbeddedLog, after: int) -> list[Given]:
    rows = log.scan("outcomes", *SIDE_STREAMS, after=after)
    return [(row.stream, row.key, row.value) for row in rows]


def main() -> None:
    """Run it."""
    run = Run()
    clock = SetClock()
    log = EmbeddedLog(run.folder, clock, "FULL")
    with run.laying():
        _append(log, clock, run.warm_up.rows)
    engine = EmbeddedEngine(log, greeting_loop().only("join"), None)
    engine.run_to_rest()
    warm_up = _given(log, 0)
    with run.laying():
        _append(log, clock, run.measured.rows)
    end = log.end().position
    with run.measuring():
        engine.run_to_rest()
    run.answer(warm_up, _given(log, end))
    engine.close()
    log.close()


if __name__ == "__main__":
    main()
