"""Estimates in the stream: what each policy earns, told as records while the log grows.

Stands beside the job and sees only the learning log: an outcome waits there until every decision
made before its own must have closed, for smiles close early and defaults late.
"""

from __future__ import annotations

from collections.abc import Iterator

from policies.evaluation.comparing import ALL, Comparison
from policies.evaluation.estimators import Estimate, Judge
from policies.evaluation.order import AfterWaiting
from policies.evaluation.records import RewardRange
from policies.evaluation.targets import LoggedPolicy, Target, plain_targets
from schemas.loops import LoopConfigured
from schemas.operations import EstimateMade
from schemas.outcomes import OutcomeClosed

EVERY = 200
ALPHA = 0.05
SLACK_MS = 10_000
"""How long after its cause a decision may enter the log and still be judged, ms."""


class LiveEstimates:
    """Estimates of one loop; feed it each record of its learning log, in order.

    It is a function of that log: whoever starts again reads the log from its beginning, and keeps
    to itself what it had told before.

    Parameters
    ----------
    every : int
        Decisions judged between two reports.
    alpha : float
        The chance that an interval fails, ever.
    slack_ms : int
        How long after its cause a decision may enter the log, ms; later ones are `overtaken`.
    """

    def __init__(self, every: int = EVERY, alpha: float = ALPHA, slack_ms: int = SLACK_MS) -> None:
        self.every = every
        self.alpha = alpha
        self.slack_ms = slack_ms
        self.unknown = 0
        """Outcomes of a configuration that did not stand before them, or of other rewards."""
        self._order = AfterWaiting(0)
        self._comparison: Comparison | None = None
        self._alike: set[str] = set()
        self._loop_id = ""
        self._told = 0

    @property
    def overtaken(self) -> int:
        """Outcomes left out, since their decision entered the log after its turn."""
        return self._order.overtaken

    def configure(self, config: LoopConfigured) -> None:
        """Take the loop's configuration; another range of rewards begins anew."""
        rewards = RewardRange(config.rules.reward_low, config.rules.reward_high)
        known = self._comparison
        targets: list[Target] = list(plain_targets().values())
        targets += [LoggedPolicy(policy.policy_id) for policy in config.policies]
        names = [target.name for target in targets]
        if known is None or known.rewards != rewards or [t.name for t in known.targets] != names:
            self._comparison = Comparison(targets, rewards)
            self._alike.clear()
            self._told = 0
        self._alike.add(config.config_hash)
        self._loop_id = config.loop_id
        wait_ms = config.rules.longest_life_ms + self.slack_ms
        self._order.wait_ms = max(self._order.wait_ms, wait_ms)

    def take(self, outcome: OutcomeClosed, log_time_ms: int) -> list[EstimateMade]:
        """Take an outcome; return what is to be told now, every so many decisions.

        Parameters
        ----------
        outcome : OutcomeClosed
            The next of the learning log.
        log_time_ms : int
            Its log time, ms.
        """
        comparison = self._comparison
        if comparison is None or outcome.choice.config_hash not in self._alike:
            self.unknown += 1
            return []
        self._order.closed(outcome)
        found: list[EstimateMade] = []
        for ready in self._order.ready(log_time_ms):
            comparison.take(ready)
            judged = comparison.slices[ALL].n
            if judged >= self._told + self.every:
                self._told = judged
                found = list(self._tell(comparison))
        return found

    def _tell(self, comparison: Comparison) -> Iterator[EstimateMade]:
        rewards, whole = comparison.rewards, comparison.slices[ALL]
        for target, judge in zip(comparison.targets, whole.judges, strict=True):
            if judge.n:
                value = judge.estimate("dr", self.alpha).scaled(rewards.width, rewards.low)
                yield self._record(comparison, target.name, "dr", value, judge)
                difference = judge.difference(self.alpha).scaled(rewards.width)
                if target.name != "logging":
                    yield self._record(comparison, target.name, "dr_difference", difference, judge)
        lift = whole.lift.estimate(self.alpha)
        if lift is not None:
            scaled = lift.scaled(rewards.width)
            yield self._record(comparison, "logging", "lift_over_control", scaled, None)

    def _record(
        self,
        comparison: Comparison,
        policy_id: str,
        method: str,
        estimate: Estimate,
        judge: Judge | None,
    ) -> EstimateMade:
        return EstimateMade(
            loop_id=self._loop_id,
            policy_id=policy_id,
            from_ms=comparison.from_ms or 0,
            to_ms=comparison.to_ms or 0,
            method=method,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            n=estimate.n,
            effective_sample_size=judge.effective_sample_size if judge else float(estimate.n),
            clipped=0,
        )
