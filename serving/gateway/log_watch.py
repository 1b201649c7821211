"""Follows the log from where it ends now: for health, readiness and metrics, never for greetings.

A reader of its own in a thread of its own: a log that hangs makes /ready say so, not hang.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from connectors.clocks import WallClock
from connectors.logs import Log, Row, Tail
from schemas.codec import decode
from schemas.decisions import DecisionMade
from schemas.errors import PhoError, RecordError
from schemas.frames import FrameAnalyzed, FrameCaptured
from schemas.outcomes import OutcomeClosed
from serving.gateway.metrics import SIDES, Metrics

_logger = logging.getLogger(__name__)

STREAMS = ("frames", "analyses", "decisions", "outcomes", *SIDES)
SILENT_MS = 5_000
"""A log that could not be read for so long does not answer."""
BEHIND_MS = 10_000
"""A frame that waits so long for its answer says that the job is behind, or not there."""
# A picture lives 60 s (its frame is then `expired`); what is older says nothing any more.
_FORGET_MS = 60_000
# 200 kiosks at 4 frames a second for 60 s are 48,000.
_MOST_FRAMES = 50_000
_WAIT_S = 0.25
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """How log and job are, as last seen."""

    log_answers: bool
    """Whether the log could be read within `SILENT_MS`."""
    newest_record_age_ms: int | None
    """Age of the newest record since the gateway started; None: none came."""
    newest_analysis_age_ms: int | None
    """Age of the newest analysis since the gateway started; None: none came."""
    unanswered_frames: int
    """Frames of the last minute without an answer."""
    job_lag_ms: int
    """Age of the oldest of them; 0: all are answered."""

    @property
    def job(self) -> Literal["answers", "behind", "unknown"]:
        """``answers``, ``behind``, or ``unknown`` where nothing was asked of it yet."""
        if self.job_lag_ms > BEHIND_MS:
            return "behind"
        return "unknown" if self.newest_analysis_age_ms is None else "answers"


class LogWatch:
    """Counts what comes into the log.

    Parameters
    ----------
    open_log : callable
        Opens a reader of its own; called in the watch's thread, again after a failure.
    metrics : Metrics
        Told what came.
    clock : callable
        Returns ms since 1970 UTC.
    """

    def __init__(
        self,
        open_log: Callable[[], Log],
        metrics: Metrics,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._open = open_log
        self._metrics = metrics
        self._clock = clock or WallClock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._said = False
        self._answered_ms: int | None = None
        self._newest_ms: int | None = None
        self._analysis_ms: int | None = None
        self._waiting: OrderedDict[str, int] = OrderedDict()

    def start(self) -> None:
        """Follow the log until `close`."""
        self._thread = threading.Thread(target=self._run, name="log-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following; waits a moment for a reader that hangs, no longer."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=SILENT_MS / 1_000)

    def seen(self) -> Seen:
        """Return how log and job are now; asks nobody, so it never waits."""
        now_ms = self._clock()
        with self._guard:
            self._forget(now_ms)
            oldest_ms = next(iter(self._waiting.values()), now_ms)
            seen = Seen(
                self._answered_ms is not None and now_ms - self._answered_ms <= SILENT_MS,
                None if self._newest_ms is None else max(0, now_ms - self._newest_ms),
                None if self._analysis_ms is None else max(0, now_ms - self._analysis_ms),
                len(self._waiting),
                max(0, now_ms - oldest_ms),
            )
        self._metrics.waiting(seen.unanswered_frames, seen.job_lag_ms / 1_000)
        self._metrics.log_answers(yes=seen.log_answers)
        return seen

    def take(self, rows: list[Row]) -> None:
        """Count records that came, and note that the log answered."""
        with self._guard:
            for row in rows:
                self._newest_ms = max(self._newest_ms or 0, row.log_time_ms)
                if row.stream in SIDES:
                    self._metrics.put_aside(row.stream)
                    continue
                try:
                    self._count(decode(row.value), row.log_time_ms)
                except RecordError:
                    continue  # the job keeps it as a dead letter, which is counted when it comes
            self._answered_ms = self._clock()

    def _count(self, value: Any, log_time_ms: int) -> None:
        if isinstance(value, FrameCaptured):
            self._waiting.setdefault(value.frame_id, log_time_ms)
            self._forget(self._clock())
        elif isinstance(value, FrameAnalyzed):
            self._waiting.pop(value.frame_id, None)
            self._analysis_ms = max(self._analysis_ms or 0, log_time_ms)
            self._metrics.frame_answered(value.phase, value.status)
        elif isinstance(value, DecisionMade):
            self._metrics.decided(value.choice.mode)
        elif isinstance(value, OutcomeClosed):
            self._metrics.closed(value.result)

    def _forget(self, now_ms: int) -> None:
        while self._waiting:
            frame_id, at_ms = next(iter(self._waiting.items()))
            if at_ms > now_ms - _FORGET_MS and len(self._waiting) <= _MOST_FRAMES:
                break
            del self._waiting[frame_id]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except PhoError as error:
                # Once for each time it goes away, not once a second.
                if not self._said:
                    _logger.warning("the log cannot be watched: %s", error)
                self._said = True
                self._stop.wait(_RETRY_S)

    def _follow(self) -> None:
        log = self._open()
        try:
            tail: Tail = log.tail(*STREAMS)
            try:
                while not self._stop.is_set():
                    self.take(tail.poll(_WAIT_S))
                    self._said = False
            finally:
                tail.close()
        finally:
            log.close()
