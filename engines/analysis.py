"""Analysis beside the engine: bounded concurrency, a time limit and retries for each call."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pipelines.analyze import Analyser, Pictures, Seen, edge_seen, refusal, seen, unseen
from pipelines.operators import Asynchronous, Record, Shared
from pipelines.topology import PICTURE_TTL_MS
from schemas.errors import AnalysisError, CloudError, PictureMissing, PictureUnreadable
from schemas.frames import FrameAnalyzed, FrameCaptured, Score
from schemas.loops import LoopConfigured

Place = tuple[int, int]
"""Partition and offset of a record in its stream."""

RETRY_PAUSE_S = 0.05
"""Pause before the second call for a picture, s; it grows with each."""


class Scorer(Protocol):
    """Whoever is asked about a deciding picture beside its analysis, such as an endpoint."""

    def score(self, frame: FrameCaptured, what: Seen, config: LoopConfigured) -> tuple[Score, ...]:
        """Return labels to write down with what was seen; none: nothing was said in time."""
        ...


class FrameAnswerer:
    """Answers one frame, whatever happens.

    Parameters
    ----------
    analyser : Analyser
        Looks at the picture.
    pictures : Pictures
        Keeps it until then.
    picture_ttl_ms : int or None
        A frame older than this is answered ``expired``, ms; None: pictures do not age (a
        recording played in lock-step).
    clock : callable
        Returns ms since 1970 UTC.
    scorer : Scorer, optional
        Is asked about pictures with a face; what it says is logged with the answer.
    """

    def __init__(
        self,
        analyser: Analyser,
        pictures: Pictures,
        clock: Callable[[], int],
        picture_ttl_ms: int | None = PICTURE_TTL_MS,
        scorer: Scorer | None = None,
    ) -> None:
        self.scorer = scorer
        self.analyser = analyser
        self.pictures = pictures
        self.clock = clock
        self.picture_ttl_ms = picture_ttl_ms

    def __call__(self, record: Record, shared: Shared) -> FrameAnalyzed:
        """Answer a frame.

        Raises
        ------
        AnalysisError
            The analyser gave no answer this time; asking again may help.
        """
        frame: FrameCaptured = record.value
        ttl_ms = self.picture_ttl_ms
        refused = refusal(frame, record.log_time_ms, ttl_ms if ttl_ms is not None else 2**62)
        if refused is not None:
            return refused
        config = shared["loops"].get(frame.loop_id) if "loops" in shared else None
        edge = edge_seen(frame)
        if edge is not None:
            return seen(frame, self._scored(frame, edge, config), 0.0, config)
        waited_ms = self.clock() - record.log_time_ms
        if ttl_ms is not None and waited_ms > ttl_ms:
            return unseen(frame, "expired", f"It waited {waited_ms} ms in the log")
        started_s = time.perf_counter()
        try:
            what = self.analyser.analyse(self.pictures.get(frame.picture_id or ""))
        except (PictureMissing, PictureUnreadable) as error:
            return unseen(frame, "failed", str(error))
        except CloudError as error:  # of the picture store
            if error.action == "retry":
                raise AnalysisError(error.problem, error.cure) from error
            return unseen(frame, "failed", str(error))
        what = self._scored(frame, what, config)
        return seen(frame, what, (time.perf_counter() - started_s) * 1_000.0, config)

    def _scored(self, frame: FrameCaptured, what: Seen, config: LoopConfigured | None) -> Seen:
        if self.scorer is None or config is None:
            return what
        said = self.scorer.score(frame, what, config)
        names = {score.name for score in said}
        kept = tuple(label for label in what.labels if label.name not in names)
        return replace(what, labels=kept + said)

    def gave_up(self, record: Record, error: str) -> FrameAnalyzed:
        """Answer a frame that nobody could look at."""
        return unseen(record.value, "failed", error)


def place_of(record: Record) -> Place:
    """Return where a record stands."""
    return record.partition, record.offset


@dataclass(slots=True)
class _Call:
    record: Record
    shared: Shared
    tries: int = 0
    started_s: float | None = None
    answer: Any = None
    error: str = ""


@dataclass(slots=True)
class _Worker:
    call: _Call | None = None
    abandoned: bool = False


@dataclass(slots=True)
class Calls:
    """The calls of one asynchronous operator, in flight and answered.

    A call that outlives its time limit is answered as failed; its thread, which nobody can stop,
    is left to itself and replaced, so that one stuck call does not take a place for ever.
    """

    part: Asynchronous
    answerer: FrameAnswerer
    limited: bool = True
    in_flight: dict[Place, _Call] = field(default_factory=dict)
    _inbox: queue.SimpleQueue[_Call | None] = field(default_factory=queue.SimpleQueue)
    _outbox: queue.SimpleQueue[tuple[_Worker, _Call]] = field(default_factory=queue.SimpleQueue)
    _workers: list[_Worker] = field(default_factory=list)

    @property
    def free(self) -> int:
        """How many more records may be submitted now."""
        return self.part.concurrency - len(self.in_flight)

    def submit(self, record: Record, shared: Shared) -> None:
        """Start to answer a record."""
        call = _Call(record, shared)
        self.in_flight[place_of(record)] = call
        while len(self._workers) < self.part.concurrency:
            self._hire()
        self._inbox.put(call)

    def close(self) -> None:
        """Let the threads end; what is in flight is asked again by the next engine."""
        for _ in self._workers:
            self._inbox.put(None)

    def collect(self, wait_s: float = 0.0) -> list[tuple[Record, Any]]:
        """Return the answers that are there, waiting for the first one at most `wait_s`."""
        answers: list[tuple[Record, Any]] = []
        if wait_s and self.in_flight:
            self._take_answer(answers, wait_s)
        while not self._outbox.empty():
            self._take_answer(answers, 0.0)
        if self.limited:
            self._give_up_overdue(answers)
        return answers

    def _take_answer(self, answers: list[tuple[Record, Any]], wait_s: float) -> None:
        try:
            worker, call = self._outbox.get(timeout=wait_s) if wait_s else self._outbox.get_nowait()
        except queue.Empty:
            return
        if worker.call is call:  # it may have taken up the next one, which has its own time limit
            worker.call = None
        if self.in_flight.pop(place_of(call.record), None) is None:
            return  # answered as failed when its time was up
        answer = call.answer or self.answerer.gave_up(call.record, call.error)
        answers.append((call.record, answer))

    def _give_up_overdue(self, answers: list[tuple[Record, Any]]) -> None:
        limit_s = self.part.time_limit_ms / 1_000.0
        now_s = time.monotonic()
        for worker in list(self._workers):
            call = worker.call
            if call is None or call.started_s is None or now_s - call.started_s <= limit_s:
                continue
            worker.abandoned = True
            self._workers.remove(worker)
            self._hire()
            if self.in_flight.pop(place_of(call.record), None) is not None:
                error = f"No answer within {self.part.time_limit_ms} ms"
                answers.append((call.record, self.answerer.gave_up(call.record, error)))

    def _hire(self) -> None:
        worker = _Worker()
        self._workers.append(worker)
        name = f"pho-{self.part.name}"
        threading.Thread(target=self._work, args=(worker,), daemon=True, name=name).start()

    def _work(self, worker: _Worker) -> None:
        while not worker.abandoned:
            call = self._inbox.get()
            if call is None:
                return
            call.started_s = time.monotonic()
            worker.call = call
            self._answer(call)
            self._outbox.put((worker, call))

    def _answer(self, call: _Call) -> None:
        while call.tries < self.part.tries:
            call.tries += 1
            try:
                call.answer = self.answerer(call.record, call.shared)
            except AnalysisError as error:
                call.error = f"{error} (asked {call.tries} times)"
                time.sleep(RETRY_PAUSE_S * call.tries)
            except Exception as error:  # noqa: BLE001 - a frame always gets an answer
                call.error = f"the analyser failed: {type(error).__name__}: {error}"
                return
            else:
                return
