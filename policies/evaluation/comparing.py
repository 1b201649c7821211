"""Several targets judged side by side on the same records, in slices where wished."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from policies.evaluation.estimators import Judge, Lift
from policies.evaluation.records import Logged, RewardRange, has_reward, logged
from policies.evaluation.reward_model import RewardModel
from policies.evaluation.scores import score_all
from policies.evaluation.targets import Target
from schemas.checks import PPB
from schemas.errors import InvalidRecord, PhoError
from schemas.outcomes import OutcomeClosed

ALL = "all"
"""The slice that holds every record."""

Slicer = Callable[[Logged], str]


@dataclass(slots=True)
class Slice:
    """What the records of one slice have said of every target."""

    judges: list[Judge]
    """One for each target, in their order."""
    lift: Lift = field(default_factory=Lift)
    """Learned less control."""
    n: int = 0
    """Records in it."""


class Comparison:
    """Judges targets on outcomes that come in the order of their decisions.

    Parameters
    ----------
    targets : sequence of Target
        Who is judged.
    rewards : RewardRange
        The range of the loop's rewards.
    slicer : callable, optional
        Names the slice of a record from what was known before its action; `ALL` is kept besides.
    where : callable, optional
        Chooses the records judged, by what was known before their action; all are learned from.
    given_variant : bool
        Whether slices or `where` go by the variant drawn.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        rewards: RewardRange,
        slicer: Slicer | None = None,
        where: Callable[[Logged], bool] | None = None,
        *,
        given_variant: bool = False,
    ) -> None:
        self.targets = tuple(targets)
        self.rewards = rewards
        self.silent: Counter[str] = Counter()
        """Records of which a target said nothing, by its name."""
        self.no_reward = 0
        """Outcomes without a reward: dropped, or never activated."""
        self.refused: Counter[str] = Counter()
        """Outcomes that no estimate may rest on, by the reason."""
        self.from_ms: int | None = None
        """The first decision judged, log time, ms."""
        self.to_ms: int | None = None
        """The last decision judged, log time, ms."""
        self._model = RewardModel()
        self.not_chosen = 0
        """Records that `where` did not choose."""
        self._slicer = slicer
        self._where = where
        self._given_variant = given_variant
        self.slices: dict[str, Slice] = {ALL: self._empty()}

    def take(self, outcome: OutcomeClosed) -> None:
        """Take the outcome of the next decision; what cannot be judged is counted."""
        if not has_reward(outcome):
            self.no_reward += 1
            return
        try:
            record = logged(outcome, self.rewards, given_variant=self._given_variant)
        except InvalidRecord as error:
            self.refuse(error)
            return
        if self._where is None or self._where(record):
            self._judge(record)
        else:
            self.not_chosen += 1
        for target in self.targets:
            target.learn(record)
        self._model.learn(record)

    def refuse(self, error: PhoError) -> None:
        """Count an outcome that no estimate may rest on."""
        # Ids and numbers stay out of the reason, so that alike ones are counted together.
        words = (error.cure or error.problem).split(",")[0]
        self.refused[words] += 1

    def _judge(self, record: Logged) -> None:
        model = self._model.expects(record)
        choice = record.outcome.choice
        decided_ms = choice.decided_at_ms
        self.from_ms = decided_ms if self.from_ms is None else min(self.from_ms, decided_ms)
        self.to_ms = decided_ms if self.to_ms is None else max(self.to_ms, decided_ms)
        names = [ALL] if self._slicer is None else [ALL, self._slicer(record)]
        slices = [self.slices.get(name) or self._begin(name) for name in names]
        expected = float((record.probabilities * model).sum())
        share = choice.control_share_ppb / PPB
        for part in slices:
            part.n += 1
            part.lift.take(choice.control, share, record.reward, expected)
        says = [target.probabilities(record) for target in self.targets]
        known = [place for place, what in enumerate(says) if what is not None]
        for target, what in zip(self.targets, says, strict=True):
            self.silent[target.name] += what is None
        if not known:
            return
        matrix = np.array([says[place] for place in known])
        q, index, reward = record.probabilities, record.index, record.reward
        scored = score_all(matrix, q, index, reward, model)
        for part in slices:
            for place, score in zip(known, scored, strict=True):
                part.judges[place].take(score)

    def _begin(self, name: str) -> Slice:
        return self.slices.setdefault(name, self._empty())

    def _empty(self) -> Slice:
        return Slice([Judge() for _ in self.targets])
