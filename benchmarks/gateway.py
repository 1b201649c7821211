"""Many kiosks on one gateway with the job beside it: how soon a greeting comes, and what it costs.

Run ``python benchmarks/gateway.py`` from the repository: 50 kiosks, two looks a second each with
edge analysis, for 30 minutes. ``--quick`` takes one minute, ``--json`` prints one document. Beside
it, in the same run and with the same bytes: a bare echo of the library `websockets`.
docs/benchmarks.md says what was measured, and how.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a clone, not installed

import numpy as np

from benchmarks.parts.kiosks import Measured, Page, echo_page

ROOT = Path(__file__).resolve().parents[1]
_PHO = (sys.executable, "-c", "from serving.cli import main; main()")
_ECHO_PAGES = 5
_SAMPLE_S = 5.0


@dataclass
class Used:
    """What one process used over time."""

    pid: int
    at_s: list[float] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def sample(self, at_s: float) -> None:
        """Look at it now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        resident_kb = int(status.split("VmRSS:")[1].split()[0])
        times = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        self.at_s.append(at_s)
        self.resident_mb.append(resident_kb / 1_024)
        self.cpu_s.append((int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"))

    def told(self) -> dict[str, float]:
        """Return what it used: memory over the second half, by a straight line."""
        half = len(self.at_s) // 2
        at_h, mb = np.array(self.at_s[half:]) / 3_600, np.array(self.resident_mb[half:])
        slope, error = _line(at_h, mb)
        lasted_s = self.at_s[-1] - self.at_s[0]
        return {
            "resident_mb_first": self.resident_mb[0],
            "resident_mb_last": self.resident_mb[-1],
            "resident_mb_max": max(self.resident_mb),
            "mb_per_hour_in_second_half": slope,
            "mb_per_hour_standard_error": error,
            "cpu_percent": 100.0 * (self.cpu_s[-1] - self.cpu_s[0]) / lasted_s,
        }


def _line(x: Any, y: Any) -> tuple[float, float]:
    """Return the slope of the line of least squares, and its standard error."""
    if len(x) < 3:
        return float("nan"), float("nan")
    centred = x - x.mean()
    slope = float((centred * y).sum() / (centred**2).sum())
    rest = y - y.mean() - slope * centred
    error = float(np.sqrt((rest**2).sum() / (len(x) - 2) / (centred**2).sum()))
    return slope, error


def main() -> int:
    """Measure and print it."""
    options = _options()
    found = Measured()
    ports = _free_port(), _free_port()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder))
        data = ("--data", folder)
        log = stack.enter_context((Path(folder) / "parts.log").open("w"))
        job = _start(stack, log, *_PHO, "run", *data)
        gateway = _start(stack, log, *_PHO, "gateway", *data, "--port", str(ports[0]))
        _start(stack, log, sys.executable, str(ROOT / "benchmarks/parts/echo.py"), str(ports[1]))
        _wait_until_ready(ports[0], ports[1], Path(folder) / "parts.log")
        used = {"gateway": Used(gateway.pid), "job": Used(job.pid)}
        load_before = os.getloadavg()[0]
        asyncio.run(_play(options, ports, found, used))
        time.sleep(3.0)
        ledger = json.loads(_run("ledger", *data, "--json"))
    told = {
        "kiosks": options.kiosks,
        "looks_per_second_each": options.looks,
        "minutes": options.minutes,
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
        "look_to_greeting_ms": _percentiles(found.greetings_ms),
        "look_to_answer_ms": _percentiles(found.answers_ms),
        "bare_echo_ms": _percentiles(found.echoes_ms),
        "visits": found.visits,
        "greetings": len(found.greetings_ms),
        "not_greeted": found.not_greeted,
        "greeted_twice": found.repeats,
        "reports_not_acknowledged": found.unacknowledged,
        "reconnects": found.reconnects,
        "problems": found.problems[:5],
        "ledger_balanced": ledger["balanced"],
        "decisions": ledger["decisions"],
        **{name: each.told() for name, each in used.items()},
    }
    answer, echo = told["look_to_answer_ms"]["p50"], told["bare_echo_ms"]["p50"]
    told["answer_is_times_the_echo"] = answer / echo
    if options.json:
        print(json.dumps(told, indent=2))
    else:
        _show(told)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="one minute instead of thirty")
    parser.add_argument("--kiosks", type=int, default=50)
    parser.add_argument("--looks", type=float, default=2.0, help="a second, of each kiosk")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--folder", help="where the log is kept meanwhile")
    options = parser.parse_args()
    if options.quick:
        options.minutes = 1.0
    return options


async def _play(
    options: argparse.Namespace, ports: tuple[int, int], found: Measured, used: dict[str, Used]
) -> None:
    until_s = time.monotonic() + options.minutes * 60.0
    pages = [Page(n, ports[0], options.looks, found) for n in range(options.kiosks)]
    work = [asyncio.create_task(page.run(until_s)) for page in pages]
    work += [
        asyncio.create_task(echo_page(ports[1], options.looks, until_s, found))
        for _ in range(_ECHO_PAGES)
    ]
    work.append(asyncio.create_task(_watch(used, until_s, found)))
    await asyncio.gather(*work)


async def _watch(used: dict[str, Used], until_s: float, found: Measured) -> None:
    started_s = time.monotonic()
    told_s = started_s
    while (now_s := time.monotonic()) < until_s:
        for each in used.values():
            each.sample(now_s - started_s)
        if now_s - told_s >= 60.0:
            told_s = now_s
            resident = {name: round(each.resident_mb[-1]) for name, each in used.items()}
            lately = _percentiles(found.greetings_ms[-500:])
            line = f"{(now_s - started_s) / 60:.0f} min, MB {resident}, greetings {lately}"
            print(line, file=sys.stderr, flush=True)
        await asyncio.sleep(_SAMPLE_S)


def _percentiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {"n": 0, "p50": float("nan"), "p99": float("nan"), "max": float("nan")}
    p50, p99 = np.percentile(values, [50, 99])
    return {
        "n": len(values),
        "p50": round(float(p50), 2),
        "p99": round(float(p99), 2),
        "max": round(max(values), 2),
    }


def _show(told: dict[str, Any]) -> None:
    print(f"{told['kiosks']} kiosks, {told['looks_per_second_each']} looks a second each")
    for name in ("look_to_greeting_ms", "look_to_answer_ms", "bare_echo_ms"):
        each = told[name]
        line = f"p50 {each['p50']:.1f} ms, p99 {each['p99']:.1f}, most {each['max']:.0f}"
        print(f"  {name.removesuffix('_ms').replace('_', ' ')}: {line} ({each['n']:,})")
    print(f"  an answer takes {told['answer_is_times_the_echo']:.1f} times a bare echo")
    counts = ("visits", "greetings", "not_greeted", "greeted_twice", "reports_not_acknowledged")
    print("  " + ", ".join(f"{name.replace('_', ' ')} {told[name]:,}" for name in counts))
    print(f"  ledger {'balanced' if told['ledger_balanced'] else 'DOES NOT ADD UP'}")
    for name in ("gateway", "job"):
        each = told[name]
        print(
            f"  {name}: {each['cpu_percent']:.0f} % of a core, {each['resident_mb_first']:.0f} MB "
            f"at first, {each['resident_mb_last']:.0f} at last; second half "
            f"{each['mb_per_hour_in_second_half']:+.1f} ± {each['mb_per_hour_standard_error']:.1f} "
            "MB an hour"
        )


def _start(stack: ExitStack, log: Any, *line: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(line, env=environment, stdout=log, stderr=log)  # noqa: S603 - ours
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def _run(*arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own command
        [*_PHO, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=False,
    )
    return done.stdout.decode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(gateway: int, echo: int, log: Path) -> None:
    end_s = time.monotonic() + 60.0
    while True:
        try:
            address = f"http://127.0.0.1:{gateway}/ready"
            with urllib.request.urlopen(address, timeout=5) as answer:
                ready = answer.status == 200
            with socket.create_connection(("127.0.0.1", echo), timeout=5):
                pass
        except OSError:
            ready = False
        if ready:
            return
        if time.monotonic() >= end_s:
            problem = f"the gateway does not answer; it said:\n{log.read_text()}"
            raise AssertionError(problem)
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
