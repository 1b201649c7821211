"""Follows `greetings` once for all kiosks, and keeps each until it is shown or too late."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable

from connectors.logs import Log, Row
from schemas.codec import decode
from schemas.decisions import GreetingIssued
from schemas.errors import PhoError, RecordError

_logger = logging.getLogger(__name__)

KEPT_MAX = 10_000
"""Greetings kept at once, of all kiosks; beyond it the oldest go. One expires after the reward
window, 30 s, so 10,000 are 300 visitors a second."""
_LOOKED_BACK = 500
_RETRY_S = 1.0


class GreetingBoard:
    """What was issued and may still be shown.

    Parameters
    ----------
    open_log : callable
        Opens a reader of its own; called in the board's thread, again after a failure.
    clock : callable
        Returns ms since 1970 UTC.
    issued : callable
        Told each greeting as it comes, in the board's thread.
    poll_s : float
        How long one look at the log waits, seconds: in a folder it is the time between two looks,
        and so what a greeting waits at most.
    """

    def __init__(
        self,
        open_log: Callable[[], Log],
        clock: Callable[[], int],
        issued: Callable[[GreetingIssued], None],
        poll_s: float = 0.005,
    ) -> None:
        self._open = open_log
        self._clock = clock
        self._issued = issued
        self._poll_s = poll_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._kept: OrderedDict[str, GreetingIssued] = OrderedDict()

    def start(self) -> None:
        """Follow the log until `close`."""
        self._thread = threading.Thread(target=self._run, name="greeting-board", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def of(self, visit_id: str) -> GreetingIssued | None:
        """Return the greeting of a visit that may still be shown; None: there is none (yet)."""
        with self._guard:
            greeting = self._kept.get(visit_id)
        if greeting is None or greeting.expires_at_ms <= self._clock():
            return None
        return greeting

    def forget(self, visit_id: str) -> None:
        """Let go of a greeting: it was shown, or its visit is over."""
        with self._guard:
            self._kept.pop(visit_id, None)

    def take(self, rows: list[Row]) -> None:
        """Take in greetings as they stand in the log; whatever else stands there greets nobody."""
        for row in rows:
            try:
                greeting = decode(row.value)
            except RecordError:
                continue
            if isinstance(greeting, GreetingIssued) and self._keep(greeting):
                self._issued(greeting)

    def _keep(self, greeting: GreetingIssued) -> bool:
        """Keep it, unless it is too late or a repeat; return whether it is kept."""
        now_ms = self._clock()
        with self._guard:
            if greeting.expires_at_ms <= now_ms or greeting.visit_id in self._kept:
                return False
            self._kept[greeting.visit_id] = greeting
            # They expire in the order they came: all of one loop's windows are equally long.
            while self._kept:
                oldest = next(iter(self._kept.values()))
                if oldest.expires_at_ms > now_ms and len(self._kept) <= KEPT_MAX:
                    break
                self._kept.popitem(last=False)
        return True

    def _run(self) -> None:
        said = False
        while not self._stop.is_set():
            try:
                self._follow()
            except PhoError as error:
                if not said:
                    _logger.warning("greetings cannot be read: %s", error)
                said = True
                self._stop.wait(_RETRY_S)

    def _follow(self) -> None:
        log = self._open()
        try:
            # In this order: what comes between the two is then in both, and kept once.
            tail = log.tail("greetings")
            try:
                # Issued while no gateway ran, for visitors who may still stand there.
                self.take(log.last("greetings", _LOOKED_BACK))
                while not self._stop.is_set():
                    self.take(tail.poll(self._poll_s))
            finally:
                tail.close()
        finally:
            log.close()
