"""Sends what the job wrote into its file on to Kinesis: in the log's order, each record once.

How far it came, and the last sequence number that each shard gave it, are noted in the file. A
publisher that starts, or was left in doubt by an error, reads what stands behind those numbers and
passes over what is there already: nobody else writes to these streams.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from connectors.embedded_log import EmbeddedLog
from connectors.kinesis_aggregation import Part
from connectors.kinesis_intake import INTAKE_STREAMS
from connectors.kinesis_shards import SHARD_END
from connectors.kinesis_sink import RECORD_BYTES, KinesisSink, Place, is_too_large
from connectors.kinesis_source import KinesisSource
from connectors.kinesis_streams import KINESIS_STREAMS
from connectors.logs import Row
from schemas.codec import encode
from schemas.errors import LogUnavailable
from schemas.operations import SideRecord
from schemas.streams import DEAD_LETTERS

PUBLISHED_STREAMS = tuple(
    # A decision and its greeting first: somebody stands at the door.
    dict.fromkeys(
        ("decisions", "greetings", *(s for s in KINESIS_STREAMS if s not in INTAKE_STREAMS))
    )
)
"""What the job writes; the rest came from Kinesis."""

Places = dict[str, dict[str, str]]
Digest = tuple[str, str, bytes]

_BATCH = 2_000
# A process killed a moment ago may have calls on their way that Kinesis has not written yet.
_SETTLE_S = 0.5
_POLL_S = 0.25
_IDLE_S = 0.02
_RETRY_S = 0.5
_THROUGH = "kinesis.published"
_TAILS = "kinesis.tails"


class Publisher:
    """Sends one file's records to Kinesis. For one thread.

    Parameters
    ----------
    log : EmbeddedLog
        The file, opened for this publisher alone.
    sink : KinesisSink
        Writes.
    read_behind : callable
        Returns a source that reads on from the places it is given.
    """

    def __init__(
        self,
        log: EmbeddedLog,
        sink: KinesisSink,
        read_behind: Callable[[Places], KinesisSource],
    ) -> None:
        self.sent = 0
        """Records sent so far."""
        self.passed_over = 0
        """Records that were there already."""
        self._log = log
        self._sink = sink
        self._read_behind = read_behind
        self._through = int(log.fact(_THROUGH))
        self._tails: Places = json.loads(log.fact(_TAILS, "{}"))
        self._there: Counter[Digest] = Counter()
        self._in_doubt = True
        self._unwritten = 0
        self._dirty = False

    @property
    def behind(self) -> int:
        """Positions of the file that were not looked at yet."""
        return self._log.end().position - self._through

    def step(self) -> int:
        """Send the next records, if there are any; return how many positions were passed.

        Raises
        ------
        LogUnavailable
            Kinesis does not take them; call again, nothing is lost or sent twice.
        """
        rows = self._log.read(self._through, _BATCH)
        if not rows:
            return 0
        if self._in_doubt:
            self._look_what_is_there()
        self._in_doubt = True
        letters = self._send(rows)
        self._in_doubt = False
        self._through = rows[-1].position
        self._note(letters, len(rows))
        return len(rows)

    def _send(self, rows: Sequence[Row]) -> list[SideRecord]:
        """Send what Kinesis has not yet; return the letters of what it will never take."""
        streams: defaultdict[str, list[Part]] = defaultdict(list)
        letters = []
        # Taken over when all of them are there: where the second stream fails, what the first took
        # is looked for behind the old numbers.
        tails = {stream: dict(known) for stream, known in self._tails.items()}
        for row in rows:
            if row.stream in INTAKE_STREAMS or row.stream == "ticks":
                continue
            part = Part(row.key, row.value)
            if is_too_large(part):
                letters.append(_letter(row))
            elif not self._is_there(row):
                streams[row.stream].append(part)
        for stream in PUBLISHED_STREAMS:
            if stream in streams:
                self._log.steps("publish.begin")
                places = self._sink.put(stream, streams[stream])
                self._log.steps("publish.sent")
                _follow(tails.setdefault(stream, {}), places)
                self._dirty = True
                self.sent += len(places)
        self._tails = tails
        return letters

    def _note(self, letters: Sequence[SideRecord], count: int) -> None:
        """Write down how far it came; Ticks alone are worth no commit."""
        self._unwritten += count
        if not self._dirty and not letters and self._unwritten < _BATCH:
            return
        with self._log.transaction():
            self._log.set_fact(_THROUGH, self._through)
            self._log.set_fact(_TAILS, json.dumps(self._tails))
            if letters:
                self._log.write([(DEAD_LETTERS, one.key, encode(one)) for one in letters])
        self._log.steps("publish.noted")
        self._dirty = False
        self._unwritten = 0

    def _is_there(self, row: Row) -> bool:
        if not self._there:
            return False
        digest = _digest(row.stream, row.key, row.value)
        if self._there[digest] <= 0:
            return False
        self._there[digest] -= 1
        self.passed_over += 1
        return True

    def _look_what_is_there(self) -> None:
        """Read what each stream holds behind the last record that was noted as sent."""
        time.sleep(_SETTLE_S)
        there: Counter[Digest] = Counter()
        source = self._read_behind({s: dict(self._tails.get(s, {})) for s in PUBLISHED_STREAMS})
        try:
            at_end: set[tuple[str, str]] = set()
            while lacking := source.reading - at_end:
                for batch in source.poll(_POLL_S, lacking):
                    for one in batch.records:
                        there[_digest(one.stream, one.key, one.data)] += 1
                    if not batch.behind_ms or batch.place == SHARD_END:
                        at_end.add((batch.stream, batch.shard_id))
        finally:
            source.close()
        self._there = there


def _follow(tails: dict[str, str], places: Sequence[Place]) -> None:
    """Note the last sequence number of each shard."""
    for place in places:
        shard_id = f"shardId-{place.shard:012d}"
        if place.sequence > int(tails.get(shard_id, "0")):
            tails[shard_id] = str(place.sequence)


def _letter(row: Row) -> SideRecord:
    error = (
        f"{len(row.value)} bytes are too large for Kinesis, which takes {RECORD_BYTES}; "
        "it stays in the folder of `pho run`"
    )
    # Its bytes are left out: they would make the letter as large.
    return SideRecord(
        "too_large", error, row.stream, 0, row.position, row.log_time_ms, row.key, b""
    )


def _digest(stream: str, key: str, value: bytes) -> Digest:
    return stream, key, hashlib.blake2b(value, digest_size=16).digest()


def publish(
    publisher: Publisher, is_stopped: Callable[[], bool], say: Callable[[str], None]
) -> None:
    """Send until stopped; what Kinesis does not take is tried again, and said once.

    At the end what the file holds then is sent too, once: the rest waits for the next start.
    """
    said = False
    while not is_stopped():
        try:
            if not publisher.step():
                time.sleep(_IDLE_S)
            said = False
        except LogUnavailable as error:
            if not said:
                say(f"{error.problem}; trying on")
            said = True
            time.sleep(_RETRY_S)
    try:
        while publisher.step():
            pass
    except LogUnavailable as error:
        say(f"{error.problem}; what is not there yet is sent at the next start")
