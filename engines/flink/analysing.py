"""analyze as an asynchronous PyFlink function: a time limit and retries for each call."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

from pyflink.datastream.functions import AsyncFunction, RuntimeContext

from connectors.clocks import WallClock
from connectors.pictures import FolderPictures
from engines.analysis import RETRY_PAUSE_S, FrameAnswerer
from engines.flink.counting import DEAD, STATUSES
from engines.flink.settings import JobSettings
from engines.flink.wire import Wire
from engines.one_key import RawRecord, dead_letter, refusal
from pipelines.operators import Shared
from schemas.codec import decode
from schemas.errors import AnalysisError, PhoError
from schemas.frames import FrameCaptured
from schemas.loops import LoopConfigured

LOOPS_AGE_S = 5.0
"""Configurations of loops are read anew after so long: they say which attributes may be kept."""


class AnalyzeFunction(AsyncFunction):  # type: ignore[misc]
    """Answer each frame exactly once, whatever happens.

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
        module, _, name = settings.analyser.partition(":")
        make = getattr(import_module(module), name)
        analyser = make(Path(settings.models)) if settings.models else make()
        pictures = FolderPictures(Path(settings.pictures))
        self.answerer = FrameAnswerer(analyser, pictures, WallClock(), settings.picture_ttl_ms)
        self.pool = ThreadPoolExecutor(settings.concurrency, "pho-analyze")
        self.loops = Loops(settings)
        self.wire = Wire(settings)

    def close(self) -> None:
        """End; what was in flight is asked again by the next run."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    async def async_invoke(self, value: Any) -> list[bytes]:
        """Answer a frame; a byte before the answer tells `CountAnswers` its status."""
        record = self.wire.record(value[1])
        refused = refusal(record)
        if refused is not None:
            letter = dead_letter(record, *refused)
            return [bytes([DEAD]) + self.wire.emitted(letter.stream, record.key, letter.value)]
        answer = await self._answer(record)
        status = bytes([STATUSES.index(answer.status)])
        return [status + self.wire.emitted("analyses", record.key, answer)]

    async def _answer(self, record: RawRecord) -> Any:
        frame: FrameCaptured = record.value
        shared = self.loops.view()
        if frame.picture_id is None:
            return self.answerer(record, shared)  # the kiosk looked itself: nothing to wait for
        settings, error = self.settings, ""
        here = asyncio.get_running_loop()
        for attempt in range(1, settings.tries + 1):
            call = here.run_in_executor(self.pool, self.answerer, record, shared)
            try:
                return await asyncio.wait_for(call, settings.time_limit_ms / 1_000.0)
            except TimeoutError:
                # Nobody can stop its thread: it is left to itself, with the pool it stands in.
                self.pool.shutdown(wait=False)
                self.pool = ThreadPoolExecutor(settings.concurrency, "pho-analyze")
                error = f"No answer within {settings.time_limit_ms} ms"
                break
            except AnalysisError as failed:
                error = f"{failed} (asked {attempt} times)"
                await asyncio.sleep(RETRY_PAUSE_S * attempt)
            except Exception as failed:  # noqa: BLE001 - a frame always gets an answer
                error = f"the analyser failed: {type(failed).__name__}: {failed}"
                break
        return self.answerer.gave_up(record, error)


class Loops:
    """The newest configuration of each loop, read beside the stream.

    An asynchronous operator of Flink can look at no shared stream, and what it needs of a loop,
    which attributes may be kept, may be some seconds old.

    Parameters
    ----------
    settings : JobSettings
        Where the log is, and what it said at submission.
    """

    def __init__(self, settings: JobSettings) -> None:
        self._settings = settings
        self._loops: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._read_s = 0.0
        for stream, _, _, _, _, value in settings.initial:
            if stream == "loops":
                self._take(bytes.fromhex(value))
        self._read_s = time.monotonic()

    def view(self) -> Shared:
        """Return what is known, and have it read anew when it is old."""
        if time.monotonic() - self._read_s > LOOPS_AGE_S and self._lock.acquire(blocking=False):
            self._read_s = time.monotonic()
            threading.Thread(target=self._read, daemon=True, name="pho-loops").start()
        return {"loops": self._loops}

    def _read(self) -> None:
        from engines.flink.kafka import open_log

        try:
            log = open_log(self._settings)
            try:
                for row in log.scan("loops"):
                    self._take(row.value)
            finally:
                log.close()
        except PhoError:
            pass  # the broker is away: the job itself waits for it, with what it knows
        finally:
            self._lock.release()

    def _take(self, value: bytes) -> None:
        try:
            config = decode(value)
        except PhoError:
            return
        if isinstance(config, LoopConfigured):
            known: Mapping[str, Any] = self._loops
            self._loops = {**known, config.loop_id: config}
