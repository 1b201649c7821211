"""Takes what comes on Kinesis into the embedded log, together with how far each shard was read.

The records and the places of their shards are written in one transaction: however often the process
is killed, each record stands in the file once. The file keeps Kinesis' time, not this machine's:
its clock is the *frontier*, the time up to which every shard was read. While a shard cannot be read
that clock stands still: no window closes on what only has not come yet, and what was read after a
long standstill gets the log times it would have had.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Mapping
from itertools import groupby

from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.kinesis_shards import SHARD_END, shard_number
from connectors.kinesis_source import Batch, Received
from schemas.errors import UsageError

INTAKE_STREAMS = ("frames", "impressions", "rewards", "visits")
"""What producers write, and the job reads; the other streams are written by the job."""
LEAD_MS = 1_000
"""A record may be taken so long before every other shard was read up to its time: a greeting must
not wait for a shard that is asked a quarter of a second later. Kinesis' times are approximate
anyway, and the grace of a window is twice this."""

_PLACES = "kinesis.intake"
_SOURCE = "kinesis.source"


class Intake:
    """The door between Kinesis and one embedded log.

    Parameters
    ----------
    log : EmbeddedLog
        The log; its clock becomes the frontier.
    address : str
        Where the streams are: a folder takes in one log, and no other later.
    streams : sequence of str
        What is taken in.

    Raises
    ------
    UsageError
        The folder took in another log, or was filled without Kinesis.
    """

    def __init__(
        self, log: EmbeddedLog, address: str, streams: Iterable[str] = INTAKE_STREAMS
    ) -> None:
        self.taken = 0
        """Records taken in so far."""
        self.clock = SetClock()
        self._log = log
        self._order = {stream: number for number, stream in enumerate(streams)}
        self._refuse_other_source(address)
        places: dict[str, dict[str, str]] = json.loads(log.fact(_PLACES, "{}"))
        # How far each shard is in the file; and how far it was read, where nothing of it waits.
        self._written = {stream: places.get(stream, {}) for stream in self._order}
        self._read: dict[tuple[str, str], str] = {}
        self._ids: dict[tuple[str, int], str] = {}
        self._through_ms: dict[tuple[str, str], int] = {}
        self._waiting: list[tuple[int, int, int, int, int, Received]] = []
        # What is in the file arrived before now: time goes on from its newest record.
        self.clock.set(log.newest_log_time_ms())
        log.clock = self.clock

    @property
    def places(self) -> Mapping[str, Mapping[str, str]]:
        """Where to go on with each stream's shards, as the file has it."""
        return self._written

    @property
    def waiting(self) -> int:
        """Records read that are not in the file yet, since other shards are behind."""
        return len(self._waiting)

    def begin(self, batches: Iterable[Batch]) -> None:
        """Take note of the first looks at all shards, and begin a new folder's time before them.

        So that the configuration, which goes into the file first, is not younger than the frames
        that wait on Kinesis already.
        """
        batches = list(batches)
        for batch in batches:
            self._note(batch)
        if not self.clock():
            oldest_ms = min((entry[0] for entry in self._waiting), default=2**62)
            through_ms = min((batch.through_ms for batch in batches), default=0)
            self.clock.set(max(0, min(oldest_ms, through_ms)))

    def take(self, batches: Iterable[Batch], reading: Iterable[tuple[str, str]]) -> int:
        """Take what was read; return how many records went into the file.

        Parameters
        ----------
        batches : iterable of Batch
            What looks at shards brought, each shard's in order.
        reading : iterable of (stream, shard)
            All shards that are read now: the frontier is the slowest of them.
        """
        for batch in batches:
            self._note(batch)
        frontier_ms = min((self._through_ms.get(place, 0) for place in reading), default=0)
        ready: list[Received] = []
        while self._waiting and self._waiting[0][0] < frontier_ms + LEAD_MS:
            ready.append(heapq.heappop(self._waiting)[-1])
        if ready:
            self._write(ready)
        # Never back: a shard that begins, or an answer that came late, says less than was known.
        self.clock.set(max(self.clock(), frontier_ms))
        if not self._waiting and any(place == SHARD_END for place in self._read.values()):
            self._write([])
        return len(ready)

    def _note(self, batch: Batch) -> None:
        order = self._order[batch.stream]
        for record in batch.records:
            entry = (record.arrival_ms, order, record.shard, record.sequence, record.nth, record)
            heapq.heappush(self._waiting, entry)
        place = batch.stream, batch.shard_id
        self._through_ms[place] = max(self._through_ms.get(place, 0), batch.through_ms)
        self._read[place] = batch.place
        self._ids[batch.stream, shard_number(batch.shard_id)] = batch.shard_id

    def _write(self, records: list[Received]) -> None:
        """Append records and the places behind them in one transaction."""
        log = self._log
        written = {stream: dict(known) for stream, known in self._written.items()}
        for record in records:
            shard_id = self._ids[record.stream, record.shard]
            written[record.stream][shard_id] = str(record.sequence)
        held = {(entry[-1].stream, entry[-1].shard) for entry in self._waiting}
        read = {
            (stream, shard_id): place
            for (stream, shard_id), place in self._read.items()
            if (stream, shard_number(shard_id)) not in held
        }
        for (stream, shard_id), read_to in read.items():
            written[stream][shard_id] = read_to
        log.steps("intake.begin")
        with log.transaction():
            self._append(records)
            log.steps("intake.records")
            log.set_fact(_PLACES, json.dumps(written))
        log.steps("intake.end")
        self._written = written
        for known in read:
            del self._read[known]
        self.taken += len(records)

    def _append(self, records: Iterable[Received]) -> None:
        """Append records, each at its own time: `write` takes the clock's, or the newest there."""
        now_ms = self.clock.now_ms
        try:
            for arrival_ms, together in groupby(records, key=lambda record: record.arrival_ms):
                # Set past `set`, which never goes back: this is no new time, only a record's.
                self.clock.now_ms = arrival_ms
                self._log.write([(one.stream, one.key, one.data) for one in together])
        finally:
            self.clock.now_ms = now_ms

    def _refuse_other_source(self, address: str) -> None:
        known = self._log.fact(_SOURCE, "")
        folder = self._log.folder
        if known and known != address:
            problem = f"{folder} takes in {known}, not {address}"
            raise UsageError(problem, "Give another folder with --data, or that address")
        if not known:
            if self._log.end().position:
                problem = f"{folder} holds a log that was not taken in from Kinesis"
                cure = "Give a new folder with --data; `pho bridge` copies a folder's log there"
                raise UsageError(problem, cure)
            with self._log.transaction():
                self._log.set_fact(_SOURCE, address)
