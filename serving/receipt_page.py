"""A receipt as a page for a person to read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from serving.receipt import Receipt
from serving.receipt_learning import Expected

_PPB = 1e9
_CONTRIBUTIONS_MAX = 8


def page(receipt: Receipt) -> RenderableType:
    """Return the page."""
    choice = receipt.decision.choice
    parts: list[RenderableType] = [
        Panel(
            Text(f"{choice.decision_id}\n{_headline(receipt)}"),
            title="Receipt",
            title_align="left",
            expand=False,
        ),
        _known(receipt),
        _offered(receipt),
        _chosen(receipt),
        Text(receipt.weighed.text),
    ]
    if receipt.weighed.expected:
        parts.append(_contributions(receipt.weighed.expected))
    parts += [_after(receipt), *_learned(receipt)]
    return Group(*parts)


def _headline(receipt: Receipt) -> str:
    choice, outcome = receipt.decision.choice, receipt.outcome
    said = f"loop {choice.loop_id} chose {choice.action_id} at {_time(choice.decided_at_ms)}"
    if outcome is None:
        return f"{said}; still open"
    if outcome.result in ("rewarded", "defaulted"):
        return f"{said}; {outcome.result} with {outcome.reward:+.3f}"
    return f"{said}; {outcome.result.replace('_', ' ')}"


def _time(at_ms: int) -> str:
    text = datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(sep=" ", timespec="milliseconds")
    return text.removesuffix("+00:00") + " UTC"


def _known(receipt: Receipt) -> Table:
    choice = receipt.decision.choice
    table = _plain("What was known")
    before = choice.happiness_before
    if before is not None:
        table.add_row("happiness before", f"{before:.3f}", f"sure {choice.confidence_before:.3f}")
    for name, value in receipt.features.items():
        if value:
            table.add_row(escape(name), f"{value:.3f}", "")
    zero = sum(not value for value in receipt.features.values())
    table.add_row("[dim]features that are 0[/]", str(zero), "")
    return table


def _offered(receipt: Receipt) -> Table:
    choice = receipt.decision.choice
    table = Table(title="What was offered", title_justify="left", box=SIMPLE_HEAD)
    for name in ("action", "the policy alone", "the whole procedure", ""):
        table.add_column(name, justify="right" if name.startswith("the") else "left")
    for action in choice.actions:
        marks = ["chosen"] * (action.id == choice.action_id)
        marks += ["baseline"] * (action.id == choice.baseline_id)
        marks += ["excluded"] * (not action.eligible)
        table.add_row(
            escape(action.id),
            f"{action.policy_probability_ppb / _PPB:.4f}",
            f"{action.probability_ppb / _PPB:.4f}",
            ", ".join(marks),
        )
    return table


def _chosen(receipt: Receipt) -> Table:
    choice, words = receipt.decision.choice, receipt.decision.presentation
    table = _plain("What was chosen")
    by = f"policy {choice.policy_id}, epoch {choice.epoch}, version {choice.version}"
    if receipt.weighed.algorithm:
        by += f" ({receipt.weighed.algorithm})"
    if choice.mode == "fallback":
        by = "nobody: the baseline as a fallback"
    low, high = receipt.segment
    fell = "the control share" if choice.control else choice.action_id
    table.add_row("chosen", escape(choice.action_id), escape(words.text))
    table.add_row("by", by, f"in the {choice.host}, {choice.mode}")
    table.add_row("draw", f"{choice.draw_ppb / _PPB:.6f}", f"{low:.6f} to {high:.6f}: {fell}")
    table.add_row("probability", f"{choice.propensity_ppb / _PPB:.4f}", f"support {choice.support}")
    table.add_row(
        "of it",
        f"control {choice.control_share_ppb / _PPB:.3f}",
        f"floor {choice.floor_ppb / _PPB:.3f}",
    )
    for shadow in receipt.document()["shadows"]:
        version = f"epoch {shadow['epoch']}, version {shadow['version']}"
        table.add_row(f"shadow {escape(shadow['policy'])}", f"{shadow['probability']:.4f}", version)
    return table


def _contributions(expected: tuple[Expected, ...]) -> Table:
    table = Table(title="Why: weight times value", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("feature")
    for each in expected:
        table.add_column(escape(each.action), justify="right")
    names = list(dict.fromkeys(part.feature for each in expected for part in each.contributions))
    parts = [{part.feature: part for part in each.contributions} for each in expected]
    for name in names[:_CONTRIBUTIONS_MAX]:
        cells = [
            f"{part.weight:+.3f} x {part.value:.3f} = {part.reward:+.3f}"
            if (part := its.get(name)) is not None
            else ""
            for its in parts
        ]
        table.add_row(escape(name), *cells)
    table.add_row("[bold]expected[/]", *(f"[bold]{each.mean:+.3f}[/]" for each in expected))
    return table


def _after(receipt: Receipt) -> Table:
    table = _plain("What came of it")
    shown, ended, outcome = receipt.shown, receipt.ended, receipt.outcome
    if shown is None:
        table.add_row("shown", "no", "")
    else:
        what = "the fallback" if shown.fallback else shown.action_id
        table.add_row("shown", escape(what), _time(shown.shown_at_ms))
    for reaction in receipt.reactions:
        number = f"{reaction.value:.3f}"
        if reaction.kind == "post":
            number = f"happiness {number}, sure {reaction.confidence:.3f}"
        said = "counts" if reaction.counted else reaction.why
        kind = "picture" if reaction.kind == "post" else "reward"
        table.add_row(kind, number, escape(f"{_after_ms(receipt, reaction.at_ms)}: {said}"))
    if ended is not None:
        table.add_row("visit ended", ended.reason, _after_ms(receipt, ended.ended_at_ms))
    if outcome is None:
        table.add_row("outcome", "still open", "")
        return table
    table.add_row(
        "outcome",
        outcome.result.replace("_", " "),
        f"{outcome.result_reason}, by {outcome.closed_by}",
    )
    clipped = f", clipped from {outcome.reward_raw:+.3f}" if outcome.clipped else ""
    table.add_row("reward", f"{outcome.reward:+.3f}", f"{_rule(receipt)}{clipped}")
    sure = "the smaller of the two confidences" if outcome.source == "reaction" else "as given"
    table.add_row("precision", f"{outcome.precision:.3f}", sure)
    return table


def _after_ms(receipt: Receipt, at_ms: int) -> str:
    shown = receipt.shown
    since = receipt.decision.choice.decided_at_ms if shown is None else shown.shown_at_ms
    what = "the decision" if shown is None else "it was shown"
    return f"{(at_ms - since) / 1_000:+.1f} s after {what}"


def _rule(receipt: Receipt) -> str:
    outcome, rules = receipt.outcome, receipt.decision.rules
    choice = receipt.decision.choice
    if outcome is None:
        return ""
    match outcome.source:
        case "reaction":
            after, before = outcome.happiness_after, choice.happiness_before
            return f"happiness {after:.3f} after less {before:.3f} before"
        case "explicit":
            return f"the {rules.aggregation} of the rewards given"
        case _:
            return "the default: nothing usable came"


def _learned(receipt: Receipt) -> Iterator[RenderableType]:
    if receipt.outcome is None:
        yield Text("Nothing is learned of it before it closes.")
        return
    table = Table(title="What was learned", title_justify="left", box=SIMPLE_HEAD)
    for name in ("policy", "role", "version", f"gives {receipt.decision.choice.action_id} here"):
        table.add_column(escape(name))
    for each in receipt.learnt:
        if each.why_not:
            table.add_row(each.policy_id, each.role, "nothing", escape(each.why_not))
            continue
        version = f"{each.version_before} → {each.version_after} of epoch {each.epoch}"
        table.add_row(
            each.policy_id,
            each.role,
            version,
            f"{_share(each.probability_before)} → {_share(each.probability_after)}",
        )
    yield table


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4f}"


def _plain(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    table.add_column()
    return table
