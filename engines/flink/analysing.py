"""analyze as a PyFlink function: calls in threads beside the task, answers fetched by a timer.

Flink's own asynchronous function is not used: PyFlink runs it in processes only, and each bundle
waits for the last call of the bundle before it, 90 ms more in each greeting at 20 visits a second
(docs/decisions, analyze in threads).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from pyflink.common import Types
from pyflink.datastream.functions import KeyedBroadcastProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor

from connectors.clocks import WallClock
from engines.analysis import Calls, Place, place_of
from engines.flink.counting import Counting
from engines.flink.functions import STATE_BYTES
from engines.flink.loading import load
from engines.flink.settings import JobSettings
from engines.flink.sharing import SharedView
from engines.flink.wire import Wire
from engines.one_key import RawRecord, dead_letter, refusal
from engines.services import close_answerer, make_answerer, make_flow, open_pictures
from pipelines.operators import Shared
from pipelines.topology import LOOPS
from schemas.frames import FrameAnalyzed

LOOK_EVERY_MS = 5
"""Pause between two looks for an answer: what it adds to a greeting, at the most."""
_LOOK_SHARE = 0.1
"""A call that takes long is looked for less often: after so much of the time it has taken."""
_FULL_WAIT_S = 0.05


class AnalyzeFunction(KeyedBroadcastProcessFunction):  # type: ignore[misc]
    """Answer each frame exactly once, whatever happens.

    A frame stands in state from the moment its picture is asked about until it is answered, so a
    job that was started again asks again. As many as may be in flight are; the task waits with the
    next, and so the log keeps the others.

    Parameters
    ----------
    settings : JobSettings
        What the job was told.
    """

    def __init__(self, settings: JobSettings) -> None:
        self.settings = settings

    def open(self, runtime_context: RuntimeContext) -> None:
        """Begin on a worker."""
        settings = self.settings
        load(settings)
        # The rates and the budget are the account's: each instance has its share.
        services = settings.services.shared_by(settings.parallelism)
        pictures = open_pictures(services)
        self.answerer = make_answerer(services, pictures, WallClock())
        self.calls = Calls(make_flow(services).asynchronous("analyze"), self.answerer)
        self.wire = Wire(settings)
        self.shared = SharedView((LOOPS,), settings, self.wire)
        self.counters = Counting(runtime_context, "analyze")
        self.kept = runtime_context.get_map_state(
            MapStateDescriptor("asked", Types.STRING(), STATE_BYTES)
        )
        self.asked: dict[str, dict[Place, int]] = {}
        self.answers: dict[Place, FrameAnalyzed] = {}

    def close(self) -> None:
        """End; what is in flight is asked again by the next run."""
        self.calls.close()
        close_answerer(self.answerer)

    def process_element(self, value: bytes, ctx: Any) -> Iterator[bytes]:
        """Take a frame."""
        self.counters.event()
        record = self.wire.record(value)
        refused = refusal(record)
        if refused is not None:
            self.counters.count("dead_letters")
            letter = dead_letter(record, *refused)
            yield self.wire.emitted(letter.stream, record.key, letter.value)
        elif record.value.picture_id is None and self.answerer.scorer is None:
            # The kiosk looked itself, and no endpoint is asked: nothing to wait for.
            yield self._written(record.key, self.answerer(record, self.shared.look(ctx)))
        else:
            self.kept.put(_name(place_of(record)), value)
            if not self.asked.get(record.key):
                self._look_again(_now_ms() + LOOK_EVERY_MS, ctx)
            self._ask(record, self.shared.look(ctx))

    def process_broadcast_element(self, value: Any, ctx: Any) -> Iterator[bytes]:
        """Take a record of a shared stream; `decide` reads it too and says what is wrong."""
        self.shared.take(value[1], ctx)
        return iter(())

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[bytes]:
        """Look for the answers to one key's frames."""
        key = ctx.get_current_key()
        if key not in self.asked:
            for envelope in list(self.kept.values()):  # of the run before this one
                self._ask(self.wire.record(bytes(envelope)), self.shared.look(ctx))
        self._collect()
        asked = self.asked.get(key, {})
        for place in [place for place in asked if place in self.answers]:
            del asked[place]
            self.kept.remove(_name(place))
            yield self._written(key, self.answers.pop(place))
        if asked:
            waited_ms = timestamp - min(asked.values())
            self._look_again(timestamp + max(LOOK_EVERY_MS, int(waited_ms * _LOOK_SHARE)), ctx)
        else:
            self.asked.pop(key, None)

    def _ask(self, record: RawRecord, shared: Shared) -> None:
        while not self.calls.free:
            self._collect(_FULL_WAIT_S)
        self.asked.setdefault(record.key, {})[place_of(record)] = _now_ms()
        self.calls.submit(record, shared)

    def _collect(self, wait_s: float = 0.0) -> None:
        for record, answer in self.calls.collect(wait_s):
            self.answers[place_of(record)] = answer

    def _written(self, key: str, answer: FrameAnalyzed) -> bytes:
        if answer.status in ("failed", "expired"):
            self.counters.count(answer.status)
        return self.wire.emitted("analyses", key, answer)

    def _look_again(self, at_ms: int, ctx: Any) -> None:
        ctx.timer_service().register_processing_time_timer(at_ms)


def _name(place: Place) -> str:
    return "/".join(map(str, place))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
