"""What an open visit costs: heap of the TaskManagers, and the size of a checkpoint."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.parts.flink_layout import Layout, decisions
from benchmarks.parts.flink_runs import cpu_seconds, settings_of, submit
from flink_stand import Stand

_SPREAD_MS = 1_000
"""All visits open within so much log time: none is due before all are there."""
_PATIENCE_S = 600.0
_PARALLELISM = 2
_IDLE_S = 15.0


@dataclass(frozen=True, slots=True)
class Held:
    """What a number of open visits takes, all TaskManagers together."""

    visits: int
    """How many are open."""
    heap_bytes: int
    """Living objects on the heap of the JVMs."""
    resident_bytes: int
    """Memory of the processes as the operating system counts it, heap and Python."""
    checkpoint_bytes: int
    """A checkpoint."""
    checkpoint_cpu_ms: float
    """Processor time of cluster and broker from one checkpoint to the next, all at rest, ms."""


def open_visits(stand: Stand, prefix: str, n_visits: int) -> Held:
    """Open visits in the join, and look at what they take.

    Parameters
    ----------
    stand : Stand
        The cluster.
    prefix : str
        Of topics nobody used yet.
    n_visits : int
        How many.
    """
    layout = Layout(stand.broker.bootstrap, prefix)
    layout.write(decisions(n_visits, _SPREAD_MS))
    # Log time passes the decisions, so that each is taken, and no deadline.
    streams = ("decisions", "impressions", "analyses", "rewards", "visits")
    layout.tick(streams, layout.last_ms + 100)
    job_id = submit(stand, "loop", settings_of(stand, layout, "join", parallelism=_PARALLELISM))
    _wait_until_read(layout)
    cpu_ms = _checkpoint_cpu_ms(stand, job_id)
    held = Held(
        n_visits,
        _heap_bytes(stand),
        _resident_bytes(stand),
        _checkpoint_bytes(stand, job_id),
        cpu_ms,
    )
    stand.flink.rest.cancel(job_id)
    return held


def _wait_until_read(layout: Layout) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while not layout.is_read("join", ("decisions",)):
        if time.monotonic() > until_s:
            problem = "the visits were not read in time"
            raise AssertionError(problem)
        time.sleep(0.5)
    # What was read then waits for log time; the next checkpoints hold it as it stays.
    time.sleep(4.0)


def _checkpoint_bytes(stand: Stand, job_id: str) -> int:
    return int(stand.flink.rest.checkpoints(job_id)["latest"]["completed"]["state_size"])


def _checkpoint_cpu_ms(stand: Stand, job_id: str) -> float:
    def now() -> tuple[int, float]:
        told = stand.flink.rest.checkpoints(job_id)
        used_s = cpu_seconds(stand)
        return told["counts"]["completed"], sum(used_s.values())

    made, used_s = now()
    time.sleep(_IDLE_S)
    made_then, used_then_s = now()
    return (used_then_s - used_s) * 1_000.0 / max(1, made_then - made)


def _taskmanagers(stand: Stand) -> list[int]:
    return [p.pid for name, p in stand.flink.processes.items() if name.startswith("task")]


def _heap_bytes(stand: Stand) -> int:
    jcmd = str(Path(shutil.which(stand.java) or stand.java).resolve().parent / "jcmd")
    total = 0
    for pid in _taskmanagers(stand):
        # Counts living objects: it collects what is dead before.
        done = subprocess.run(  # noqa: S603 - Java's own tool
            [jcmd, str(pid), "GC.class_histogram"], check=True, capture_output=True, text=True
        )
        total += int(done.stdout.strip().splitlines()[-1].split()[-1])
    return total


def _resident_bytes(stand: Stand) -> int:
    kib = 0
    for pid in _taskmanagers(stand):
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        kib += int(status.partition("VmRSS:")[2].split()[0])
    return kib * 1_024
