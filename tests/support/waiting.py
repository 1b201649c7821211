"""Waiting for what comes by itself: long enough for a machine with much else to do."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 60.0
_LOOK_EVERY_S = 0.02


def wait_until(
    holds: Callable[[], bool],
    patience_s: float = PATIENCE_S,
    explain: Callable[[], str] = lambda: "",
    pause: Callable[[], object] = lambda: time.sleep(_LOOK_EVERY_S),
) -> None:
    """Wait until something is so.

    Parameters
    ----------
    holds : callable
        Whether it is so.
    patience_s : float
        How long is waited at most, seconds: no measure, what is there at once is seen at once.
    explain : callable
        Tells more of what went wrong.
    pause : callable
        Lets time pass between two looks.

    Raises
    ------
    AssertionError
        It was not so within that time.
    """
    end_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end_s, f"not within {patience_s} s. {explain()}"
        pause()
