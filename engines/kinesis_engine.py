"""The embedded engine on Kinesis: one process, a file of its own, Kinesis on both sides of it.

Beyond one process the answer is Flink, not leases of our own. A thread reads the shards, the engine
takes what came before each of its cycles, another thread sends on what it wrote.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from connectors.embedded_log import EmbeddedLog
from connectors.kinesis_intake import Intake
from connectors.kinesis_publisher import Publisher, publish
from connectors.kinesis_source import Batch, KinesisSource
from engines.analysis import FrameAnswerer
from engines.embedded import EmbeddedEngine
from pipelines.operators import Dataflow
from schemas.errors import LogUnavailable

Look = tuple[list[Batch], set[tuple[str, str]]]
"""What one round of looks brought, and the shards read after it."""

_AHEAD = 64
"""Rounds read ahead of the engine; then reading waits for it, and the records on Kinesis."""
_WAITING_MAX = 20_000
"""Records held for a shard that is behind; then the others wait for it."""
_POLL_S = 0.25
_RETRY_S = 0.5


class KinesisEngine(EmbeddedEngine):
    """Runs a dataflow on an embedded log that Kinesis fills.

    Parameters
    ----------
    log : EmbeddedLog
        The log.
    dataflow : Dataflow
        What to run.
    answerer : FrameAnswerer or None
        Stands behind the asynchronous operators.
    intake : Intake
        Puts what came into the log.
    looks : Reading
        Where it comes from.
    """

    def __init__(
        self,
        log: EmbeddedLog,
        dataflow: Dataflow,
        answerer: FrameAnswerer | None,
        intake: Intake,
        looks: Reading,
    ) -> None:
        super().__init__(log, dataflow, answerer)
        self._intake = intake
        self._looks = looks

    def cycle(self, wait_s: float = 0.0) -> bool:
        """Take what came from Kinesis, then what is new in the file."""
        came = False
        for batches, reading in self._looks.taken():
            came = bool(self._intake.take(batches, reading)) or came
        self._looks.hold(self._intake.waiting > _WAITING_MAX)
        return super().cycle(wait_s) or came


class Reading:
    """Reads shards in a thread of its own, a little ahead of who takes what it brings.

    Parameters
    ----------
    source : KinesisSource
        Reads.
    say : callable
        Told once that Kinesis cannot be read, in words.
    """

    def __init__(self, source: KinesisSource, say: Callable[[str], None]) -> None:
        self._source = source
        self._say = say
        self._looks: queue.Queue[Look] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._held = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True, name="pho-kinesis-reading")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def taken(self) -> list[Look]:
        """Return what came since the last call, in order."""
        looks = []
        try:
            while True:
                looks.append(self._looks.get_nowait())
        except queue.Empty:
            return looks

    def hold(self, held: bool) -> None:
        """Read only what is behind, or everything again."""
        if held:
            self._held.set()
        else:
            self._held.clear()

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._source.close()

    def _read(self) -> None:
        said = False
        behind: set[tuple[str, str]] = set()
        while not self._stop.is_set():
            held = self._held.is_set()
            try:
                batches = self._source.poll(_POLL_S, behind or None if held else None)
            except LogUnavailable as error:
                if not said:
                    self._say(f"{error.problem}; trying on")
                said = True
                self._stop.wait(_RETRY_S)
                continue
            said = False
            if not batches:
                continue
            looked = {(batch.stream, batch.shard_id) for batch in batches}
            behind -= looked
            behind |= {(b.stream, b.shard_id) for b in batches if b.behind_ms}
            self._put((batches, self._source.reading))

    def _put(self, look: Look) -> None:
        while not self._stop.is_set():
            try:
                self._looks.put(look, timeout=_POLL_S)
                return
            except queue.Full:
                continue


class Publishing:
    """Sends what the job wrote in a thread of its own.

    Parameters
    ----------
    publisher : Publisher
        Sends.
    say : callable
        Told once that Kinesis takes nothing, in words.
    """

    def __init__(self, publisher: Publisher, say: Callable[[str], None]) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=publish,
            args=(publisher, self._stop.is_set, say),
            daemon=True,
            name="pho-kinesis-publishing",
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Send what the file holds now, if Kinesis takes it, and stop."""
        self._stop.set()
        self._thread.join()
