"""Live, by the wall clock: from a frame to its greeting, and from a reaction to the policy."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from connectors.kafka_clients import connect
from flink_account import waits_ms
from flink_stand import SUPPORT, Stand
from schemas.codec import decode
from schemas.outcomes import OutcomeClosed

WARM_UP = 300
"""Visits that find cold caches and compilers still at work; they do not count."""


class Live:
    """A stand with visitors, as long as it is open.

    Parameters
    ----------
    stand : Stand
        Started, with both jobs.
    visits_a_second : float
        How many come.
    """

    def __init__(self, stand: Stand, visits_a_second: float) -> None:
        self.stand = stand
        self.seen: list[tuple[int, int]] = []
        stand.start_ticker()
        script = [sys.executable, str(SUPPORT / "flink_load.py"), "--log", str(stand.address)]
        rate = ["--name", "live", "--rate", str(visits_a_second), "--journal", str(self._journal)]
        pictures = ["--pictures", str(stand.pictures), "--share", "1"]
        stand.start_beside("camera", [*script, *rate, *pictures])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow_policies, daemon=True)
        self._thread.start()

    @property
    def _journal(self) -> Path:
        return self.stand.folder / "live.txt"

    def frame_to_greeting(self, n_visits: int, patience_s: float) -> list[float]:
        """Wait for so many visits; return ms from each frame captured to its greeting seen."""
        until_s = time.monotonic() + patience_s
        while True:
            self.stand.check_beside()
            waits = waits_ms([self._journal]) if self._journal.exists() else []
            if len(waits) >= n_visits + WARM_UP or time.monotonic() > until_s:
                return [float(wait) for wait in waits[WARM_UP:]]
            time.sleep(0.5)

    def close(self) -> None:
        """Let the last visitors leave."""
        self.stand.end_beside("camera")
        # Their windows close by the end of their visits; log time needs a Tick or two for it.
        time.sleep(3.0)
        self._stop.set()
        self._thread.join()

    def reaction_to_policy(self) -> list[float]:
        """Return ms from each outcome in the log to a consumer of `policies` that has learned it.

        Both ends are this machine's clock: the broker's log time, and when the consumer saw it.
        """
        took = []
        with self.stand.log() as log:
            known = sorted(self.seen)
            place = 0
            for row in log.scan("outcomes"):
                outcome = decode(row.value)
                if not isinstance(outcome, OutcomeClosed) or not outcome.learnable:
                    continue
                while place < len(known) and known[place][0] < row.log_time_ms:
                    place += 1
                if place < len(known):
                    took.append(float(known[place][1] - row.log_time_ms))
        return took[WARM_UP:]

    def _follow_policies(self) -> None:
        client = connect(self.stand.address, client="confluent")
        topic = self.stand.address.topic("policies")
        reader = client.reader(client.ends([(topic, 0)]))
        while not self._stop.is_set():
            for record in reader.poll(0.2):
                snapshot = decode(record.value or b"")
                now_ms = time.time_ns() // 1_000_000
                self.seen.append((snapshot.learned_through_log_time_ms or 0, now_ms))
        reader.close()
        client.close()
