"""The command `pho evaluate`: what would another policy have earned."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, cast, get_args

import typer
from rich.markup import escape
from rich.table import Table

from policies.evaluation.comparing import ALL
from policies.evaluation.estimators import Estimate, Method
from schemas.errors import UsageError
from serving.console import AsJson, Config, Data, LogAddress, as_flag, bar, out, print_json
from serving.evaluating import Question, Report, Row, evaluate
from serving.forgotten import without_erased
from serving.opening import open_log
from serving.questions import BYS, By
from serving.settings import load

_MS_IN_A_SECOND = 1_000


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("evaluate")(evaluate_policies)


def evaluate_policies(
    policy: Annotated[
        list[str] | None,
        typer.Option(help="A policy, an action, an algorithm, or the file of a snapshot."),
    ] = None,
    where: Annotated[str, typer.Option(help="Which records: kiosk_id=door,daypart=morning.")] = "",
    by: Annotated[str, typer.Option(help="Slices: kiosk_id, action_id, hour or variant.")] = "",
    method: Annotated[str, typer.Option(help="dr, ips or snips.")] = "dr",
    alpha: Annotated[
        float, typer.Option(help="The chance that an interval may fail, ever.")
    ] = 0.05,
    loop: Annotated[str | None, typer.Option(help="The loop, where there are several.")] = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Say what other policies would have earned, with intervals that hold at any moment.

    Example: pho evaluate --policy thompson --data build/demo
    """
    question = Question(
        policies=tuple(policy or ()),
        where=where,
        by=cast(By, _one_of("--by", by, BYS)) if by else None,
        method=cast(Method, _one_of("--method", method, get_args(Method))),
        alpha=alpha,
        loop_id=loop,
    )
    if not 0.0 < alpha < 1.0:
        problem = f"--alpha is {alpha}"
        raise UsageError(problem, "It is a chance: 0.05 lets one interval in twenty fail")
    settings = load(config, {"data": as_flag(data), "log.address": log})
    source = without_erased(settings, open_log(settings))
    with bar("outcomes", quiet=as_json) as progress:
        report = evaluate(source, question, lambda count: progress(count, count + 1))
    source.close()
    if as_json:
        print_json(document(report))
    else:
        _show(report)


def _one_of(flag: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        problem = f"{flag} {value} is none of ours"
        raise UsageError(problem, f"Use {', '.join(allowed)}")
    return value


def document(report: Report) -> dict[str, Any]:
    """Return a report as JSON."""
    rows = [{**asdict(row), "estimate": asdict(row.estimate)} for row in report.rows]
    learned, control = report.lift_counts
    lift = asdict(report.lift) if report.lift else None
    return {
        "loop": report.loop_id,
        "estimand": report.estimand,
        "method": report.method,
        "alpha": report.alpha,
        "reward_low": report.rewards.low,
        "reward_high": report.rewards.high,
        "from_ms": report.from_ms,
        "to_ms": report.to_ms,
        "n": report.n,
        "rows": rows,
        "lift": None if lift is None else {**lift, "learned": learned, "control": control},
        "left_out": report.left_out,
    }


def _show(report: Report) -> None:
    out.print(f"{report.n:,} decisions of loop {report.loop_id}{_stretch(report)}", highlight=False)
    slices = sorted({row.slice for row in report.rows} - {ALL})
    for name in [ALL, *slices]:
        rows = [row for row in report.rows if row.slice == name]
        _show_slice(name, rows, report)
    if report.lift is not None:
        learned, control = report.lift_counts
        text = (
            f"lift over control: {_signed(report.lift)} ({learned:,} learned, {control:,} control)"
        )
        out.print(text, highlight=False)
    out.print(escape(report.estimand), highlight=False)
    for reason, number in report.left_out.items():
        out.print(f"left out: {number:,} {escape(reason)}", highlight=False)


def _show_slice(name: str, rows: list[Row], report: Report) -> None:
    holds = "at any moment" if rows[0].estimate.anytime else "for one moment fixed in advance"
    title = f"{report.method}, {100 * (1 - report.alpha):g} % intervals that hold {holds}"
    table = Table(
        title=title if name == ALL else f"{name}: {title}", title_justify="left", padding=(0, 1)
    )
    for heading in ("target", "value", "interval", "less logging", "n", "ESS", "weight", "held"):
        table.add_column(heading, justify="left" if heading == "target" else "right")
    for row in rows:
        estimate = row.estimate
        table.add_row(
            escape(row.target),
            f"{estimate.value:.3f}" if estimate.n else "-",
            _interval(estimate),
            "" if row.target == "logging" else _signed(row.difference),
            f"{estimate.n:,}",
            f"{row.effective_sample_size:,.0f}",
            f"{row.largest_weight:.1f}",
            f"{row.model_held:,}",
        )
    out.print(table)


def _interval(estimate: Estimate) -> str:
    if estimate.tells:
        return f"{estimate.low:.3f} to {estimate.high:.3f}"
    return _needs(estimate)


def _signed(estimate: Estimate) -> str:
    if estimate.tells:
        return f"{estimate.value:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})"
    return _needs(estimate)


def _needs(estimate: Estimate) -> str:
    if not estimate.n:
        return "nothing is known"
    if estimate.needed is None:
        return "cannot be said"
    digits = max(len(str(estimate.needed)) - 2, 0)
    rounded = round(estimate.needed, -digits)
    return f"about {rounded:,} more decisions are needed"


def _stretch(report: Report) -> str:
    if report.from_ms is None or report.to_ms is None:
        return ""
    ends = (
        datetime.fromtimestamp(at_ms / _MS_IN_A_SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S")
        for at_ms in (report.from_ms, report.to_ms)
    )
    return ", " + " to ".join(ends) + " UTC"
