"""The same join on the same input in several engines, side by side; their outcomes must be equal.

Run ``python benchmarks/join.py`` from the repository; it takes minutes, `--visits`, `--turns` and
`--only` say how many. Each engine runs in a process of its own, with the Python of the environment
that has its packages; one that is missing is named, with how to make it. They run in turns, so that
what else the machine does falls on all alike; the median of the turns is told, and its ratio to the
embedded engine. The join is the very same code everywhere, so what differs is the engine. The
memory engine joins the warm-up only. Of the broker neither time nor memory is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a clone, not installed

import msgspec  # noqa: E402 - after the path

from benchmarks.parts.join_alone import COME_IN_A_STEP  # noqa: E402
from benchmarks.parts.join_case import Answer, Case, Input, lay_out  # noqa: E402
from benchmarks.parts.join_engines import (  # noqa: E402
    ENGINES,
    REFERENCE,
    Engine,
    is_chosen,
    java,
    python,
    why_not,
)
from benchmarks.parts.whole_loop import FOLDER  # noqa: E402
from connectors.jars import jar_folder  # noqa: E402
from connectors.local_kafka import LocalKafka  # noqa: E402
from schemas.codec import decode  # noqa: E402

TIME_LIMIT_S = 900.0
"""For one run of one engine."""
WARM_UP_VISITS = 2_000
"""Java compiles what runs often: with few, that would be most of what is measured."""


class RunFailed(Exception):
    """One run of one engine did not come to its end."""


def main() -> int:
    """Measure everything and print it."""
    options = _options()
    # Else the engines' processes, in sessions of their own, would outlive this one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tell = _silent if options.json else print
    load = os.getloadavg()[0]
    tell(f"{os.cpu_count()} cores, load {load:.1f}")
    chosen = [engine for engine in ENGINES if is_chosen(engine, options.only)]
    missing = {engine.name: why for engine in chosen if (why := why_not(engine))}
    with tempfile.TemporaryDirectory(prefix="pho-join-", dir=FOLDER) as folder:
        whole = lay_out(Path(folder) / "input", WARM_UP_VISITS, options.visits, options.seed)
        tell(
            f"{whole.measured.events:,} events of {options.visits:,} visits, after a warm-up of "
            f"{whole.warm_up.events:,} of {WARM_UP_VISITS:,}; median of {options.turns}\n"
        )
        running = [engine for engine in chosen if engine.name not in missing]
        answers, differences = _measure(Path(folder), whole, running, options.turns, tell)
    found = {
        engine.name: _summary(engine, answers)
        for engine in running
        if len(answers[engine.name]) == options.turns
    }
    _print(found, missing, tell)
    for line in differences:
        tell(f"WRONG: {line}")
    if not differences:
        tell("all outcomes are equal, byte for byte")
    if options.json:
        more = {"load_before": load, "load_after": os.getloadavg()[0], "missing": missing}
        print(json.dumps({**more, "engines": found, "differences": differences}, indent=2))
    return 1 if differences else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--visits", type=int, default=6_000, help="visits, a multiple of 40")
    parser.add_argument("--turns", type=int, default=3, help="runs of each engine")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="flink, beam, bytewax, ...")
    parser.add_argument("--seed", type=int, default=7, help="orders records of one log time")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    if options.visits < COME_IN_A_STEP or options.visits % COME_IN_A_STEP:
        parser.error(f"--visits must be a multiple of {COME_IN_A_STEP}")
    return options


def _silent(_line: str) -> None:
    pass


def _measure(
    folder: Path, whole: Input, engines: list[Engine], turns: int, tell: Any
) -> tuple[dict[str, list[Answer]], list[str]]:
    """Run all engines in turns; return their answers, and in what their outcomes differ."""
    answers: dict[str, list[Answer]] = {engine.name: [] for engine in engines}
    differences: list[str] = []
    needs_kafka = any(engine.module == "join_flink" for engine in engines)
    with _broker(folder / "kafka") if needs_kafka else nullcontext("") as servers:
        for turn in range(turns):
            for engine in engines:
                if len(answers[engine.name]) < turn:
                    continue  # it failed before
                try:
                    answer = _run(engine, folder, f"{turn}-{ENGINES.index(engine)}", servers)
                except RunFailed as failure:
                    differences.append(str(failure))
                    if engine is REFERENCE:
                        return answers, differences
                    continue
                answers[engine.name].append(answer)
                reference = answers[REFERENCE.name][0]
                differences += _differences(engine, whole, answer, reference)
            tell(f"  turn {turn + 1} of {turns} done, load {os.getloadavg()[0]:.1f}")
    return answers, differences


@contextmanager
def _broker(folder: Path) -> Iterator[str]:
    with LocalKafka(folder, java(), jar_folder("kafka_broker")) as broker:
        yield broker.bootstrap


def _run(engine: Engine, folder: Path, name: str, servers: str) -> Answer:
    own = folder / name
    own.mkdir()
    case = Case(
        input=str(folder / "input"),
        answer=str(own / "answer"),
        folder=str(own),
        spawned_at_s=time.time(),
        servers=servers,
        jars=str(folder / "jars"),
        java=java(),
        recovers=engine.recovers,
    )
    (own / "case.json").write_bytes(msgspec.json.encode(case))
    # Thread mode finds its library by the first Python in the path.
    path = os.pathsep.join([str(python(engine).parent), os.environ.get("PATH", "")])
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}
    if java():
        variables["JAVA_HOME"] = str(Path(java()).resolve().parents[1])
    module = f"benchmarks.parts.{engine.module}"
    with (own / "output").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [str(python(engine)), "-m", module, str(own / "case.json")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=own,
            env=variables,
            start_new_session=True,
        )
        try:
            status: int | str = process.wait(TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            status = f"nothing within {TIME_LIMIT_S:.0f} s"
        finally:
            _end(process)
    if status != 0:
        printed = (own / "output").read_text(encoding="utf-8", errors="replace")[-2_000:]
        problem = f"{engine.name} failed ({status}):\n{printed}"
        raise RunFailed(problem)
    return msgspec.msgpack.decode((own / "answer").read_bytes(), type=Answer)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a run and whatever it started: Flink's JVM outlives its Python."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _differences(engine: Engine, whole: Input, answer: Answer, reference: Answer) -> Iterator[str]:
    is_whole = engine.module != "join_memory"
    if len(set(answer.warm_up)) != whole.warm_up.visits:
        yield f"{engine.name} made {len(set(answer.warm_up))} outcomes in the warm-up"
    for name in ("warm_up", "measured") if is_whole else ("warm_up",):
        mine, its = set(getattr(answer, name)), set(getattr(reference, name))
        if mine != its:
            some = sorted(decode(value).choice.decision_id for value in mine ^ its)[:3]
            yield (
                f"{engine.name}, {name}: {len(its - mine)} outcomes missing, "
                f"{len(mine - its)} of its own; of {', '.join(some)}"
            )
    if is_whole and answer.sides != reference.sides:
        yield f"{engine.name}: {len(answer.sides)} side records, not {len(reference.sides)}"


def _summary(engine: Engine, answers: dict[str, list[Answer]]) -> dict[str, Any]:
    mine, its = answers[engine.name], answers[REFERENCE.name]
    # Turn by turn: the two ran one after the other, on a machine equally busy.
    turns = list(zip(mine, its, strict=True))
    return {
        "events": mine[0].events,
        "events_per_second": median(map(_rate, mine)),
        "events_per_second_all": list(map(_rate, mine)),
        "events_per_cpu_second": median(map(_cpu_rate, mine)),
        "ratio": median(_rate(one) / _rate(other) for one, other in turns),
        "ratio_cpu": median(_cpu_rate(one) / (_cpu_rate(other) or 1.0) for one, other in turns),
        "start_s": median(answer.start_s for answer in mine),
        "memory_mb": median(answer.memory_mb for answer in mine),
        "durable": engine.durable,
    }


def _rate(answer: Answer) -> float:
    return answer.events / answer.wall_s


def _cpu_rate(answer: Answer) -> float:
    return answer.events / answer.cpu_s if answer.cpu_s else 0.0


def _print(found: dict[str, dict[str, Any]], missing: dict[str, str], tell: Any) -> None:
    tell(f"\n{'':24s}{'events/s (of CPU)':>20s}{'ratio (CPU)':>15s}{'start':>8s}{'memory':>10s}")
    for name, its in found.items():
        cpu, ratio_cpu = f"({its['events_per_cpu_second']:,.0f})", f"({its['ratio_cpu']:.2f})"
        tell(
            f"{name:24s}{its['events_per_second']:10,.0f}{cpu:>10s}{its['ratio']:8.2f}"
            f"{ratio_cpu:>7s}{its['start_s']:6.1f} s{its['memory_mb']:7,.0f} MB"
            f"  durable: {its['durable']}"
        )
    for engine in ENGINES:
        if engine.name in missing:
            tell(f"{engine.name:24s}not measured: {missing[engine.name]}")


if __name__ == "__main__":
    sys.exit(main())
