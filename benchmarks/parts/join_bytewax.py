"""bytewax: a stateful flow around the same adapter, one worker, with or without recovery.

Its timers go by the clock on the wall and its event time by each key's own records, so no key
hears that log time is complete. The usual way round it: keys lie in shards, each shard is one key
of bytewax's, and Ticks go to every shard. What recovery keeps is then the whole shard, every
second: of a key of bytewax's it keeps all or nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main

from benchmarks.parts.join_case import Given, Run
from benchmarks.parts.join_operator import LogOrder, written
from connectors.logs import Row

SHARDS = [str(number) for number in range(16)]
BATCH_ROWS = 1_000
EPOCH = timedelta(seconds=1)
"""As often as Flink's checkpoints."""


class Shard(StatefulBatchLogic[Row, Given, dict[str, bytes]]):  # type: ignore[misc]
    """The join's keys of one shard.

    Parameters
    ----------
    packed : dict or None
        What `snapshot` gave.
    """

    def __init__(self, packed: dict[str, bytes] | None) -> None:
        self._keys = LogOrder(packed)
        self._newest_ms = 0

    def on_batch(self, values: list[Row]) -> tuple[Iterable[Given], bool]:
        """Take some rows, in the order of the log."""
        self._newest_ms = values[-1].log_time_ms
        return [given for row in values for given in written(self._keys.take(row))], False

    def on_eof(self) -> tuple[Iterable[Given], bool]:
        """Take the end of the input: its newest log time is complete."""
        return list(written(self._keys.complete(self._newest_ms))), False

    def snapshot(self) -> dict[str, bytes]:
        """Return what recovery would keep."""
        return self._keys.pack()


def _sharded(rows: list[Row]) -> Iterator[tuple[str, Row]]:
    for row in rows:
        if row.stream == "ticks":
            for shard in SHARDS:
                yield shard, row
        else:
            yield SHARDS[zlib.crc32(row.key.encode()) % len(SHARDS)], row


def _joined(rows: list[Row], recovery: Path | None) -> list[Given]:
    given: list[tuple[str, Given]] = []
    flow = Dataflow("join")
    log = op.input("log", flow, TestingSource(rows, BATCH_ROWS))
    sharded = op.flat_map_batch("shards", log, _sharded)
    joined = op.stateful_batch("join", sharded, Shard)
    op.output("outcomes", joined, TestingSink(given))
    config = None
    if recovery is not None:
        recovery.mkdir()
        init_db_dir(recovery, 1)
        config = RecoveryConfig(recovery)
    run_main(flow, epoch_interval=EPOCH, recovery_config=config)
    return [each for _, each in given]


def main() -> None:
    """Run it."""
    run = Run()
    folder = run.folder if run.case.recovers else None
    warm_up = _joined(run.warm_up.rows, folder and folder / "warm-up")
    with run.measuring():
        measured = _joined(run.measured.rows, folder and folder / "measured")
    run.answer(warm_up, measured)


if __name__ == "__main__":
    main()
