"""Keeps the owner's fold up to the log, in a thread of the gateway, from the first look on.

While nobody ever looked nothing is read. A log that is away, or full of another release's records,
ends no thread: it is opened again, and the page says what is the matter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from connectors.embedded_log import EmbeddedLog
from connectors.logs import Log, Row
from schemas.errors import PhoError
from serving.gateway.owner_fold import FOLDED, OwnerFold

BATCH = 256
_POLL_S = 0.25
# Between two batches of a long log: kiosks that are served by the same process go first.
_COURTESY_S = 0.002
_COMPLETE_EVERY_S = 2.0
_RETRY_S = (1.0, 2.0, 5.0, 10.0)
_RECORDINGS = ("simulate.plan", "demo.play")


@dataclass(frozen=True, slots=True)
class Reading:
    """How far the log was read."""

    caught_up: bool
    """Whether its end was reached once."""
    share: float | None
    """Of the records it had at the start, 0..1; None: not known."""
    problem: str
    """Why it cannot be read now; empty: it can."""
    cure: str
    """What to do about it."""


class OwnerBoard:
    """The fold and the thread that keeps it.

    Parameters
    ----------
    open_log : callable
        Opens the log anew, without those who were forgotten; called in the thread.
    beside : callable
        Called with the log whenever nothing new has come, to do a little of something else; it
        says whether there is more of that to do.
    """

    def __init__(
        self, open_log: Callable[[], Log], beside: Callable[[Log], bool] = lambda _log: False
    ) -> None:
        self.lock = threading.RLock()
        """Held while the fold changes, batch by batch, and by whoever reads it."""
        self.fold = OwnerFold()
        """What the page is made of; replaced when somebody was forgotten."""
        self.changes = 0
        """Counts what was taken: the same number, the same page."""
        self.complete_ms = 0
        """Whatever had to happen before it has happened and was taken, log time, ms."""
        self.name = ""
        """Where the log is, for a person to read."""
        self.is_recording = False
        """Whether its times are those of a recording or a simulation, not of a clock."""
        self.reading = Reading(caught_up=False, share=None, problem="", cure="")
        self._open_log = open_log
        self._beside = beside
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to read, if that was not begun."""
        with self.lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="owner", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop reading, and wait for the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                log = self._open_log()
                try:
                    self._begin(log)
                    failures = 0
                    self._follow(log)
                finally:
                    log.close()
            except PhoError as error:
                self._say(self.reading.caught_up, None, error.problem, error.cure)
                self._stop.wait(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
                failures += 1

    def _begin(self, log: Log) -> None:
        with self.lock:
            self.fold = OwnerFold()
            self.complete_ms = 0
            self.name = log.name
            self.is_recording = isinstance(log, EmbeddedLog) and any(
                log.fact(name, "") for name in _RECORDINGS
            )
            # Under one lock: an empty fold that is said to have caught up would be shown as one.
            self._say(caught_up=False, share=None)

    def _follow(self, log: Log) -> None:
        """Read what there is, then what comes, until somebody is forgotten or it is stopped."""
        end = log.end().position if isinstance(log, EmbeddedLog) else 0
        # Opened first, or what is appended during the pass would be seen by neither.
        tail = log.tail(*FOLDED)
        try:
            complete_ms = log.complete_through_ms()
            self._pass(log.scan(*FOLDED), end)
            if self._stop.is_set():
                return
            forgotten = self.fold.erasures
            self._rest(complete_ms)
            self._say(caught_up=True, share=1.0)
            asked_s = time.monotonic()
            busy = False
            while not self._stop.is_set() and self.fold.erasures == forgotten:
                if time.monotonic() - asked_s >= _COMPLETE_EVERY_S:
                    complete_ms, asked_s = log.complete_through_ms(), time.monotonic()
                rows = tail.poll(_COURTESY_S if busy else _POLL_S)
                self._pass(rows, 0)
                if not rows:
                    self._rest(complete_ms)
                    busy = self._beside(log)
        finally:
            tail.close()

    def _pass(self, rows: Iterable[Row], end: int) -> None:
        coming = iter(rows)
        while batch := list(islice(coming, BATCH)):
            if self._stop.is_set():
                return
            with self.lock:
                taken = [row for row in batch if self.fold.take(row)]
                self.changes += bool(taken)
            if end:
                self._say(caught_up=False, share=min(1.0, batch[-1].position / end))
            if len(batch) == BATCH:
                time.sleep(_COURTESY_S)

    def _rest(self, complete_ms: int) -> None:
        if complete_ms <= self.complete_ms:
            return
        with self.lock:
            self.complete_ms = complete_ms
            self.fold.at_rest(complete_ms)

    def _say(self, caught_up: bool, share: float | None, problem: str = "", cure: str = "") -> None:
        with self.lock:
            self.reading = Reading(caught_up, share, problem, cure)
            self.changes += 1
