"""What another process does to a log; importable, so that a process of its own can be started."""

from __future__ import annotations

from pathlib import Path

from connectors.embedded_log import EmbeddedLog
from worlds import START_MS, rewarded


def append_rewards(folder: str, writer: int, count: int) -> None:
    """Append rewards one by one by the wall's clock, with a pair in one transaction at the end."""
    log = EmbeddedLog(Path(folder))
    for number in range(count - 2):
        log.append("rewards", rewarded(f"w{writer}", number, 0.5, START_MS))
    last = [rewarded(f"w{writer}", number, 0.5, START_MS) for number in (count - 2, count - 1)]
    log.append_all([("rewards", value) for value in last])
    log.close()
