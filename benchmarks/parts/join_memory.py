"""The memory engine: the reference. Only the warm-up: its time grows with the square of the input.

It is given records, not bytes, as in the tests: reading and writing is not on its clock.
"""

from __future__ import annotations

from benchmarks.parts.join_case import Run
from engines.memory import MemoryEngine
from pipelines.topology import greeting_loop
from schemas.codec import decode, encode
from schemas.streams import SIDE_STREAMS


def main() -> None:
    """Run it."""
    run = Run()
    engine = MemoryEngine(greeting_loop().only("join"))
    rows = run.warm_up.rows
    read = [(row.stream, decode(row.value), row.log_time_ms) for row in rows]
    with run.measuring():
        for stream, value, at_ms in read:
            engine.append(stream, value, at_ms)
        engine.advance(rows[-1].log_time_ms + 1)
    given = (record for record in engine.log if record.stream in ("outcomes", *SIDE_STREAMS))
    written = [(record.stream, record.key, encode(record.value)) for record in given]
    run.answer(written, (), run.warm_up.events)


if __name__ == "__main__":
    main()
