"""For crash tests: end this very process at a named step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from schemas.errors import UsageError


def crash_steps(crash_at: str) -> Callable[[str], None]:
    """Return what ends this very process at the n-th step of a name, ``commit.outputs:12``.

    For crash tests only: SIGKILL, so that nothing gets a chance to tidy up.

    Raises
    ------
    UsageError
        When the text is not NAME:NUMBER.
    """
    if not crash_at:
        return lambda _name: None
    name, _, number = crash_at.partition(":")
    if not number.isdecimal():
        problem = f"PHO_CRASH_AT is {crash_at!r}"
        raise UsageError(problem, "Write NAME:NUMBER, such as append:12")
    left = int(number)

    def step(at: str) -> None:
        nonlocal left
        if at == name:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return step
