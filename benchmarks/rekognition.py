"""200 analyses of 100 ms each: threads beside one by one, and beside aiobotocore.

Run ``python benchmarks/rekognition.py`` from the repository; it takes a minute. The server is a
stand-in in a process of its own, so the processor time told is the caller's alone. PHO's analyser
counts, limits its rate and checks every answer; "plain boto3" beside it does nothing of that. For
aiobotocore name a Python that has it with --python: it pins botocore below boto3's, so it cannot
stand in the same environment. The asked rate is held when no call is refused by a quota just above.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a clone, not installed

from connectors.aws_clients import AwsAccess, AwsClients  # noqa: E402
from connectors.guarding import CircuitBreaker, Spending, TokenBucket  # noqa: E402
from connectors.local_rekognition import LocalRekognition  # noqa: E402
from connectors.rekognition import Patience, RekognitionAnalyser, make_client  # noqa: E402

ASYNC = ROOT / "benchmarks" / "parts" / "rekognition_async.py"
TIME_LIMIT_MS = 30_000
_UNLIMITED = 1e6
_PICTURE_BYTES = 60_000


def main() -> int:
    """Measure everything and print it."""
    options = _options()
    if options.serve:
        return _serve(options.delay_ms, options.quota)
    tell = (lambda _line: None) if options.json else print
    picture = _picture()
    found: dict[str, Any] = {"calls": options.calls, "delay_ms": options.delay_ms}
    load = os.getloadavg()[0]
    tell(f"{os.cpu_count()} cores, load {load:.1f}; {options.calls} calls of {options.delay_ms} ms")
    with _Server(options.delay_ms) as endpoint:
        ways = _ways(endpoint, picture, options)
        for name, run in ways.items():
            runs = [run() for _ in range(1 if name == "one by one" else options.repeats)]
            found[name] = {
                "wall_s": median(wall for wall, _ in runs),
                "cpu_s": median(cpu for _, cpu in runs),
            }
            tell(f"  {name:28} {found[name]['wall_s']:7.2f} s  {found[name]['cpu_s']:6.2f} s CPU")
    threads = found["PHO, threads"]["wall_s"]
    for name in ways:
        found[name]["ratio"] = found[name]["wall_s"] / threads
        tell(f"  {name:28} {found[name]['ratio']:7.1f} x the time of PHO's threads")
    found["rate"] = _rate(picture, options)
    tell(
        "  asked {asked:g} calls a second, sent {sent:.1f}, refused by the quota {refused}".format(
            **found["rate"]
        )
    )
    if options.json:
        print(json.dumps(found, indent=2))
    return 0


def _ways(endpoint: str, picture: bytes, options: Any) -> dict[str, Callable[[], Any]]:
    ways: dict[str, Callable[[], Any]] = {
        "one by one": lambda: _plain(endpoint, picture, options.calls, 1),
        "plain boto3, threads": lambda: _plain(endpoint, picture, options.calls, options.threads),
        "PHO, threads": lambda: _ours(endpoint, picture, options.calls, options.threads),
    }
    if options.python:
        ways["aiobotocore"] = lambda: _async(endpoint, options)
    return ways


def _ours(endpoint: str, picture: bytes, calls: int, threads: int) -> tuple[float, float]:
    analyser = _analyser(endpoint, threads, _UNLIMITED)
    with ThreadPoolExecutor(threads) as pool:
        return _timed(lambda: list(pool.map(analyser.analyse, [picture] * calls)))


def _plain(endpoint: str, picture: bytes, calls: int, threads: int) -> tuple[float, float]:
    client = make_client(_clients(endpoint), TIME_LIMIT_MS, threads)

    def ask(each: bytes) -> Any:
        return client.detect_faces(Image={"Bytes": each}, Attributes=["ALL"])

    with ThreadPoolExecutor(threads) as pool:
        return _timed(lambda: list(pool.map(ask, [picture] * calls)))


def _async(endpoint: str, options: Any) -> tuple[float, float]:
    command = [options.python, str(ASYNC), endpoint, str(options.calls), str(_PICTURE_BYTES)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    wall_s, cpu_s = json.loads(done.stdout)
    return wall_s, cpu_s


def _rate(picture: bytes, options: Any) -> dict[str, float]:
    """Ask at a rate with all threads, of a server that refuses a tenth more than that."""
    with _Server(options.delay_ms, options.rate * 1.1) as endpoint:
        analyser = _analyser(endpoint, options.threads, options.rate)
        with ThreadPoolExecutor(options.threads) as pool:
            wall_s, _ = _timed(lambda: list(pool.map(analyser.analyse, [picture] * options.calls)))
        counters = analyser.counters
    sent = counters.calls / max(1e-9, wall_s - options.delay_ms / 1_000)
    return {"asked": options.rate, "sent": sent, "refused": counters.throttled}


def _analyser(endpoint: str, threads: int, rate: float) -> RekognitionAnalyser:
    return RekognitionAnalyser(
        make_client(_clients(endpoint), TIME_LIMIT_MS, threads),
        TokenBucket(rate, max(1.0, rate / 50)),
        CircuitBreaker(5, 1.0),
        Spending(0.001, 0.0, lambda: time.time_ns() // 1_000_000),
        patience=Patience(TIME_LIMIT_MS),
    )


def _clients(endpoint: str) -> AwsClients:
    return AwsClients(AwsAccess(region="eu-central-1", endpoint=endpoint))


def _timed(work: Callable[[], Any]) -> tuple[float, float]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def _picture() -> bytes:
    """Return bytes that are a JPEG by their header, as long as a kiosk's picture."""
    head = bytes.fromhex("ffd8ffc0000b080168028001011100ffda0008010100003f00")
    return head + b"\x11" * (_PICTURE_BYTES - len(head) - 2) + bytes.fromhex("ffd9")


class _Server:
    """The stand-in, in a process of its own."""

    def __init__(self, delay_ms: float, quota: float = 0.0) -> None:
        told = ["--serve", "--delay-ms", str(delay_ms), "--quota", str(quota)]
        self._command = [sys.executable, str(Path(__file__)), *told]

    def __enter__(self) -> str:
        self._process = subprocess.Popen(  # noqa: S603
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        return self._process.stdout.readline().strip()

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def _serve(delay_ms: float, quota: float) -> int:
    with LocalRekognition(delay_ms=delay_ms, quota=quota or None) as server:
        print(server.endpoint, flush=True)
        sys.stdin.read()
    return 0


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--delay-ms", type=float, default=100.0)
    parser.add_argument("--threads", type=int, default=50)
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--python", help="A Python that has aiobotocore.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quota", type=float, default=0.0, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
