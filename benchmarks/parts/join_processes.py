"""What a process and those it started use of the machine, as Linux tells it; elsewhere 0."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_USER_TICKS, _SYSTEM_TICKS, _PARENT = 11, 12, 1


def cpu_s() -> float:
    """Return the seconds of processors that this process and its living children have used."""
    if not _PROC.is_dir():
        return 0.0
    ticks = sum(int(f[_USER_TICKS]) + int(f[_SYSTEM_TICKS]) for _, f in _family())
    return ticks / os.sysconf("SC_CLK_TCK")


def peak_mb() -> float:
    """Return the most this process and its living children held resident, each at its time, MB."""
    if not _PROC.is_dir():
        return 0.0
    total_kb = 0
    for process, _ in _family():
        status = _text(_PROC / str(process) / "status")
        found = re.search(r"VmHWM:\s*(\d+) kB", status)
        total_kb += int(found[1]) if found else 0
    return total_kb / 1024


def _family() -> Iterator[tuple[int, list[str]]]:
    """Yield this process and all below it: number, and the fields of ``stat`` after the name."""
    fields = {}
    for path in _PROC.iterdir():
        # A name may hold blanks and brackets: the fields begin behind the last bracket.
        stat = _text(path / "stat").rpartition(")")[2].split() if path.name.isdigit() else []
        if stat:
            fields[int(path.name)] = stat
    mine = {os.getpid()}
    grown = 0
    while len(mine) > grown:
        grown = len(mine)
        mine |= {process for process, stat in fields.items() if int(stat[_PARENT]) in mine}
    return ((process, fields[process]) for process in mine if process in fields)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # it ended meanwhile
