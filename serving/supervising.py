"""Keeps several `pho` commands running as one: starts them, starts again what dies, stops all.

A part that dies is started again after a pause that doubles while it goes on dying; one that dies
at once again and again ends everything. Should the supervisor itself be killed, its parts notice
by the end of their standard input, and stop.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO

from engines.job import StopFlag
from schemas.errors import ResourceError, UsageError

AT_ONCE_S = 10.0
"""A part that lived shorter than this died at once: it takes 1 to 3 s to start."""
AT_ONCE_MAX = 5
"""So many times in a row end everything."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 30.0
PATIENCE_S = 15.0
"""How long a part may take to stop, before it is killed; an append may wait 10 s for a lock."""
_LOOK_EVERY_S = 0.05
_USAGE_STATUS = 2
_START = "from serving.supervising import run_part; run_part()"


@dataclass(frozen=True, slots=True)
class Part:
    """One command to keep running."""

    name: str
    """What to call it, for a person."""
    arguments: tuple[str, ...]
    """What follows `pho`."""
    may_end: bool = False
    """True: it is done when it ends with 0, such as a film that is over."""


@dataclass(slots=True)
class _Running:
    part: Part
    process: subprocess.Popen[str] | None = None
    started_s: float = 0.0
    start_at_s: float = 0.0
    at_once: int = 0
    done: bool = False
    listeners: list[threading.Thread] = field(default_factory=list)


class Supervisor:
    """Keeps parts running until it is told to stop.

    Parameters
    ----------
    parts : sequence of Part
        In the order they are started; they are stopped in the opposite one.
    say : callable
        Told what parts say, line by line with their name, and what happens to them.
    command : sequence of str, optional
        What starts a part instead of this Python; its arguments follow.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        say: Callable[[str], None],
        command: Sequence[str] = (sys.executable, "-c", _START),
    ) -> None:
        self._running = [_Running(part) for part in parts]
        self._say = say
        self._command = tuple(command)

    @property
    def processes(self) -> dict[str, int]:
        """The number of each part's process that runs now."""
        return {
            each.part.name: each.process.pid for each in self._running if each.process is not None
        }

    def run(self, stop: StopFlag) -> None:
        """Start the parts, and keep them running until `stop` is set or all are done.

        Raises
        ------
        UsageError
            A part cannot understand what it was told: starting it again would not help.
        ResourceError
            A part dies at once again and again.
        """
        try:
            while not stop.is_set() and not all(each.done for each in self._running):
                for each in self._running:
                    self._look_after(each, stop)
                stop.wait(_LOOK_EVERY_S)
        finally:
            self._stop_all()

    def _look_after(self, each: _Running, stop: StopFlag) -> None:
        now_s = time.monotonic()
        if each.done:
            return
        if each.process is None:
            if now_s >= each.start_at_s:
                self._start(each)
            return
        status = each.process.poll()
        if status is None or stop.is_set():
            return
        self._let_go(each)
        name = each.part.name
        if status == 0 and each.part.may_end:
            each.done = True
            self._say(f"{name} is done")
            return
        each.at_once = each.at_once + 1 if now_s - each.started_s < AT_ONCE_S else 0
        how = _how(status)
        if each.at_once and status == _USAGE_STATUS:
            problem = f"{name} cannot be started"
            raise UsageError(problem, "It said why: see above")
        if each.at_once >= AT_ONCE_MAX:
            problem = f"{name} died at once {each.at_once} times in a row, the last time {how}"
            raise ResourceError(
                problem, "It said why: see above; `pho doctor` checks what it needs"
            )
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**each.at_once)
        each.start_at_s = now_s + pause_s
        self._say(f"{name} ended {how}; it is started again in {pause_s:.1f} s")

    def _start(self, each: _Running) -> None:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*self._command, *each.part.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # Ctrl-C reaches the supervisor alone, which stops its parts in their order.
            start_new_session=True,
        )
        each.process, each.started_s = process, time.monotonic()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                listener = threading.Thread(
                    target=self._listen, args=(each.part.name, stream), daemon=True
                )
                listener.start()
                each.listeners.append(listener)

    def _listen(self, name: str, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._say(f"{name}: {line.rstrip()}")

    def _stop_all(self) -> None:
        for each in reversed(self._running):
            process = each.process
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._say(f"{each.part.name} does not stop; it is killed")
                process.kill()
                process.wait()
            self._let_go(each)

    @staticmethod
    def _let_go(each: _Running) -> None:
        """Hear the last words of a process that ended, and forget it."""
        process, each.process = each.process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
        for listener in each.listeners:
            # A grandchild may hold the pipe open; its words are not worth waiting for.
            listener.join(timeout=1.0)
        each.listeners.clear()


def _how(status: int) -> str:
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"


def run_part() -> None:
    """Run the command line `pho` as a part: stop when the supervisor is gone."""
    from serving.cli import main

    threading.Thread(target=_watch_supervisor, daemon=True).start()
    main()


def _watch_supervisor() -> None:
    # Nothing is ever written there: a read ends only when the other end is closed.
    descriptor = sys.stdin.fileno()
    while os.read(descriptor, 4_096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
