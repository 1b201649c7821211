"""What stands between us and a service that is slow, dear or down: a rate, a breaker, a budget.

All three are shared by the threads that call; none of them calls anything itself.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from connectors.logs import Clock
from schemas.errors import ResourceError, SettingsError

_DAY_MS = 86_400_000
_WRITTEN_EVERY = 10


class TokenBucket:
    """Lets calls through at a rate: so many a second, and as many at once as were saved up.

    Parameters
    ----------
    per_second : float
        Calls a second, above 0.
    burst : float, default 1
        Calls that may go at once after a pause.
    now_s, sleep : callable, optional
        Stand for the machine's clock, in tests.
    """

    def __init__(
        self,
        per_second: float,
        burst: float = 1.0,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not (per_second > 0.0 and burst >= 1.0):
            problem = f"a rate of {per_second} a second with {burst} at once lets nothing through"
            raise SettingsError(problem, "Both must be above 0, and one call fit into the burst")
        self.per_second = per_second
        self._burst = burst
        self._now_s = now_s
        self._sleep = sleep
        self._lock = threading.Lock()
        self._tokens = burst
        self._at_s = now_s()

    def take(self, wait_s: float) -> bool:
        """Wait for this call's turn, at most so long; return whether it came.

        A turn is promised under the lock and waited for outside: threads keep their order, and
        one that would have to wait too long takes nobody's turn.
        """
        with self._lock:
            now_s = self._now_s()
            saved = self._tokens + (now_s - self._at_s) * self.per_second
            self._tokens, self._at_s = min(self._burst, saved), now_s
            delay_s = max(0.0, (1.0 - self._tokens) / self.per_second)
            if delay_s > wait_s:
                return False
            self._tokens -= 1.0
        if delay_s:
            self._sleep(delay_s)
        return True


class CircuitBreaker:
    """Stops asking a service that fails, and lets one call try it now and then.

    Parameters
    ----------
    failures : int
        So many in a row open it.
    pause_s : float
        How long nobody asks then, seconds; after it one call tries.
    now_s : callable, optional
        Stands for the machine's clock, in tests.
    """

    def __init__(
        self, failures: int, pause_s: float, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.opened = 0
        """How many times it opened."""
        self._failures = failures
        self._pause_s = pause_s
        self._now_s = now_s
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._closed_until_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether nobody asks now."""
        return self._in_a_row >= self._failures

    def allows(self) -> bool:
        """Return whether to ask; where it is open, one call after each pause is the one to try."""
        with self._lock:
            if not self.is_open:
                return True
            now_s = self._now_s()
            if now_s < self._closed_until_s:
                return False
            self._closed_until_s = now_s + self._pause_s
            return True

    def succeeded(self) -> None:
        """Note an answer: it closes."""
        with self._lock:
            self._in_a_row = 0

    def failed(self, *, for_good: bool = False) -> None:
        """Note a failure; `for_good`: asking again cannot mend it, so it opens at once."""
        with self._lock:
            was_open = self.is_open
            self._in_a_row = self._failures if for_good else self._in_a_row + 1
            if self.is_open:
                self.opened += not was_open
                self._closed_until_s = self._now_s() + self._pause_s


class Spent(msgspec.Struct, frozen=True):
    """What a service was asked, as it stands in the file."""

    day: int = 0
    """Days since 1970, UTC."""
    calls_today: int = 0
    """Calls of that day that were answered."""
    calls: int = 0
    """Calls that were ever answered."""
    cost_today: float = 0.0
    """What those of that day cost, in the currency of the price."""
    cost: float = 0.0
    """What all of them cost."""


class Spending:
    """Counts what calls cost, and says when the day's budget is used up.

    Parameters
    ----------
    price : float
        Of one call, in whatever currency the budget is in.
    daily_budget : float
        Of a day in UTC; 0: none.
    clock : callable
        Returns ms since 1970 UTC.
    path : Path, optional
        Where it is kept, so that a job that starts again does not start at nothing. Killed, it
        forgets the last ten calls at most.
    """

    def __init__(
        self, price: float, daily_budget: float, clock: Clock, path: Path | None = None
    ) -> None:
        self.price = price
        self.daily_budget = daily_budget
        self._clock = clock
        self._path = path
        self._lock = threading.Lock()
        self._spent = read_spent(path) if path is not None else Spent()
        self._unwritten = 0

    @property
    def spent(self) -> Spent:
        """What was asked, with the day as it is now."""
        with self._lock:
            return self._today()

    @property
    def day(self) -> str:
        """The day whose budget counts now, UTC: ``2026-11-22``."""
        return dt.datetime.fromtimestamp(self._clock() / 1_000.0, dt.UTC).date().isoformat()

    def allows(self) -> bool:
        """Return whether one more call fits into the day's budget."""
        if self.daily_budget <= 0.0:
            return True
        return self.spent.cost_today + self.price <= self.daily_budget + 1e-9

    def count(self) -> None:
        """Note one call that was answered: refused ones cost nothing."""
        with self._lock:
            was = self._today()
            self._spent = Spent(
                was.day,
                was.calls_today + 1,
                was.calls + 1,
                was.cost_today + self.price,
                was.cost + self.price,
            )
            self._unwritten += 1
            if self._unwritten >= _WRITTEN_EVERY:
                self._write()

    def close(self) -> None:
        """Write down what is not yet."""
        with self._lock:
            if self._unwritten:
                self._write()

    def _today(self) -> Spent:
        day = self._clock() // _DAY_MS
        if day > self._spent.day:
            self._spent = Spent(day, 0, self._spent.calls, 0.0, self._spent.cost)
        return self._spent

    def _write(self) -> None:
        self._unwritten = 0
        if self._path is None:
            return
        part = self._path.with_suffix(".part")
        try:
            part.write_bytes(msgspec.json.encode(self._spent))
            part.replace(self._path)
        except OSError as error:
            problem = f"{self._path} cannot be written: {error.strerror or error}"
            raise ResourceError(problem, "The budget is kept there: make it writable") from error


def read_spent(path: Path) -> Spent:
    """Read what was spent; nothing where nobody wrote yet.

    Raises
    ------
    ResourceError
        The file cannot be read, or is not ours: to begin at nothing would double the budget.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Spent)
    except FileNotFoundError:
        return Spent()
    except (OSError, msgspec.MsgspecError) as error:
        problem = f"{path} cannot be read: {error}"
        raise ResourceError(problem, "Delete it to begin at nothing") from error
