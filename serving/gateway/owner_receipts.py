"""A receipt as the owner's API answers it, and who reads it: one at a time, beside the kiosks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pydantic import Field

from connectors.embedded_log import EmbeddedLog
from connectors.logs import Log
from schemas.errors import PhoError
from serving.gateway.owner_models import Answer
from serving.receipt_keeping import ReceiptKeeping
from serving.receipt_reading import read_receipt


class Known(Answer):
    """What was known before the choice."""

    features: dict[str, float]
    happiness_before: float | None
    confidence_before: float | None
    frame_id: str | None
    captured_at_ms: int | None


class Offered(Answer):
    """One action as it was offered."""

    action: str
    eligible: bool
    probability: float = Field(description="Under the whole procedure, 0..1.")
    policy_probability: float = Field(description="What the policy alone gave it, 0..1.")


class Chosen(Answer):
    """What was chosen, by whom, and by which draw."""

    action: str
    text: str
    language: str
    policy: str
    algorithm: str
    epoch: int
    version: int
    host: str
    mode: str
    support: str
    control: bool
    control_share: float
    floor: float
    baseline: str
    draw: float
    fell_into: list[float]
    propensity: float
    decided_at_ms: int


class ContributionTold(Answer):
    """What one feature added to what an action was expected to earn."""

    feature: str
    value: float
    weight: float
    contribution: float


class ExpectedTold(Answer):
    """What the policy expected of one action."""

    action: str
    mean: float
    deviation: float
    contributions: list[ContributionTold]


class Why(Answer):
    """Why the policy chose as it did."""

    text: str
    expected: list[ExpectedTold]


class ShadowTold(Answer):
    """What a policy in shadow gave the chosen action."""

    policy: str
    epoch: int
    version: int
    probability: float


class ShownTold(Answer):
    """The showing."""

    action: str
    at_ms: int
    fallback: bool


class EndedTold(Answer):
    """The end of the visit."""

    at_ms: int
    reason: str


class ReactionTold(Answer):
    """One reaction."""

    id: str
    kind: str
    at_ms: int
    value: float
    confidence: float
    counted: bool
    why: str


class Rule(Answer):
    """How the reaction became the reward."""

    activation: str
    reward_window_ms: int
    grace_ms: int
    aggregation: str
    reward_low: float
    reward_high: float
    default_reward: float
    missing: str
    reaction_delay_ms: int
    min_confidence: float
    closing_reactions: int
    dedup_horizon_ms: int


class RewardTold(Answer):
    """How the decision closed."""

    reward: float
    raw: float
    clipped: bool
    precision: float
    source: str
    result: str
    result_reason: str
    closed_by: str
    closed_at_ms: int
    happiness_after: float | None
    confidence_after: float | None
    learnable: bool
    learnable_reason: str
    rule: Rule


class LearntTold(Answer):
    """What one policy learned of it."""

    policy_id: str
    role: str
    epoch: int
    version_before: int
    version_after: int
    probability_before: float | None
    probability_after: float | None
    why_not: str


class AsideTold(Answer):
    """A record of it that left the main way."""

    stream: str
    reason: str
    error: str


class ReceiptTold(Answer):
    """One decision's whole story, as `pho receipt` tells it."""

    decision_id: str
    loop_id: str
    state: str
    known: Known
    offered: list[Offered]
    chosen: Chosen
    why: Why
    shadows: list[ShadowTold]
    shown: ShownTold | None
    visit_ended: EndedTold | None
    reactions: list[ReactionTold]
    reward: RewardTold | None
    learned: list[LearntTold]
    put_aside: list[AsideTold]
    log: str


class Receipts:
    """Reads receipts, one at a time; of a folder's log it keeps what makes each of them cheap.

    Parameters
    ----------
    open_log : callable
        Opens the log anew, without those who were forgotten.
    """

    def __init__(self, open_log: Callable[[], Log]) -> None:
        self._open_log = open_log
        self._turn = threading.Lock()
        self._keeping = ReceiptKeeping()

    def read(self, decision_id: str) -> ReceiptTold:
        """Read one, in a thread that may block.

        Raises
        ------
        NoSuchDecision
            When the log has none of that id, or none yet.
        LogUnavailable
            When the log cannot be read.
        """
        with self._turn:
            log = self._open_log()
            try:
                if isinstance(log, EmbeddedLog):
                    found = self._keeping.read(log, decision_id)
                else:
                    found = read_receipt(log, decision_id)
            finally:
                log.close()
        document: dict[str, Any] = found.document()
        return ReceiptTold.model_validate(document)

    def keep_up(self, log: Log) -> bool:
        """Take a batch of what is new, so that the next receipt need not.

        Returns
        -------
        bool
            Whether there may be more. Of Kafka nothing is kept: a receipt reads its topics.
        """
        if not isinstance(log, EmbeddedLog):
            return False
        with self._turn:
            try:
                return self._keeping.catch_up(log)
            except PhoError:
                return False  # whoever asks for a receipt is told
