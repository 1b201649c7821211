"""Where the processor's time goes inside the operators on Flink, by part, exclusive.

Runs in the workers. Time is that of the thread: what other threads do meanwhile, under the one lock
of Python, does not count. What lies between two calls from Flink is the JVM's own part of the
task: network, serializers, timers, sink.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyflink.datastream.functions import RuntimeContext

import engines.flink.wire as wire
from engines.flink.functions import KeyedFunction, Steps
from engines.flink.learning import LearnFunction
from engines.flink.sharing import SharingFunction
from engines.flink.wire import Wire
from engines.one_key import OneKey, RawRecord

FOLDER = "PHO_PROFILE"
"""Environment variable that names where results go; it must be set for the TaskManagers."""
_WRITE_EVERY = 2_000
_here = threading.local()


class Sections:
    """Adds up the time of one task's thread."""

    def __init__(self) -> None:
        self.calls = 0
        self.seconds: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)
        self._stack = ["flink (JVM side of the task)"]
        self._since_s = time.thread_time()

    def enter(self, part: str) -> None:
        """Begin a part; the clock of the one around it stands still."""
        now_s = time.thread_time()
        self.seconds[self._stack[-1]] += now_s - self._since_s
        self.counts[part] += 1
        self._stack.append(part)
        self._since_s = now_s

    def leave(self) -> None:
        """End the part."""
        now_s = time.thread_time()
        self.seconds[self._stack.pop()] += now_s - self._since_s
        self._since_s = now_s


def _wrap(owner: Any, attribute: str, part: str) -> None:
    inner = getattr(owner, attribute)

    def counted(*args: Any, **kwargs: Any) -> Any:
        sections: Sections | None = getattr(_here, "sections", None)
        if sections is None:
            return inner(*args, **kwargs)
        sections.enter(part)
        try:
            return inner(*args, **kwargs)
        finally:
            sections.leave()

    setattr(owner, attribute, counted)


_lock = threading.Lock()
_wrapped = False


def _wrap_all() -> None:
    global _wrapped
    with _lock:
        if _wrapped:
            return
        _wrapped = True
        _wrap(RawRecord, "_read", "decode")
        _wrap(wire, "encode", "encode")
        for name in ("record", "emitted"):
            _wrap(Wire, name, "envelope")
        _wrap(OneKey, "pack", "pack")
        _wrap(OneKey, "unpack", "unpack")
        _wrap(Steps, "remembered", "memory: look up")
        _wrap(Steps, "remember", "memory: keep")
        # Only there is in a worker what this module imports.
        from pyflink.fn_execution.datastream.embedded.timerservice_impl import TimerServiceImpl

        _wrap(TimerServiceImpl, "register_event_time_timer", "state and timers (JVM calls)")


_CALLS = ("value", "update", "clear", "put", "get", "contains", "remove", "add", "add_all")


class _State:
    """A state whose calls into the JVM are counted."""

    def __init__(self, inner: Any) -> None:
        for name in _CALLS:
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))
                _wrap(self, name, "state and timers (JVM calls)")


class Profiled:
    """A function of the loop, with a clock in its hand."""

    steps: Steps

    def begin_profile(self, context: RuntimeContext) -> None:
        """Put the clocks in."""
        _wrap_all()
        steps = self.steps
        for owner in (steps, self):
            for name, value in list(vars(owner).items()):
                if type(value).__module__.endswith("state_impl"):
                    setattr(owner, name, _State(value))
        operator = steps.one_key.part.operator
        for method in ("on_event", "on_timer"):
            _wrap(operator, method, "operator")
        self.sections = Sections()

    def timed(self, call: Callable[..., Iterator[bytes]], *args: Any) -> list[bytes]:
        """Make one call of Flink's."""
        _here.sections = sections = self.sections
        sections.enter("python, everything else")
        try:
            return list(call(*args))
        finally:
            sections.leave()
            _here.sections = None
            sections.calls += 1
            if sections.calls % _WRITE_EVERY == 0:
                self._write()

    def _write(self) -> None:
        name = f"{self.steps.name}-{os.getpid()}-{threading.get_ident()}"
        told = {
            "operator": self.steps.name,
            "calls": self.sections.calls,
            "seconds": self.sections.seconds,
            "counts": self.sections.counts,
        }
        path = Path(os.environ[FOLDER]) / f"{name}.json"
        path.write_text(json.dumps(told), encoding="utf-8")


class ProfiledKeyed(KeyedFunction, Profiled):
    """Greet, join."""

    def open(self, runtime_context: RuntimeContext) -> None:
        """Begin on a worker."""
        super().open(runtime_context)
        self.begin_profile(runtime_context)

    def process_element(self, value: bytes, ctx: Any) -> Iterator[bytes]:
        """Take a record."""
        return iter(self.timed(super().process_element, value, ctx))

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[bytes]:
        """Take a timer."""
        return iter(self.timed(super().on_timer, timestamp, ctx))


class ProfiledLearn(LearnFunction, Profiled):
    """Learn."""

    def open(self, runtime_context: RuntimeContext) -> None:
        """Begin on a worker."""
        super().open(runtime_context)
        self.begin_profile(runtime_context)

    def process_element(self, value: bytes, ctx: Any) -> Iterator[bytes]:
        """Take a record."""
        return iter(self.timed(super().process_element, value, ctx))

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[bytes]:
        """Take a timer."""
        return iter(self.timed(super().on_timer, timestamp, ctx))


class ProfiledSharing(SharingFunction, Profiled):
    """Decide."""

    def open(self, runtime_context: RuntimeContext) -> None:
        """Begin on a worker."""
        super().open(runtime_context)
        self.begin_profile(runtime_context)

    def process_element(self, value: bytes, ctx: Any) -> Iterator[bytes]:
        """Take a record."""
        return iter(self.timed(super().process_element, value, ctx))

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[bytes]:
        """Take a timer."""
        return iter(self.timed(super().on_timer, timestamp, ctx))


INSTEAD_OF = {
    "KeyedFunction": ProfiledKeyed,
    "LearnFunction": ProfiledLearn,
    "SharingFunction": ProfiledSharing,
}
"""The functions with clocks, by the name of what they stand for."""


def read_profile(folder: Path) -> dict[str, dict[str, float]]:
    """Return microseconds of each call by operator and part, with the number of calls."""
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    calls: dict[str, int] = defaultdict(int)
    for path in folder.glob("*.json"):
        told = json.loads(path.read_text(encoding="utf-8"))
        calls[told["operator"]] += told["calls"]
        for part, spent_s in told["seconds"].items():
            seconds[told["operator"]][part] += spent_s
    return {
        operator: {
            "calls": calls[operator],
            **{
                part: spent_s / calls[operator] * 1e6
                for part, spent_s in sorted(parts.items(), key=lambda item: -item[1])
            },
        }
        for operator, parts in seconds.items()
    }
