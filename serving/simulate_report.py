"""What a simulation has to tell: what the loop measured, and beside it the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from connectors.logs import Log
from schemas.codec import decode
from schemas.decisions import DecisionMade
from schemas.errors import RecordError
from serving.report import Report, document

Expected = Callable[[str, str], float | None]
"""From a decision's id and an action to the true expected reward; None: no simulated visit."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The true expected rewards of one decision: what chance did afterwards is left out."""

    control: bool
    """True: the control share chose."""
    chosen: float
    """Of the action chosen."""
    best: float
    """Of the best action for this visitor."""
    uniform: float
    """The mean over all eligible actions."""
    baseline: float
    """Of the baseline."""


def read_truth(log: Log, expected: Expected) -> list[Truth]:
    """Hold every decision of a log, in its order, against the truth.

    Parameters
    ----------
    log : Log
        The log.
    expected : callable
        What an action is truly worth to the visitor of a decision.
    """
    found: dict[str, Truth] = {}
    for row in log.scan("decisions"):
        try:
            decision = decode(row.value)
        except RecordError:
            continue  # its dead letter is counted
        if not isinstance(decision, DecisionMade) or decision.choice.decision_id in found:
            continue
        choice = decision.choice
        actions = [action.id for action in choice.actions if action.eligible]
        worth = {action: expected(choice.decision_id, action) for action in actions}
        known = {action: value for action, value in worth.items() if value is not None}
        if len(known) < len(actions) or choice.action_id not in known:
            continue
        found[choice.decision_id] = Truth(
            control=choice.control,
            chosen=known[choice.action_id],
            best=max(known.values()),
            uniform=float(np.mean(list(known.values()))),
            baseline=known.get(choice.baseline_id, 0.0),
        )
    return list(found.values())


def truth_document(truths: Sequence[Truth]) -> dict[str, Any]:
    """Return the truth as JSON: mean values, regret, and the lift that `lift` estimates."""
    last = truths[len(truths) * 3 // 4 :]
    ways = ("chosen", "best", "uniform", "baseline")
    learned = [truth.chosen - truth.baseline for truth in truths if not truth.control]
    return {
        "true_value": {way: _mean([getattr(truth, way) for truth in truths]) for way in ways},
        "true_value_last_quarter": {
            way: _mean([getattr(truth, way) for truth in last]) for way in ways
        },
        "regret": {
            way: round(sum(truth.best - getattr(truth, way) for truth in truths), 3)
            for way in ("chosen", "uniform", "baseline")
        },
        "true_lift": _mean(learned),
    }


def simulation_document(report: Report, truths: Sequence[Truth]) -> dict[str, Any]:
    """Return what was measured and the truth as one JSON document."""
    told = document(report)
    # Nobody waited for anything: the visitors' time was the recording's.
    del told["frame_to_greeting_ms"]
    return {**told, **truth_document(truths)}


def show_truth(truths: Sequence[Truth], console: Console) -> None:
    """Print the truth for a person."""
    told = truth_document(truths)
    table = Table(title="What it is truly worth", title_justify="left", box=SIMPLE_HEAD)
    for name in ("", "a visit", "in the last quarter", "regret"):
        table.add_column(name, justify="left" if not name else "right")
    names = {
        "best": "the best for each visitor",
        "chosen": "what was chosen",
        "uniform": "a greeting at random",
        "baseline": "always the baseline",
    }
    for way, name in names.items():
        value, late = told["true_value"][way], told["true_value_last_quarter"][way]
        regret = told["regret"].get(way, 0.0)
        style = "bold" if way == "chosen" else ""
        table.add_row(name, _number(value), _number(late), f"{regret:,.1f}", style=style)
    console.print(table)
    console.print(
        f"True lift of what was learned over the baseline: {_number(told['true_lift'])} a visit."
    )


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 6) if values else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"
