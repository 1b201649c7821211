"""What greetings earn: by greeting, for whom, over time, and beside the control share.

Takes outcomes in the order of their decisions (`policies.evaluation.order`): smiles close early and
defaults late, so that what has closed at any moment is happier than what was decided.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from policies.evaluation.comparing import ALL, Comparison
from policies.evaluation.estimators import Lift
from policies.evaluation.records import RewardRange, has_reward
from schemas.checks import PPB
from schemas.errors import InvalidRecord
from schemas.loops import LoopConfigured
from schemas.outcomes import OutcomeClosed
from serving.gateway.owner_groups import SMILING_FROM, Groups, mood
from serving.gateway.owner_means import Tally

BLOCKS_MAX = 24
"""Steps of the course over time; when there are more, two become one."""


def smiled(outcome: OutcomeClosed) -> bool:
    """Whether a smile was seen after the greeting; a face that was not seen did not smile."""
    return outcome.happiness_after is not None and outcome.happiness_after >= SMILING_FROM


@dataclass(slots=True)
class Worth:
    """What some visits were worth."""

    reward: Tally = field(default_factory=Tally)
    """Rewards, as parts of their range, 0..1."""
    smile: Tally = field(default_factory=Tally)
    """Smiles seen after the greeting, 0 or 1."""

    def take(self, reward: float, smile: bool) -> None:
        """Take one visit."""
        self.reward.take(reward)
        self.smile.take(float(smile))

    def add(self, other: Worth) -> None:
        """Take all visits of another."""
        self.reward.add(other.reward)
        self.smile.add(other.smile)


@dataclass(slots=True)
class Block:
    """Some visits one after the other."""

    from_ms: int
    """The first decision, log time, ms."""
    to_ms: int
    """The last decision, log time, ms."""
    learned: Worth = field(default_factory=Worth)
    """What the policy chose."""
    control: Worth = field(default_factory=Worth)
    """What the control share got."""

    @property
    def n(self) -> int:
        """Visits in it."""
        return self.learned.reward.n + self.control.reward.n

    def add(self, other: Block) -> None:
        """Take the visits of the block behind it."""
        self.to_ms = max(self.to_ms, other.to_ms)
        self.learned.add(other.learned)
        self.control.add(other.control)


class WorthOfLoop:
    """What the greetings of one loop are worth; feed it outcomes in the order of their decisions.

    A configuration with another range of rewards begins anew: its numbers are others.
    """

    def __init__(self) -> None:
        self.configs: dict[str, LoopConfigured] = {}
        """Every configuration of the loop, by its hash."""
        self.newest: LoopConfigured | None = None
        """The newest of them."""
        self.left_out: Counter[str] = Counter()
        """Outcomes with a reward that are not judged, by the reason."""
        self._alike: set[str] = set()
        self._begin(RewardRange(-1.0, 1.0))

    def _begin(self, rewards: RewardRange) -> None:
        self.rewards = rewards
        self.comparison = Comparison([], rewards)
        self.smile_lift = Lift()
        self.by_action: dict[str, Worth] = {}
        self.by_group: dict[tuple[str, str, str], Worth] = {}
        self.learned, self.control = Worth(), Worth()
        self.blocks: list[Block] = []
        self.sees_faces = False
        """Whether any outcome rests on a face: else smiles mean nothing here."""
        self._groups = Groups()
        self._expected: dict[str, Tally] = {}
        self._block_size = 1

    def configure(self, config: LoopConfigured) -> None:
        """Take a configuration of the loop; the last one taken is the newest."""
        rules = config.rules
        self.configs[config.config_hash] = config
        self.newest = config
        try:
            rewards = RewardRange(rules.reward_low, rules.reward_high)
        except InvalidRecord:
            return  # all earn the same: nothing can be compared, and its outcomes are left out
        if rewards != self.rewards:
            self._alike.clear()
            self._begin(rewards)
        self._alike.add(config.config_hash)

    @property
    def lift(self) -> Lift:
        """Reward: learned less control."""
        return self.comparison.slices[ALL].lift

    def take(self, outcome: OutcomeClosed) -> None:
        """Take the outcome of the next decision."""
        choice = outcome.choice
        if not has_reward(outcome):
            return
        if choice.config_hash not in self._alike:
            self.left_out["made under another range of rewards"] += 1
            return
        try:
            reward = self.rewards.to_share(outcome.reward)
        except InvalidRecord:
            self.left_out["its reward lies outside the loop's range"] += 1
            return
        self.comparison.take(outcome)
        smile = smiled(outcome)
        self.sees_faces |= outcome.happiness_after is not None
        self._lift(outcome, smile)
        self.by_action.setdefault(choice.action_id, Worth()).take(reward, smile)
        for by, group in self._groups.of(choice, self.configs.get(choice.config_hash)):
            key = (by, group, choice.action_id)
            self.by_group.setdefault(key, Worth()).take(reward, smile)
        (self.control if choice.control else self.learned).take(reward, smile)
        self._course(outcome, reward, smile)

    def _lift(self, outcome: OutcomeClosed, smile: bool) -> None:
        """Hold learned against control, less what anybody who came like this does anyway.

        Whatever is expected from the past alone leaves the estimate without bias; the better the
        guess, the narrower the interval (policies/evaluation/scores.py).
        """
        choice = outcome.choice
        past = self._expected.setdefault(mood(choice), Tally())
        expected = (past.total + 0.5) / (past.n + 1)
        self.smile_lift.take(choice.control, choice.control_share_ppb / PPB, float(smile), expected)
        past.take(float(smile))

    def _course(self, outcome: OutcomeClosed, reward: float, smile: bool) -> None:
        at_ms = outcome.choice.decided_at_ms
        if not self.blocks or self.blocks[-1].n >= self._block_size:
            if len(self.blocks) >= BLOCKS_MAX:
                pairs = zip(self.blocks[::2], self.blocks[1::2], strict=True)
                for first, second in pairs:
                    first.add(second)
                self.blocks = self.blocks[::2]
                self._block_size *= 2
            self.blocks.append(Block(at_ms, at_ms))
        block = self.blocks[-1]
        block.from_ms, block.to_ms = min(block.from_ms, at_ms), max(block.to_ms, at_ms)
        (block.control if outcome.choice.control else block.learned).take(reward, smile)
