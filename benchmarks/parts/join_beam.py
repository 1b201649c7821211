"""Beam's runner on this machine, one process: the whole input grouped by key, then joined."""

from __future__ import annotations

import logging

from benchmarks.parts.join_case import Given, Run, Stretch, join_part
from engines.beam.engine import run as run_pipeline
from schemas.streams import SIDE_STREAMS


def _joined(stretch: Stretch) -> list[Given]:
    rows = run_pipeline(join_part(), stretch.rows, stretch.rows[-1].log_time_ms)
    streams = ("outcomes", *SIDE_STREAMS)
    return [(row.stream, row.key, row.value) for row in rows if row.stream in streams]


def main() -> None:
    """Run it."""
    logging.getLogger().setLevel(logging.ERROR)
    run = Run()
    warm_up = _joined(run.warm_up)
    with run.measuring():
        measured = _joined(run.measured)
    run.answer(warm_up, measured)


if __name__ == "__main__":
    main()
