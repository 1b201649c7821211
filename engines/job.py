"""The streaming job on one machine: cycles, Ticks and sweeps, until it is told to stop."""

from __future__ import annotations

import time
from typing import Protocol

from connectors.embedded_log import EmbeddedLog
from connectors.logs import Clock, Log
from connectors.pictures import PictureStore
from engines.embedded import EmbeddedEngine
from pipelines.topology import PICTURE_TTL_MS, TICK_INTERVAL_MS, tick_tail_ms
from schemas.codec import decode
from schemas.errors import CloudError, RecordError
from schemas.frames import FrameCaptured
from schemas.loops import LoopConfigured
from schemas.operations import Tick

_SWEEP_INTERVAL_S = 10.0
_BUSY_WAIT_S = 0.001
_IDLE_WAIT_S = 0.005
_IDLE_AFTER_S = 0.2
# The first visitor after a quiet half minute may wait 20 ms; a resting job takes 1 % of a core.
_RESTING_WAIT_S = 0.02
_RESTING_AFTER_S = 30.0
TICKER = "embedded"


def configure(log: Log, loops: tuple[LoopConfigured, ...]) -> list[str]:
    """Put configurations that changed into the log: first where `learn` reads, then for all.

    Returns
    -------
    list of str
        The loops whose configuration is new.
    """
    newest = hashes_in_force(log)
    changed = [loop for loop in loops if newest.get(loop.loop_id) != loop.config_hash]
    if not changed:
        return []
    # Two appends, since only within a partition is one a promise of order. A process that ends
    # between them appends both again at its next start; `learn` takes the second as a repeat.
    log.append_all([("outcomes", loop) for loop in changed])
    log.append_all([("loops", loop) for loop in changed])
    return [loop.loop_id for loop in changed]


def hashes_in_force(log: Log) -> dict[str, str]:
    """Return the hash of the newest configuration of each loop the log knows.

    Bytes that are no configuration are passed over: the engine makes a dead letter of them, and
    must be able to start for that.
    """
    newest = {}
    for row in log.scan("loops"):
        try:
            config = decode(row.value)
        except RecordError:
            continue
        if isinstance(config, LoopConfigured):
            newest[config.loop_id] = config.config_hash
    return newest


def tick(log: EmbeddedLog, tail_ms: int) -> bool:
    """Append a Tick where the newest record is older than the interval; end with the tail.

    Parameters
    ----------
    log : EmbeddedLog
        The log; one Tick serves the whole file.
    tail_ms : int
        Ticks end when they have gone on for so long after the newest record that is none, ms.

    Returns
    -------
    bool
        True: a Tick was appended.
    """
    now_ms = log.clock()
    newest_ms = log.newest_log_time_ms()
    if not newest_ms or now_ms - newest_ms < TICK_INTERVAL_MS:
        return False
    # Measured at the newest record, not at the clock: after an hour's standstill one Tick must
    # still come, or the windows that were open then would stay open until the next visitor.
    if newest_ms - log.newest_log_time_ms(without_ticks=True) > tail_ms:
        return False
    log.append("ticks", Tick(now_ms, TICKER))
    return True


class StopFlag(Protocol):
    """Says when to stop; a `threading.Event` is one."""

    def is_set(self) -> bool:
        """Return whether it is time."""
        ...

    def wait(self, timeout: float, /) -> bool:
        """Wait for it at most so long, seconds."""
        ...


class Job:
    """Runs an engine live.

    Parameters
    ----------
    engine : EmbeddedEngine
        The engine.
    pictures : PictureStore
        The pictures in flight, swept now and then.
    loops : tuple of LoopConfigured
        The loops; the longest of them says how long Ticks go on.
    """

    def __init__(
        self,
        engine: EmbeddedEngine,
        pictures: PictureStore,
        loops: tuple[LoopConfigured, ...],
    ) -> None:
        self.engine = engine
        self.pictures = pictures
        self.tail_ms = max(tick_tail_ms(loop.rules) for loop in loops)
        self.swept = 0
        self.clock: Clock = engine.log.clock
        """What pictures age by."""
        self._next_sweep_s = 0.0
        self._next_tick_s = 0.0

    def run(self, stop: StopFlag) -> None:
        """Run until `stop` is set; what is in flight then is asked again by the next run."""
        busy_s = time.monotonic()
        while not stop.is_set():
            self.engine.cycle()
            now_s = time.monotonic()
            if self.engine.stirred:
                busy_s = now_s
            if now_s >= self._next_tick_s:
                self._next_tick_s = now_s + TICK_INTERVAL_MS / 2_000
                tick(self.engine.log, self.tail_ms)
            if now_s >= self._next_sweep_s:
                self._next_sweep_s = now_s + _SWEEP_INTERVAL_S
                self.sweep()
            stop.wait(self._pause_s(now_s - busy_s))

    def _pause_s(self, quiet_s: float) -> float:
        if self.engine.in_flight or quiet_s < _IDLE_AFTER_S:
            return _BUSY_WAIT_S
        return _IDLE_WAIT_S if quiet_s < _RESTING_AFTER_S else _RESTING_WAIT_S

    def sweep(self) -> None:
        """Remove pictures that nobody will ask for."""
        try:
            self._sweep()
        except CloudError as error:
            if error.action != "retry":
                raise
            # A bucket that is slow for ten minutes must not end the job: the next sweep tries.

    def _sweep(self) -> None:
        waiting = set()
        # The log is read for whole pictures only; a half-written one, which a killed kiosk left,
        # has no frame.
        for record in self.engine.unanswered() if self.pictures.ids() else ():
            frame: FrameCaptured = record.value
            if frame.picture_id:
                waiting.add(frame.picture_id)
        swept = self.pictures.sweep(self.clock(), waiting, PICTURE_TTL_MS)
        self.swept += len(swept)
