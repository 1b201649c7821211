"""Runs one job over topics laid out before, and watches at the topics how fast it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.parts.flink_layout import Layout
from engines.flink.jar import _compiler, _zip, connector_jar, loop_jar
from engines.flink.local_cluster import flink_home, flink_script
from engines.flink.settings import JobSettings, write_settings
from flink_stand import Stand

ROOT = Path(__file__).resolve().parents[2]
_JOB = ROOT / "benchmarks" / "parts" / "flink_jobs.py"
_LOOK_EVERY_S = 0.1
_PATIENCE_S = 300.0
_TICK_MS = 100


def stamping_jar(java: str, folder: Path) -> Path:
    """Compile the benchmark's own line of Java."""
    source = ROOT / "benchmarks" / "parts" / "java" / "bench" / "Stamped.java"
    classes, jar = folder / "bench-classes", folder / "pho-bench.jar"
    path = f"{flink_home()}/lib/*:{connector_jar()}:{loop_jar(java, folder)}"
    command = [*_compiler(java, None), "-cp", path, "-d", str(classes), str(source)]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - a compiler
    _zip(classes, jar)
    return jar


def submit(stand: Stand, job: str, settings: JobSettings, *, profile: bool = False) -> str:
    """Hand one of the benchmark's jobs to the cluster, wait until it runs; return its id."""
    folder = stand.folder / f"submit-{settings.prefix}"
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / f"{job}.json"
    write_settings(settings, told)
    arguments = ["run", "--detached", "--jobmanager", f"127.0.0.1:{stand.flink.port}"]
    arguments += ["-pyexec", sys.executable, "-pyclientexec", sys.executable]
    # No wheel: workers import from the clone. A wheel goes with its job, while the one Python of a
    # TaskManager in thread mode still looks there for what the next job needs.
    arguments += ["-py", str(_JOB), job, "--settings", str(told)]
    done = subprocess.run(  # noqa: S603 - Flink's own script
        flink_script("flink", stand.flink.variables, *arguments, *(["--profile"] * profile)),
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
    )
    found = re.search(r"JobID ([0-9a-f]{32})", done.stdout)
    if found is None:
        raise AssertionError((done.stdout + done.stderr)[-3_000:])
    until_s = time.monotonic() + _PATIENCE_S
    while not stand.flink.rest.all_running(found[1]):
        if (error := stand.flink.rest.error(found[1])) or time.monotonic() > until_s:
            raise AssertionError(error or f"{job} does not run")
        time.sleep(_LOOK_EVERY_S)
    return found[1]


def settings_of(stand: Stand, layout: Layout, *operators: str, parallelism: int) -> JobSettings:
    """Return what a job over a layout is told."""
    changes = {"prefix": layout.address.prefix, "parallelism": parallelism}
    settings = msgspec.structs.replace(stand.settings, restart_attempts=0, **changes)
    return msgspec.structs.replace(settings, operators=operators) if operators else settings


class Sample(NamedTuple):
    """How far a job was at a moment."""

    at_s: float
    """The moment, by the monotonic clock."""
    done: int
    """Of its last output."""
    cpu_s: dict[str, float]
    """Processor time by process so far."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How fast a job went."""

    events: int
    """Input events, Ticks aside."""
    seconds: float
    """From the first record of its last output to the last one."""
    middle_per_second: float
    """Input events a second while its last output grew from a fifth to four fifths."""
    cpu_us: dict[str, float]
    """Microseconds of processor time for each input event meanwhile, by process."""

    @property
    def per_second(self) -> float:
        """Input events a second, over all."""
        return self.events / self.seconds


Stage = tuple[dict[str, int], tuple[str, ...]]
"""How many records must stand in some streams, and the streams that get a Tick then: nothing more
comes there."""


def measure(
    stand: Stand,
    layout: Layout,
    stages: Sequence[Stage],
    start: Callable[[], Sequence[str]],
    progress: Callable[[], int],
    total: int,
) -> Measured:
    """Run a job over a layout, and watch it.

    Parameters
    ----------
    stand : Stand
        The cluster.
    layout : Layout
        The topics.
    stages : sequence of Stage
        What it has written, step by step.
    start : callable
        Submits what is to run, and returns the ids of the jobs.
    progress : callable
        Returns how much of the last output there is.
    total : int
        How much there will be.
    """
    samples: list[Sample] = []
    left = list(stages)
    until_s = time.monotonic() + _PATIENCE_S
    # Watched from before it begins: a short run is over before its start is told.
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(start)
        _watch(stand, layout, left, starting, progress, total, samples, until_s)
        for job_id in starting.result():
            stand.flink.rest.cancel(job_id)
    return _measured(samples, layout.events, total)


def _watch(
    stand: Stand,
    layout: Layout,
    left: list[Stage],
    starting: Future[Sequence[str]],
    progress: Callable[[], int],
    total: int,
    samples: list[Sample],
    until_s: float,
) -> None:
    steps = len(left)
    while not samples or samples[-1].done < total:
        samples.append(Sample(time.monotonic(), progress(), cpu_seconds(stand)))
        if left:
            wanted, ticked = left[0]
            counts = layout.counts(*wanted)
            if all(counts[stream] >= count for stream, count in wanted.items()):
                layout.tick(ticked, layout.last_ms + (steps - len(left) + 2) * _TICK_MS)
                left.pop(0)
        for job_id in starting.result() if starting.done() else ():
            if error := stand.flink.rest.error(job_id):
                raise AssertionError(error)
        if time.monotonic() > until_s:
            problem = f"{samples[-1].done} of {total} after {_PATIENCE_S} s; waits for {left[:1]}"
            raise AssertionError(problem)
        time.sleep(_LOOK_EVERY_S)


def _measured(samples: list[Sample], events: int, total: int) -> Measured:
    begun = next(each for each in samples if each.done > 0)
    low = next(each for each in samples if each.done >= total * 0.2)
    high = next(each for each in samples if each.done >= total * 0.8)
    share = max(high.done - low.done, 1) / total * events
    cpu_us = {name: (s - low.cpu_s[name]) / share * 1e6 for name, s in high.cpu_s.items()}
    middle = share / max(high.at_s - low.at_s, 1e-9)
    return Measured(events, max(samples[-1].at_s - begun.at_s, 1e-9), middle, cpu_us)


def cpu_seconds(stand: Stand) -> dict[str, float]:
    """Return the processor time each process has spent, with what it started, seconds."""
    pids = {name: process.pid for name, process in stand.flink.processes.items()}
    pids["broker"] = stand.broker.pid
    tick = os.sysconf("SC_CLK_TCK")
    parents, spent = _all_processes()
    found = {}
    for name, pid in pids.items():
        family = {pid}
        for child in sorted(parents):
            if parents[child] in family:
                family.add(child)
        found[name] = sum(spent.get(each, 0) for each in family) / tick
    return found


def _all_processes() -> tuple[dict[int, int], dict[int, int]]:
    parents, spent = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(path.parent.name)
        parents[pid], spent[pid] = int(words[1]), int(words[11]) + int(words[12])
    return parents, spent
