"""Lock-step: a recording owns the log's clock, and the engine comes to rest before each picture.

So the same pictures give the same decisions, outcomes and policy bytes, however fast the machine
is and however often the process is killed: what the log holds already is not appended again, and
the engine only runs at clock times at which it would have run undisturbed.
"""

from __future__ import annotations

from typing import Any

from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from engines.embedded import EmbeddedEngine
from pipelines.analyze import Pictures
from pipelines.topology import TICK_INTERVAL_MS
from schemas.codec import decode
from schemas.decisions import GreetingIssued

TICKER = "recording"


class LockStep:
    """The log as a kiosk in lock-step sees it.

    Parameters
    ----------
    log : EmbeddedLog
        The log; its clock is the one given.
    clock : SetClock
        The log's clock.
    engine : EmbeddedEngine
        Runs to rest after each record.
    tail_ms : int
        Ticks end so long after the newest record that is none, ms.
    pictures : Pictures
        Where the kiosk puts its pictures.
    """

    def __init__(
        self,
        log: EmbeddedLog,
        clock: SetClock,
        engine: EmbeddedEngine,
        tail_ms: int,
        pictures: Pictures,
    ) -> None:
        self.log = log
        self._pictures = pictures
        self.clock = clock
        self.engine = engine
        self.tail_ms = tail_ms
        clock.set(log.newest_log_time_ms())
        self._held: set[str] = set()
        self._recorded_ms = 0
        for row in log.scan("frames", "impressions", "visits"):
            self._held.add(_id_of(decode(row.value)))
            self._recorded_ms = row.log_time_ms
        self._greetings: dict[tuple[str, str], GreetingIssued] = {}
        self._greetings_through = 0

    def append(self, stream: str, value: Any) -> None:
        """Append a record at its own time, unless the log holds it; then run to rest."""
        record_id, at_ms = _id_of(value), _time_of(value)
        held = record_id in self._held
        if not held:
            self.advance(at_ms)
            self.log.append(stream, value)
            self._held.add(record_id)
            self._recorded_ms = self.clock()
        self.settle()
        picture_id = getattr(value, "picture_id", None)
        if held and picture_id:
            # A demo played again stored the picture once more, of a frame that by now has its
            # answer: nobody else would delete it.
            self._pictures.delete(picture_id)

    def holds(self, value: Any) -> bool:
        """Whether the log has this record already."""
        return _id_of(value) in self._held

    def advance(self, at_ms: int) -> None:
        """Let time pass: Ticks as the ticker would have written them, then the new time."""
        self.settle()
        newest_ms = self.log.newest_log_time_ms()
        if at_ms <= newest_ms:
            return
        last_ms = min(at_ms - 1, self.log.newest_log_time_ms(without_ticks=True) + self.tail_ms)
        # One transaction: a crash leaves all of these Ticks or none, so that the engine never
        # runs at a time between them.
        times_ms = range(newest_ms + TICK_INTERVAL_MS, last_ms + 1, TICK_INTERVAL_MS)
        if newest_ms and times_ms:
            self.log.append_ticks(times_ms, TICKER)
        self.clock.set(at_ms)
        self.engine.run_to_rest()

    def finish(self) -> None:
        """Let time pass until nothing can happen any more.

        Counted from the last record of the recording: the log's own newest record may be what a
        process wrote here before it was killed.
        """
        recorded_ms = self._recorded_ms or self.log.newest_log_time_ms(without_ticks=True)
        self.advance(recorded_ms + 2 * self.tail_ms)
        self.settle()

    def settle(self) -> None:
        """Bring the engine to rest at the log's present time.

        Where a Tick is the newest record the engine was at rest before it, and runs on at the
        time of the next picture: running now would stamp its outputs with the Tick's time.
        """
        if self.log.end().stream != "ticks":
            self.engine.run_to_rest()

    def greeting(self, kiosk_id: str, visit_id: str) -> GreetingIssued | None:
        """Return the greeting of a visit; None: none was issued."""
        through = self.log.end().position
        for row in self.log.scan("greetings", after=self._greetings_through):
            greeting: GreetingIssued = decode(row.value)
            self._greetings.setdefault((greeting.kiosk_id, greeting.visit_id), greeting)
        self._greetings_through = through
        return self._greetings.get((kiosk_id, visit_id))


def _id_of(value: Any) -> str:
    return str(getattr(value, "frame_id", None) or value.event_id)


def _time_of(value: Any) -> int:
    for name in ("captured_at_ms", "shown_at_ms", "ended_at_ms"):
        if hasattr(value, name):
            return int(getattr(value, name))
    problem = f"{type(value).__name__} has no event time"
    raise TypeError(problem)
