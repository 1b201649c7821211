"""What a demo or a folder of visits has to tell: numbers as one document, and for reading."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from scipy.special import stdtrit

from connectors.embedded_log import EmbeddedLog
from connectors.logs import Log
from schemas.codec import decode
from schemas.decisions import GreetingIssued
from schemas.errors import RecordError
from schemas.features import DAYPARTS, daypart
from schemas.frames import FrameCaptured
from schemas.outcomes import OutcomeClosed, PolicySnapshot
from serving.ledger import Ledger, read_ledger
from serving.missing import MissingRate, missing_rates

CONFIDENCE = 0.95
_SMILING_FROM = 0.5
_GREETED = "demo.greeted_ms."


@dataclass(frozen=True, slots=True)
class Learned:
    """One outcome, as the report counts it."""

    decided_at_ms: int
    """When it was decided, log time, ms."""
    action_id: str
    """The greeting."""
    control: bool
    """True: the control share chose it."""
    reward: float
    """What it earned."""
    smiling: bool
    """True: the visitor smiled before."""
    part: str
    """Part of the day, UTC."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the report says."""

    ledger: Ledger
    """The ledger."""
    outcomes: tuple[Learned, ...]
    """The learnable outcomes in the order of their decisions."""
    greeted_ms: tuple[float, ...]
    """Frame to greeting for each visit that was measured, wall time, ms."""
    pictures_left: int
    """Pictures in the folder."""
    policy: PolicySnapshot | None
    """The newest policy; None: nothing was learned."""
    data: str
    """Where the log is: a folder, or an address on Kafka."""
    missing: tuple[MissingRate, ...] = ()
    """How often each greeting's reaction was not seen."""

    @property
    def control(self) -> list[float]:
        """Rewards of the control share."""
        return [outcome.reward for outcome in self.outcomes if outcome.control]

    @property
    def learned(self) -> list[float]:
        """Rewards of what the policy chose, in the order of the decisions."""
        return [outcome.reward for outcome in self.outcomes if not outcome.control]


def read_report(log: Log, pictures_left: int) -> Report:
    """Read a log and say what it tells."""
    # Where delivery is at least once an outcome may stand there twice; the first one holds.
    found: dict[str, Learned] = {}
    showings: dict[str, tuple[str, bool]] = {}
    for value in _readable(log, "outcomes"):
        if not isinstance(value, OutcomeClosed):
            continue
        if value.learnable:
            found.setdefault(value.choice.decision_id, _learned(value))
        if value.result_reason in ("observed", "nothing_usable"):
            missing = value.result_reason == "nothing_usable"
            showings.setdefault(value.choice.decision_id, (value.choice.action_id, missing))
    outcomes = sorted(found.values(), key=lambda outcome: outcome.decided_at_ms)
    newest = None
    for snapshot in _readable(log, "policies"):
        if not isinstance(snapshot, PolicySnapshot):
            continue
        if newest is None or (snapshot.epoch, snapshot.version) >= (newest.epoch, newest.version):
            newest = snapshot
    return Report(
        ledger=read_ledger(log),
        outcomes=tuple(outcomes),
        greeted_ms=_greeted_ms(log),
        pictures_left=pictures_left,
        policy=newest,
        data=log.name,
        missing=missing_rates(showings.values()),
    )


def _greeted_ms(log: Log) -> tuple[float, ...]:
    """Return frame to greeting of each visit, ms: what a demo measured, or the log's own times."""
    if isinstance(log, EmbeddedLog):
        # The log times of a demo are those of its recording.
        query = "SELECT value FROM facts WHERE name LIKE ?"
        return tuple(sorted(float(ms) for (ms,) in log.db.execute(query, (f"{_GREETED}%",))))
    captured_ms: dict[str, int] = {}
    greeted: dict[str, float] = {}
    for row in log.scan("frames", "greetings"):
        try:
            value = decode(row.value)
        except RecordError:
            continue  # its dead letter is counted
        if isinstance(value, FrameCaptured) and value.phase == "pre":
            captured_ms.setdefault(value.decision_id, row.log_time_ms)
        elif isinstance(value, GreetingIssued) and value.decision_id in captured_ms:
            waited_ms = row.log_time_ms - captured_ms[value.decision_id]
            greeted.setdefault(value.decision_id, float(waited_ms))
    return tuple(sorted(greeted.values()))


def _readable(log: Log, stream: str) -> Iterator[Any]:
    for row in log.scan(stream):
        try:
            yield decode(row.value)
        except RecordError:
            continue  # its dead letter is counted


def _learned(outcome: OutcomeClosed) -> Learned:
    choice = outcome.choice
    return Learned(
        choice.decided_at_ms,
        choice.action_id,
        choice.control,
        outcome.reward,
        (choice.happiness_before or 0.0) >= _SMILING_FROM,
        daypart(choice.decided_at_ms, 0),
    )


def mean(values: Sequence[float]) -> float | None:
    """Return the mean; None where there is nothing."""
    return float(np.mean(values)) if values else None


def welch(learned: Sequence[float], control: Sequence[float]) -> dict[str, float | None]:
    """Return the difference of two means with its 95 % interval (Welch, 1947).

    It holds at the one moment it is computed: looked at again and again it fails more often.

    Parameters
    ----------
    learned, control : sequence of float
        Rewards; two of each at least, or the interval is None.
    """
    if not learned or not control:
        return {"mean": None, "low": None, "high": None}
    difference = float(np.mean(learned) - np.mean(control))
    if len(learned) < 2 or len(control) < 2:
        return {"mean": difference, "low": None, "high": None}
    parts = [float(np.var(rewards, ddof=1)) / len(rewards) for rewards in (learned, control)]
    error = math.sqrt(sum(parts))
    if error == 0.0:
        return {"mean": difference, "low": difference, "high": difference}
    shares = zip(parts, (learned, control), strict=True)
    freedom = sum(parts) ** 2 / sum(part**2 / (len(rewards) - 1) for part, rewards in shares)
    # scipy.stats has the same quantile, and takes half a second of every command to import.
    half = float(stdtrit(freedom, (1.0 + CONFIDENCE) / 2.0)) * error
    return {"mean": difference, "low": difference - half, "high": difference + half}


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return a percentile; None where there is nothing."""
    return round(float(np.percentile(values, percent)), 1) if values else None


def document(report: Report) -> dict[str, Any]:
    """Return the report as one JSON document."""
    ledger = report.ledger
    counts = ledger.document()
    learned = report.learned
    quarter = max(1, len(learned) // 4)
    policy = report.policy
    return {
        "visits": ledger.decisions,
        **{name: value for name, value in counts.items() if name != "problems"},
        "reward_mean": {
            "control": mean(report.control),
            "learned": mean(learned),
            "first_quarter": mean(learned[:quarter]),
            "last_quarter": mean(learned[-quarter:]),
        },
        "lift": welch(learned, report.control),
        "frame_to_greeting_ms": {
            "p50": percentile(report.greeted_ms, 50.0),
            "p99": percentile(report.greeted_ms, 99.0),
        },
        "missing": [rate.document() for rate in report.missing],
        "pictures_left": report.pictures_left,
        "policy": {
            "epoch": policy.epoch if policy else 0,
            "version": policy.version if policy else 0,
            "checksum": policy.checksum if policy else "",
        },
        "data": report.data,
    }


def show(report: Report, console: Console) -> None:
    """Print the report for a person."""
    told = document(report)
    lift = told["lift"]
    ledger = report.ledger
    head = Text.assemble(
        (f"{ledger.decisions:,}", "bold"),
        " visitors were greeted, ",
        (f"{ledger.rewarded:,}", "bold"),
        " reactions seen.",
    )
    verdict = _verdict(lift)
    console.print()
    console.print(Panel(Group(head, verdict), title="PHO", title_align="left", expand=False))
    if report.outcomes:
        console.print(_who(report.outcomes))
        console.print(_course(report))
    console.print(_facts(report, told))


def _verdict(lift: dict[str, float | None]) -> Text:
    if lift["mean"] is None or lift["low"] is None:
        return Text("Too few visits to compare what was learned with the baseline.", "yellow")
    text = (
        f"What was learned earns {lift['mean']:+.2f} happiness a visit over the baseline greeting "
        f"(95 % interval {lift['low']:+.2f} to {lift['high']:+.2f})."
    )
    return Text(text, "green" if lift["low"] > 0 else "yellow")


def _who(outcomes: Sequence[Learned]) -> Table:
    cells: dict[tuple[bool, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        cells[outcome.smiling, outcome.part][outcome.action_id].append(outcome.reward)
    table = Table(title="Which greeting worked for whom", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("who came")
    table.add_column("greeting", style="bold")
    table.add_column("earns", justify="right")
    table.add_column("others", justify="right", style="dim")
    table.add_column("given to", justify="right")
    for smiling in (False, True):
        for part in DAYPARTS:
            greetings = cells.get((smiling, part))
            if not greetings:
                continue
            # The most shown is what the policy settled on; a lucky single visit is no best.
            best = max(greetings, key=lambda action: (len(greetings[action]), action))
            others = [r for action, rs in greetings.items() if action != best for r in rs]
            shown = len(greetings[best])
            table.add_row(
                f"{'smiling' if smiling else 'at rest'}, {part}",
                best,
                f"{np.mean(greetings[best]):+.2f}",
                f"{np.mean(others):+.2f}" if others else "",
                f"{shown} of {shown + len(others)}",
            )
    return table


def _course(report: Report) -> Table:
    """Draw how the rewards went: control, then what was learned, quarter by quarter."""
    learned = report.learned
    rows = [("control", mean(report.control))]
    names = ("first quarter", "second", "third", "last quarter")
    rows += [
        (name, mean(learned[len(learned) * place // 4 : len(learned) * (place + 1) // 4]))
        for place, name in enumerate(names)
    ]
    known = [value for _, value in rows if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    table = Table(title="Happiness after minus before", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("")
    table.add_column("mean", justify="right")
    table.add_column("")
    for name, value in rows:
        if value is not None:
            share = (value - low) / (high - low) if high > low else 1.0
            style = "dim" if name == "control" else "green"
            table.add_row(name, f"{value:+.3f}", Text("█" * (1 + round(29 * share)), style))
    return table


def _missing(rates: Sequence[MissingRate]) -> Text:
    shown, missing = sum(rate.shown for rate in rates), sum(rate.missing for rate in rates)
    text = Text(f"{missing} of {shown} greetings")
    for rate in rates:
        if rate.alarm:
            told = f"; {rate.action_id} {rate.share:.0%}, the others {rate.others_share:.0%}"
            text.append(told, "yellow")
    return text


def _facts(report: Report, told: dict[str, Any]) -> Table:
    ledger, latency, policy = report.ledger, told["frame_to_greeting_ms"], told["policy"]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    if latency["p50"] is not None:
        speed = f"{latency['p50']:.0f} ms half of the time, {latency['p99']:.0f} ms at p99"
        table.add_row("frame to greeting", speed)
    table.add_row(
        "ledger",
        f"{ledger.decisions} decisions = {ledger.rewarded} rewarded + {ledger.defaulted} defaulted"
        f" + {ledger.dropped} dropped + {ledger.not_activated} not activated + {ledger.open} open",
    )
    sides = f"{ledger.late} late, {ledger.unmatched} unmatched, {ledger.dead_letters} dead letters"
    table.add_row("beside it", sides)
    table.add_row("reactions not seen", _missing(report.missing))
    table.add_row("pictures left", str(report.pictures_left))
    table.add_row("policy", f"epoch {policy['epoch']}, version {policy['version']}")
    table.add_row("data", report.data)
    if "://" not in report.data:  # a demo's own broker is gone by now
        table.add_row("next", f"pho ledger --data {report.data}")
    return table
