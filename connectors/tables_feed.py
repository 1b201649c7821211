"""From a log to the tables: a consumer that starts anywhere, and may be killed anywhere.

It reads on from the place the tables remember. Rows are inserted by id, so what the log holds twice
(Kafka, at least once) stands in the tables once. Whoever was forgotten is left out, and taken out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from zlib import crc32

from connectors.embedded_log import EmbeddedLog
from connectors.logs import Log, Row, Tail
from connectors.persons import Erased
from connectors.tables_contract import (
    Batch,
    History,
    Place,
    ReadsOn,
    Seen,
    Steps,
    StopFlag,
    Tables,
)
from connectors.tables_rows import decision_row, is_late, outcome_row, visit_ended, visit_seen
from schemas.codec import decode
from schemas.decisions import DecisionMade, VisitEnded
from schemas.errors import RecordError, UsageError
from schemas.frames import FrameAnalyzed
from schemas.operations import ErasureRequested
from schemas.outcomes import OutcomeClosed, PolicyDirected
from schemas.streams import STREAMS as RECORDS

STREAMS = ("decisions", "analyses", "visits", "outcomes")
"""What the tables are made of; `erasures` besides."""
BATCH_ROWS = 2_000
_WAIT_S = 0.25
_SHARE = 0.1
_PAUSE_MAX_S = 30.0
_STOP_LOOK_S = 0.05


@dataclass(slots=True)
class Fed:
    """What a consumer has done."""

    records: Counter[str] = field(default_factory=Counter)
    """Records read, by stream."""
    unreadable: int = 0
    """Records that are none of ours: the job puts them into `dead-letters`."""
    late: int = 0
    """Decisions that came so late that they are none."""
    forgotten: int = 0
    """Records left out, since they speak of somebody who was forgotten."""
    lost: list[str] = field(default_factory=list)
    """Places whose records the log dropped before they were read."""


class Feed:
    """Keeps tables up to date with a log.

    Parameters
    ----------
    log : Log
        Where from.
    tables : Tables
        Where to.
    history : callable
        Makes the history of policies anew, or from what it packed.
    erased_of : callable
        Makes of hashes what tells who was forgotten.
    steps : callable
        Called at each named step.
    fed : Fed, optional
        What was done before, where this one goes on.
    through : mapping, optional
        The last position of each place that is read; by default all that comes.
    """

    def __init__(
        self,
        log: Log,
        tables: Tables,
        history: Callable[[bytes | None], History],
        erased_of: Callable[[Set[str]], Erased],
        steps: Steps = lambda _name: None,
        *,
        fed: Fed | None = None,
        through: Mapping[Place, int] | None = None,
    ) -> None:
        self.log = log
        self.tables = tables
        self.fed = fed or Fed()
        self._through = through
        self._make_history = history
        self._erased_of = erased_of
        self._steps = tables.steps = steps
        self._places = tables.places()
        self._history = history(tables.state())
        self._erased = erased_of(self._hashes())
        self._unseen = bool(self._erased.hashes - tables.erased_hashes())
        self._total_order = isinstance(log, EmbeddedLog)
        self._refresh_due_s = 0.0

    def run(self, stop: StopFlag | None = None) -> Fed:
        """Read what there is; then follow until `stop` is set, where it is given.

        Raises
        ------
        UsageError
            The tables were made of another log.
        ResourceError
            The log, or the tables, cannot be reached. What is written stays.
        """
        # Opened first, or what is appended during the pass would be seen by neither.
        tail = self.log.tail(*STREAMS, "erasures") if stop is not None else None
        try:
            for rows in _batched(self._rows_on(), BATCH_ROWS):
                self.take(rows)
                self._refresh(hurry=False)
                if stop is not None and stop.is_set():
                    break
            if self._unseen:
                self.take(())
            self._refresh(hurry=True)
            if tail is not None and stop is not None:
                self._follow(tail, stop)
        finally:
            if tail is not None:
                tail.close()
        return self.fed

    def _follow(self, tail: Tail, stop: StopFlag) -> None:
        while not stop.is_set():
            begin_s = time.monotonic()
            rows = [row for row in tail.poll(_WAIT_S) if self._is_new(row)]
            for some in _batched(rows, BATCH_ROWS):
                begin_s = time.monotonic()
                self.take(some)
            if rows:
                # What learns with a hosted River model keeps all it has seen, so each batch costs
                # more than the last: the longer it takes, the more goes into one.
                _wait(stop, min(_PAUSE_MAX_S, (time.monotonic() - begin_s) / _SHARE))
            self._refresh(hurry=False)
        self._refresh(hurry=True)

    def _refresh(self, *, hurry: bool) -> None:
        # At most a tenth of the time goes into counting: a day of 100,000 decisions takes 0.3 s.
        begin_s = time.monotonic()
        if hurry or begin_s >= self._refresh_due_s:
            self._steps("refresh.before")
            self.tables.refresh()
            self._steps("refresh.after")
            now_s = time.monotonic()
            self._refresh_due_s = now_s + max(
                self.tables.refresh_every_s, (now_s - begin_s) / _SHARE
            )

    # Reading

    def _place(self, row: Row) -> Place:
        return ("", 0) if self._total_order else (row.stream, row.partition)

    def _is_new(self, row: Row) -> bool:
        place = self._place(row)
        if self._through is not None and row.position > self._through.get(place, -1):
            return False
        seen = self._places.get(place)
        return seen is None or row.position > seen.position

    def _rows_on(self) -> Iterator[Row]:
        """Yield the rows behind the remembered places; each place's last row is looked at again."""
        log: Any = self.log
        if self._total_order:
            seen = self._places.get(("", 0))
            if seen is not None and log.end().position < seen.position:
                raise self._another_log()
            rows = log.scan(*STREAMS, after=seen.position - 1 if seen else 0)
        elif not isinstance(log, ReadsOn):
            rows = log.scan(*STREAMS)  # what was read is passed over, below
        else:
            self._refuse_shorter(log)
            rows = log.scan_from({p: s.position for p, s in self._places.items()}, *STREAMS)
        checked: set[Place] = set()
        for row in rows:
            place = self._place(row)
            seen = self._places.get(place)
            if seen is not None and place not in checked:
                checked.add(place)
                if row.position == seen.position and seen.crc not in (0, crc32(row.value)):
                    raise self._another_log()
                if row.position > seen.position + 1 and isinstance(log, ReadsOn):
                    # Only on Kafka: a folder's log lets nothing go but who was forgotten.
                    self.fed.lost.append(f"{place[0]}[{place[1]}]")
            if self._is_new(row):
                yield row

    def _refuse_shorter(self, log: ReadsOn) -> None:
        if not self._places:
            return
        newest = log.newest(*STREAMS)
        for place, seen in self._places.items():
            row = newest.get(place)
            if place not in newest or (row is not None and row.position < seen.position):
                raise self._another_log()

    def _another_log(self) -> UsageError:
        problem = f"the tables in {self.tables.name} were made of another log than {self.log.name}"
        return UsageError(problem, "Name that log, or another place for the tables of this one")

    def _hashes(self) -> set[str]:
        values = map(_decoded, self.log.scan("erasures"))
        return {value.id_hash for value in values if isinstance(value, ErasureRequested)}

    # Writing

    def take(self, rows: Iterable[Row]) -> None:
        """Write some rows, in the order of their places, in one transaction."""
        rows = [self._at_its_time(row) for row in rows]
        self._meet_erasures(rows)
        batch = Batch()
        learning = [self._add(batch, row) for row in rows]
        self._note_places(batch, rows)
        self._learn(batch, [pair for pair in learning if pair is not None])
        self._steps("write.before")
        self.tables.write(batch)
        self._steps("write.after")
        self._unseen = False
        if batch.erased is not None:
            self._refresh(hurry=True)  # what stands in files goes at once, too

    def _at_its_time(self, row: Row) -> Row:
        # Log time never goes back in a partition; a log read on from its middle cannot know that a
        # broker's clock had been ahead before.
        seen = self._places.get(self._place(row))
        if seen is None or row.log_time_ms >= seen.log_time_ms:
            return row
        return row._replace(log_time_ms=seen.log_time_ms)

    def _meet_erasures(self, rows: Iterable[Row]) -> None:
        values = (_decoded(row) for row in rows if row.stream == "erasures")
        new = {value.id_hash for value in values if isinstance(value, ErasureRequested)}
        if new - self._erased.hashes:
            self._erased = self._erased_of(self._erased.hashes | new)
            self._unseen = True

    def _add(self, batch: Batch, row: Row) -> tuple[Row, Any] | None:
        """Add a row to a batch; return it, with what it holds, where policies may learn from it."""
        self.fed.records[row.stream] += 1
        if row.stream not in STREAMS:
            return None
        if self._erased.speaks_of(row):
            self.fed.forgotten += 1
            return None
        value = _decoded(row)
        if value is None or not isinstance(value, RECORDS[row.stream].records):
            self.fed.unreadable += 1
            return None
        match value:
            case DecisionMade():
                if is_late(value, row.log_time_ms):
                    self.fed.late += 1
                else:
                    batch.decisions.append(decision_row(value))
            case FrameAnalyzed():
                batch.add_visit(visit_seen(value))
            case VisitEnded():
                batch.add_visit(visit_ended(value))
            case OutcomeClosed():
                batch.outcomes.append(outcome_row(value))
        return (row, value) if row.stream == "outcomes" else None

    def _note_places(self, batch: Batch, rows: Iterable[Row]) -> None:
        for place, row in {self._place(row): row for row in rows}.items():
            # A directive's bytes may change where they are: `pho forget` mends its arrays.
            stays = row.stream != "outcomes" or not isinstance(_decoded(row), PolicyDirected)
            batch.places[place] = Seen(
                row.position, row.log_time_ms, crc32(row.value) if stays else 0
            )
        self._places |= batch.places

    def _learn(self, batch: Batch, pairs: list[tuple[Row, Any]]) -> None:
        if self._unseen:
            batch.erased = self._erased
            if self._log_has_its_beginning():
                # History as the log tells it now: what was learned from them was learned again.
                self._history = self._make_history(None)
                batch.whole_history = True
                again = (row for row in self._outcomes_again() if not self._erased.speaks_of(row))
                self._teach(((row, _decoded(row)) for row in again), set())
                batch.history, batch.state = self._history.changed(), self._history.pack()
                return
        if pairs:
            ids = [str(row[0]) for row in batch.outcomes]
            self._teach(pairs, self.tables.known_outcomes(ids))
            batch.history, batch.state = self._history.changed(), self._history.pack()

    def _teach(self, pairs: Iterable[tuple[Row, Any]], known: set[str]) -> None:
        for row, value in pairs:
            if isinstance(value, OutcomeClosed):
                if value.choice.decision_id in known:
                    continue  # a repeat teaches nothing
                known.add(value.choice.decision_id)
            self._history.take(row, value)

    def _log_has_its_beginning(self) -> bool:
        if self._total_order:
            return True
        first: dict[int, int] = {}
        for row in self.log.scan("outcomes"):
            first.setdefault(row.partition, row.position)
        return not any(first.values())

    def _outcomes_again(self) -> Iterator[Row]:
        for row in self.log.scan("outcomes"):
            seen = self._places.get(self._place(row))
            if seen is not None and row.position <= seen.position:
                yield row


def _decoded(row: Row) -> Any:
    try:
        return decode(row.value)
    except RecordError:
        return None


def _batched(rows: Iterable[Row], count: int) -> Iterator[tuple[Row, ...]]:
    rest = iter(rows)
    while some := tuple(islice(rest, count)):
        yield some


def _wait(stop: StopFlag, seconds: float) -> None:
    until_s = time.monotonic() + seconds
    while not stop.is_set() and (left_s := until_s - time.monotonic()) > 0.0:
        time.sleep(min(left_s, _STOP_LOOK_S))
