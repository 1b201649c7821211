"""One loop watched: what reward and residual give away, and how long exploration stays wide.

A function of the learning log alone: ids follow from the detector and the outcome that tripped it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from engines.rebuilding import Learned
from pipelines.learners import Learner, Learning
from policies.base import dense
from policies.linear import LinearPosterior
from policies.river_drift import DELTA, MeanWatch, Shift
from schemas.operations import AlarmRaised, EstimateMade, alarm_id
from schemas.outcomes import Evidence, OutcomeClosed, PolicyDirected

WARM_UP = 1_000
"""Learned outcomes that are not watched: what a policy earns rises while it learns, and its first
expectations are those of the prior."""
_BY = "pho watch"
_WIDEN, _NARROW = "widen-", "narrow-"

Found: TypeAlias = AlarmRaised | PolicyDirected | EstimateMade


@dataclass(frozen=True, slots=True)
class Watching:
    """How a loop is watched."""

    explore_ppb: int | None = None
    """The floor an alarm widens exploration to, in 1e-9; None: alarms only."""
    explore_outcomes: int = 1_000
    """Learned outcomes after which the floor goes back to what it was."""
    delta: float = DELTA
    """Confidence of the detectors, 0..1."""
    warm_up: int = WARM_UP
    """Learned outcomes of each epoch that are not watched."""
    estimates: bool = False
    """True: what each policy earns is told as well, as records in `estimates`."""


@dataclass(slots=True)
class _Widening:
    """Exploration that was asked for, or is wide."""

    alarm_id: str
    policy_id: str
    floor_ppb: int
    """The floor it had before."""
    left: int
    """Learned outcomes until it goes back, or until an unanswered wish is stale."""


class LoopWatch:
    """Watches one loop; feed it each record of the loop's learning log, in order.

    Parameters
    ----------
    loop_id : str
        The loop.
    how : Watching
        How.
    """

    def __init__(self, loop_id: str, how: Watching | None = None) -> None:
        self.loop_id = loop_id
        self.how = how or Watching()
        self._before: Learning | None = None
        self._serving: tuple[str, int] | None = None
        self._asked: _Widening | None = None
        self._wide: _Widening | None = None
        self._watches: dict[str, MeanWatch] = {}
        self._begin()

    def take(self, step: Learned) -> list[Found]:
        """Take a record of the learning log; return what it gives away."""
        before, self._before = self._before, step.state
        value = None if step.repeat or step.refused else step.record.value
        if not isinstance(value, OutcomeClosed):
            self._changed(value, step)
            return []
        if not value.learnable or value.precision == 0.0:
            return []
        found = self._watch(value, step.record.log_time_ms, before)
        found += self._narrow(step.state)
        return found

    def is_stale(self, found: Found) -> bool:
        """Whether a wish to widen comes too late: its outcomes have passed meanwhile."""
        return (
            isinstance(found, PolicyDirected)
            and found.directive_id.startswith(_WIDEN)
            and (self._asked is None or found.directive_id != _WIDEN + self._asked.alarm_id)
        )

    def _changed(self, value: object, step: Learned) -> None:
        """Start anew where another policy, epoch or floor is served: its level is another."""
        serving = _serving(step.state)
        now = None if serving is None else (serving.policy_id, serving.epoch)
        if now != self._serving:
            self._serving = now
            self._begin()
        elif isinstance(value, PolicyDirected):
            self._watches["reward"] = self._watch_of(warm_up=0)
        if isinstance(value, PolicyDirected) and value.by == _BY:
            self._directed(value)

    def _directed(self, told: PolicyDirected) -> None:
        """Follow what stands in the log, not what was wished: another watcher may have said it."""
        if told.directive_id.startswith(_WIDEN):
            numbers = {each.name: int(each.value) for each in told.numbers}
            alarm_id = told.directive_id.removeprefix(_WIDEN)
            before_ppb, count = numbers["floor_before_ppb"], numbers["outcomes"]
            self._wide = _Widening(alarm_id, told.policy_id, before_ppb, count)
            self._asked = None
        elif told.directive_id.startswith(_NARROW):
            self._wide = None

    def _begin(self) -> None:
        warm_up = self.how.warm_up
        self._watches = {name: self._watch_of(warm_up) for name in ("reward", "residual")}

    def _watch_of(self, warm_up: int) -> MeanWatch:
        return MeanWatch(self.how.delta, warm_up)

    def _watch(
        self, outcome: OutcomeClosed, log_time_ms: int, before: Learning | None
    ) -> list[Found]:
        serving = _serving(before)
        found: list[Found] = []
        numbers = {"reward": outcome.reward}
        expected = expectation(serving, outcome) if serving is not None else None
        if expected is not None:
            numbers["residual"] = outcome.reward - expected
        for name, number in numbers.items():
            shift = self._watches[name].update(number)
            if shift is None:
                continue
            alarm = self._alarm(name, shift, outcome, log_time_ms)
            found.append(alarm)
            if serving is not None:
                found += self._widen(alarm, serving)
        return found

    def _alarm(
        self, watched: str, shift: Shift, outcome: OutcomeClosed, log_time_ms: int
    ) -> AlarmRaised:
        if watched == "residual":
            kind = "residual_shifted"
        else:
            kind = "reward_fell" if shift.after < shift.before else "reward_rose"
        detector = f"adwin.{watched}"
        name = alarm_id(kind, self.loop_id, detector, outcome.choice.decision_id)
        numbers = (
            Evidence("before", shift.before),
            Evidence("after", shift.after),
            Evidence("samples", float(shift.samples)),
            Evidence("delta", self.how.delta),
        )
        return AlarmRaised(name, self.loop_id, kind, detector, log_time_ms, numbers)

    def _widen(self, alarm: AlarmRaised, serving: Learner) -> list[Found]:
        floor_ppb, count = self.how.explore_ppb, self.how.explore_outcomes
        # More reward than before is no reason to doubt what is served.
        if floor_ppb is None or alarm.kind == "reward_rose" or serving.floor_ppb >= floor_ppb:
            return []
        if self._asked is not None or self._wide is not None:
            return []
        before_ppb = serving.floor_ppb
        self._asked = _Widening(alarm.alarm_id, serving.policy_id, before_ppb, count)
        directive = self._explore(_WIDEN, self._asked, floor_ppb, f"{alarm.kind}: look around")
        numbers = (
            Evidence("floor_before_ppb", float(before_ppb)),
            Evidence("outcomes", float(count)),
        )
        return [replace(directive, numbers=numbers, evidence=alarm.numbers)]

    def _narrow(self, state: Learning | None) -> list[Found]:
        """Count down; take the wider floor back when its outcomes have come."""
        if self._asked is not None:
            self._asked.left -= 1
            if self._asked.left <= 0:
                self._asked = None
        wide = self._wide
        if wide is None:
            return []
        wide.left -= 1
        if wide.left != 0:
            return []
        learner = state.learner(wide.policy_id) if state is not None else None
        if learner is None or learner.floor_ppb <= wide.floor_ppb:
            self._wide = None  # somebody narrowed it already
            return []
        return [self._explore(_NARROW, wide, wide.floor_ppb, "looked around long enough")]

    def _explore(self, name: str, wide: _Widening, floor_ppb: int, reason: str) -> PolicyDirected:
        return PolicyDirected(
            directive_id=name + wide.alarm_id,
            loop_id=self.loop_id,
            policy_id=wide.policy_id,
            kind="explore",
            by=_BY,
            reason=reason,
            floor_ppb=floor_ppb,
        )


def _serving(state: Learning | None) -> Learner | None:
    learners = state.learners if state is not None else ()
    return next((learner for learner in learners if learner.role == "serving"), None)


def expectation(learner: Learner, outcome: OutcomeClosed) -> float | None:
    """Return what a policy expected of an outcome before it learned it.

    Returns
    -------
    float or None
        None: this policy expects nothing, or not of this action or these features.
    """
    posterior = getattr(learner.policy, "posterior", None)
    choice = outcome.choice
    actions = learner.policy.actions
    same = outcome.choice.config_hash in learner.config_hashes
    if not isinstance(posterior, LinearPosterior) or choice.action_id not in actions or not same:
        return None
    means, _ = posterior.estimates(dense(choice.features, len(learner.policy.features)))
    return float(means[actions.index(choice.action_id)])
