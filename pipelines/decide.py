"""decide: context and the newest policy in, one decision with its probabilities out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from pipelines.operators import Aside, Emit, Record, Shared, Step
from pipelines.remembered import Remembered, RemembersKeys
from policies.base import Policy, checksum_of
from policies.probabilities import draw_ppb, mix, pick
from policies.registry import prior, restore
from schemas.checks import PPB
from schemas.compiled import quick
from schemas.decisions import (
    Choice,
    DecisionMade,
    Features,
    OfferedAction,
    Presentation,
    Support,
)
from schemas.errors import SnapshotRefused
from schemas.features import context_features
from schemas.frames import FrameAnalyzed, nearest
from schemas.loops import LoopConfigured
from schemas.outcomes import PolicySnapshot
from schemas.streams import DEAD_LETTERS, LATE

# A decision has 60 fields with those of its parts: 18 us by the usual way, 5 by this.
_new_choice, _new_offer, _new_decision = quick(Choice), quick(OfferedAction), quick(DecisionMade)


@dataclass(frozen=True, slots=True)
class Serving:
    """A policy as it stands ready to decide."""

    policy: Policy
    """The policy."""
    epoch: int
    """Its epoch."""
    version: int
    """Its version."""
    checksum: str
    """Checksum of its bytes."""
    floor_ppb: int
    """The exploration floor it is served with, in 1e-9."""


class Decide(RemembersKeys):
    """Decide for the first answered `pre` frame of each decision id; later ones change nothing."""

    def __init__(self) -> None:
        # A memo, not a memory: what it holds is a function of configuration and snapshot, and
        # restoring a policy costs some hundred microseconds, too much for every visitor.
        self._ready: dict[str, tuple[LoopConfigured, PolicySnapshot | None, Serving | None]] = {}

    def on_event(
        self, state: Remembered | None, record: Record, shared: Shared
    ) -> Step[Remembered]:
        """Decide, or say why not."""
        if state is not None:
            return state.step()
        frame: FrameAnalyzed = record.value
        if frame.phase != "pre" or frame.status in ("expired", "refused", "unknown"):
            return Step(None)
        config: LoopConfigured | None = shared["loops"].get(frame.loop_id)
        if config is None:
            error = (
                f"Nobody configured a loop {frame.loop_id!r}. Name it in pho.toml and start "
                f"the job again, then `pho dead-letters --replay`"
            )
            return Step(None, (Emit(Aside(record, "unknown_loop", error), DEAD_LETTERS),))
        horizon_ms = config.rules.dedup_horizon_ms
        if record.log_time_ms > frame.captured_at_ms + horizon_ms:
            # Answered again after a recovery that took longer than its visit is remembered: a
            # second decision would greet nobody, and close with a second outcome.
            error = f"It came more than dedup_horizon_ms = {horizon_ms} after its picture was taken"
            return Step(None, (Emit(Aside(record, "analysis_too_old", error), LATE),))
        snapshot = shared["policies"].get(f"{config.loop_id}/{config.serving.policy_id}")
        serving = self._serving(config, snapshot) if frame.status == "ok" else None
        decision = decide(frame, record.log_time_ms, config, serving)
        # As long as a repeat of it could still be taken: a fast clock's picture is from the future.
        remembered = Remembered(max(record.log_time_ms, frame.captured_at_ms) + horizon_ms)
        return Step(remembered, (Emit(decision, "decisions"),), remembered.until_ms)

    def _serving(self, config: LoopConfigured, snapshot: PolicySnapshot | None) -> Serving | None:
        ready = self._ready.get(config.loop_id)
        if ready is None or ready[0] is not config or ready[1] is not snapshot:
            ready = (config, snapshot, make_ready(config, snapshot))
            self._ready[config.loop_id] = ready
        return ready[2]


def make_ready(config: LoopConfigured, snapshot: PolicySnapshot | None) -> Serving | None:
    """Return the policy that decides now.

    Parameters
    ----------
    config : LoopConfigured
        The loop.
    snapshot : PolicySnapshot or None
        The newest of its serving policy; None: nothing learned yet, the prior decides.

    Returns
    -------
    Serving or None
        None when the snapshot cannot be served under this configuration (its features changed a
        moment ago, or it was refused): the baseline is served until a newer one comes.
    """
    if snapshot is None:
        policy = prior(config)
        return Serving(policy, 0, 0, checksum_of(policy), config.floor_ppb)
    try:
        policy = restore(snapshot, config)
        if policy.actions != config.action_ids:
            policy = policy.with_actions(config.action_ids)
    except SnapshotRefused:
        return None
    same = snapshot.config_hash == config.config_hash
    floor_ppb = snapshot.floor_ppb if same else config.floor_ppb
    return Serving(policy, snapshot.epoch, snapshot.version, snapshot.checksum, floor_ppb)


def decide(
    frame: FrameAnalyzed, decided_at_ms: int, config: LoopConfigured, serving: Serving | None
) -> DecisionMade:
    """Make one decision.

    Parameters
    ----------
    frame : FrameAnalyzed
        The deciding frame.
    decided_at_ms : int
        Its log time, ms.
    config : LoopConfigured
        The loop.
    serving : Serving or None
        The policy; None: the baseline as a fallback, with probability 1, never learned.
    """
    face = nearest(frame.faces)
    dense = context_features(
        config.feature_names, face, frame.labels, frame.captured_at_ms, frame.utc_offset_minutes
    )
    features = Features(dense)
    draw = draw_ppb(config.seed, config.loop_id, frame.decision_id)
    drawn = _draw(features, draw, config, serving) if serving else _baseline(config)
    chosen = drawn.actions[drawn.index]
    choice = _new_choice(
        decision_id=frame.decision_id,
        loop_id=config.loop_id,
        config_hash=config.config_hash,
        host="stream",
        decided_at_ms=decided_at_ms,
        features_hash=config.features_hash,
        features=features,
        actions=drawn.actions,
        baseline_id=config.baseline_id,
        action_id=chosen.id,
        propensity_ppb=chosen.probability_ppb,
        draw_ppb=draw,
        control=drawn.control,
        control_share_ppb=drawn.control_ppb,
        floor_ppb=drawn.floor_ppb,
        support=drawn.support,
        mode=config.mode if serving else "fallback",
        policy_id=config.serving.policy_id,
        epoch=serving.epoch if serving else 0,
        version=serving.version if serving else 0,
        policy_checksum=serving.checksum if serving else "",
        visit_id=frame.visit_id,
        kiosk_id=frame.kiosk_id,
        subject_hash=frame.subject_hash,
        happiness_before=face.happiness if face else None,
        confidence_before=face.confidence if face else None,
    )
    return _new_decision(
        choice=choice,
        presentation=presentation(config, chosen.id, frame.language),
        rules=config.rules,
        cause_id=frame.frame_id,
        cause_log_time_ms=decided_at_ms,
        box_before=face.box if face else None,
    )


@dataclass(frozen=True, slots=True)
class _Drawn:
    actions: tuple[OfferedAction, ...]
    index: int
    control: bool
    control_ppb: int
    floor_ppb: int
    support: Support


def _draw(features: Features, draw: int, config: LoopConfigured, serving: Serving) -> _Drawn:
    action_ids, eligible, baseline = _offer(config)
    says = serving.policy.probabilities(features, eligible).tolist()
    support = serving.policy.support
    # A degenerate policy stays so: floor and control would make another procedure of it.
    floor_ppb = serving.floor_ppb if support == "full" else 0
    control_share_ppb = config.control_share_ppb if support == "full" else 0
    mixed = mix(says, eligible, baseline, control_share_ppb, floor_ppb)
    index, control = pick(mixed, draw, baseline)
    actions = tuple(
        map(_new_offer, action_ids, eligible, mixed.probabilities_ppb, mixed.policy_ppb)
    )
    return _Drawn(actions, index, control, mixed.control_ppb, floor_ppb, support)


def _baseline(config: LoopConfigured) -> _Drawn:
    action_ids, _, index = _offer(config)
    actions = tuple(
        _new_offer(action_id, True, PPB * (place == index), PPB * (place == index))
        for place, action_id in enumerate(action_ids)
    )
    return _Drawn(actions, index, False, 0, 0, "degenerate")


# Both caches are keyed by the configuration's object, and hold it: its hash is its identity here.
# A loop has few actions and languages; looked up anew they cost a tenth of a decision.
_CACHED_MAX = 4_096


@dataclass(frozen=True, slots=True, eq=False)
class _Same:
    """A configuration as a key: the same object, not an equal one."""

    config: LoopConfigured

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.config is self.config

    def __hash__(self) -> int:
        return id(self.config)


def _offer(config: LoopConfigured) -> tuple[tuple[str, ...], tuple[bool, ...], int]:
    return _offered(_Same(config))


@lru_cache(_CACHED_MAX)
def _offered(same: _Same) -> tuple[tuple[str, ...], tuple[bool, ...], int]:
    config = same.config
    eligible = tuple(action.enabled for action in config.actions)
    return config.action_ids, eligible, config.action_ids.index(config.baseline_id)


def presentation(config: LoopConfigured, action_id: str, language: str | None) -> Presentation:
    """Return the words of an action: in the wished language, its parent, or the loop's own."""
    return _presented(_Same(config), action_id, language)


@lru_cache(_CACHED_MAX)
def _presented(same: _Same, action_id: str, language: str | None) -> Presentation:
    config = same.config
    action = config.action(action_id)
    by_language = {wording.language.lower(): wording for wording in action.wordings}
    wished = (language or config.default_language).lower()
    for tag in (wished, wished.split("-")[0], config.default_language.lower()):
        if tag in by_language:
            words = by_language[tag]
            return Presentation(words.text, words.language, words.voice, action.mood)
    if action.wordings:
        words = action.wordings[0]
        return Presentation(words.text, words.language, words.voice, action.mood)
    return Presentation("", config.default_language, "", action.mood)
