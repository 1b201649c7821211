"""The Beam engine as one suite sees every engine: a keyed operator over a finished log.

What it can run: operators with keys of their own and no shared streams, so `greet`, `join` and
`learn` (one key per loop, in the order of its log). What it cannot, and will not: `decide`, which
looks at the newest policy as of each record. That history is not in the log: `policies` is
compacted, so of a month's snapshots the newest is left. Nor need it be, since a decision stands in
the log with all its probabilities, and other policies are judged by those.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import apache_beam as beam

from connectors.archive import ArchiveReader
from connectors.logs import Row
from engines.beam.backfill import failures_explained, pipeline_on, publish
from engines.beam.shards import SHARDS, RunShard, spread
from pipelines.operators import Keyed
from schemas.errors import UsageError


def run(
    part: Keyed,
    rows: Iterable[Row],
    complete_through_ms: int | None = None,
    workers: int = 1,
    shards: int = 4,
) -> list[Row]:
    """Run an operator over a log, in a pipeline on this machine.

    Parameters
    ----------
    part : Keyed
        The operator in its place.
    rows : iterable of Row
        The log, in any order; streams that are no input of the operator count for how far it goes.
    complete_through_ms : int, optional
        Below this log time the log is complete; None: through its newest row.
    workers : int
        Processes; 1: this one.
    shards : int
        Over how many shards keys are spread.

    Returns
    -------
    list of Row
        What it gave out, in the order of log time, of stream and of key; partitions are shards.

    Raises
    ------
    UsageError
        When the operator looks at shared streams.
    """
    if part.broadcasts:
        names = ", ".join(broadcast.stream for broadcast in part.broadcasts)
        problem = f"{part.name} looks at {names}, whose history no log keeps"
        raise UsageError(problem, "Run it on an engine that follows the log live")
    log = list(rows)
    if complete_through_ms is None:
        complete_through_ms = max((row.log_time_ms for row in log), default=0)
    chunks = list(spread(part, (row for row in log if row.stream in part.inputs), shards))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        (out / SHARDS).mkdir()
        with failures_explained("DirectRunner"), pipeline_on("DirectRunner", workers) as pipeline:
            _ = (
                pipeline
                | beam.Create(chunks)
                | beam.GroupByKey()
                | beam.ParDo(RunShard(folder, part, complete_through_ms, tables=False))
            )
        publish(out, part.name, complete_through_ms)
        given = list(ArchiveReader(out).scan())
    return sorted(given, key=lambda row: (row.log_time_ms, row.stream, row.key, row.position))
