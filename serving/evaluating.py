"""Evaluation of a log: policies judged on its records, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from connectors.logs import Log
from policies.evaluation.comparing import ALL, Comparison, Slice
from policies.evaluation.estimators import Estimate, Judge, Method
from policies.evaluation.order import InOrder
from policies.evaluation.records import Logged, RewardRange
from policies.evaluation.targets import FixedAction, Target, plain_targets
from schemas.errors import InvalidRecord
from schemas.loops import LoopConfigured
from serving.closed_decisions import configurations, loop_named, outcomes_in_order
from serving.questions import By, conditions, slice_name, target_named


@dataclass(frozen=True, slots=True)
class Row:
    """One target on one slice."""

    slice: str
    """The slice; ``all``: every record."""
    target: str
    """The target."""
    says: str
    """What is estimated."""
    estimate: Estimate
    """Its value by the method asked for, in the loop's own rewards."""
    others: dict[str, Estimate]
    """The same by the other methods."""
    difference: Estimate
    """Target less logging on the same records, in the loop's own rewards."""
    effective_sample_size: float
    """As many equally weighted records would say as much."""
    largest_weight: float
    """The largest weight of a record."""
    clipped: int
    """Records whose weight was clipped: none by these methods."""
    model_held: int
    """Records at which the model was held back, since the weight was large."""
    uncovered: int
    """Records left out: the target may choose what had no chance."""
    silent: int
    """Records left out: the target says nothing of them."""


@dataclass(slots=True)
class Report:
    """What an evaluation found."""

    loop_id: str
    """The loop."""
    method: Method
    """How the values were estimated."""
    alpha: float
    """The chance that an interval fails, ever."""
    rewards: RewardRange
    """The range of the loop's rewards."""
    rows: list[Row]
    """One for each target and slice."""
    lift: Estimate | None
    """Learned less control, in the loop's own rewards; None: there is no control share."""
    lift_counts: tuple[int, int]
    """Records learned, and records in control."""
    from_ms: int | None
    """The first decision judged, log time, ms."""
    to_ms: int | None
    """The last decision judged, log time, ms."""
    n: int
    """Records judged."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Records left out, by the reason."""

    @property
    def estimand(self) -> str:
        """What is estimated, in a sentence."""
        return (
            "The average value over the stretch: what each target would have earned, per decision, "
            "on the very decisions judged, had it chosen in place of what chose. A target that "
            "learns is judged as it learned, on each decision with what had closed before it."
        )


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a log."""

    policies: Sequence[str] = ()
    """Names or files of targets."""
    where: str = ""
    """Which records."""
    by: By | None = None
    """Which slices."""
    method: Method = "dr"
    """How to estimate."""
    alpha: float = 0.05
    """The chance that an interval may fail, ever."""
    loop_id: str | None = None
    """The loop; None: the only one."""


def evaluate(
    log: Log, question: Question, taken: Callable[[int], None] = lambda _count: None
) -> Report:
    """Judge policies on a log.

    Parameters
    ----------
    log : Log
        The log.
    question : Question
        Who is judged on what.
    taken : callable
        Told now and then how many outcomes were read.

    Raises
    ------
    UsageError
        When the question names what is not there.
    LogUnavailable
        When the log cannot be read.
    """
    configs = configurations(log)
    config = loop_named(configs, question.loop_id)
    wanted = conditions(question.where, config)
    named = dict(plain_targets())
    for name in question.policies:
        target = target_named(name, config)
        named.setdefault(target.name, target)
    if question.by == "action_id":
        for action in config.actions:
            always = FixedAction(action.id)
            if action.enabled:
                named.setdefault(always.name, always)
    targets = list(named.values())
    by = None if question.by in (None, "action_id") else cast(str, question.by)
    slicer = (lambda record: slice_name(by, record, config)) if by else None
    rewards = RewardRange(config.rules.reward_low, config.rules.reward_high)
    given_variant = question.by == "variant" or "variant" in wanted
    where = _chooser(wanted, config)
    comparison = Comparison(targets, rewards, slicer, where, given_variant=given_variant)
    order = InOrder()
    ranges = {key: (c.rules.reward_low, c.rules.reward_high) for key, c in configs.items()}
    for number, outcome in enumerate(outcomes_in_order(log, config.loop_id, order)):
        if number % 512 == 0:
            taken(number)
        if ranges.get(outcome.choice.config_hash) != (rewards.low, rewards.high):
            problem = "rewards of another range"
            comparison.refuse(InvalidRecord(problem))
            continue
        comparison.take(outcome)
    return _report(comparison, config, question, order)


def _chooser(wanted: dict[str, str], config: LoopConfigured) -> Callable[[Logged], bool] | None:
    if not wanted:
        return None

    def choose(record: Logged) -> bool:
        return all(slice_name(name, record, config) == value for name, value in wanted.items())

    return choose


def _report(
    comparison: Comparison, config: LoopConfigured, question: Question, order: InOrder
) -> Report:
    rows = []
    shared_by = len(config.actions) if question.by == "action_id" else 1
    for name, part in comparison.slices.items():
        for target, judge in zip(comparison.targets, part.judges, strict=True):
            is_each = question.by == "action_id" and isinstance(target, FixedAction)
            alpha = question.alpha / (shared_by if is_each else 1)
            silent = comparison.silent[target.name] if name == ALL else 0
            rows.append(_row(name, target, judge, question, alpha, comparison.rewards, silent))
    whole: Slice = comparison.slices[ALL]
    lift = whole.lift.estimate(question.alpha)
    left_out = {
        "open": order.open,
        "closed behind an open one": order.behind,
        "without a reward": comparison.no_reward,
        "not chosen by --where": comparison.not_chosen,
        "without their decision": order.orphans,
        "refused: no record of ours, or impossible": order.unreadable,
        **{f"refused: {reason}": number for reason, number in comparison.refused.items()},
    }
    return Report(
        loop_id=config.loop_id,
        method=question.method,
        alpha=question.alpha,
        rewards=comparison.rewards,
        rows=rows,
        lift=None if lift is None else lift.scaled(comparison.rewards.width),
        lift_counts=whole.lift.counts,
        from_ms=comparison.from_ms,
        to_ms=comparison.to_ms,
        n=whole.n,
        left_out={reason: number for reason, number in left_out.items() if number},
    )


def _row(
    name: str,
    target: Target,
    judge: Judge,
    question: Question,
    alpha: float,
    rewards: RewardRange,
    silent: int,
) -> Row:
    methods: tuple[Method, ...] = ("dr", "ips", "snips")
    found = {
        method: judge.estimate(method, alpha).scaled(rewards.width, rewards.low)
        for method in methods
    }
    return Row(
        slice=name,
        target=target.name,
        says=target.says,
        estimate=found.pop(question.method),
        others={str(method): estimate for method, estimate in found.items()},
        difference=judge.difference(alpha).scaled(rewards.width),
        effective_sample_size=judge.effective_sample_size,
        largest_weight=judge.largest_weight,
        clipped=0,
        model_held=judge.held,
        uncovered=judge.uncovered,
        silent=silent,
    )
