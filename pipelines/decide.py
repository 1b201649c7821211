"""decide: context and the newest policy in, one decision with its probabilities out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import is_

from pipelines.operators import Aside, Emit, Record, Shared, Step
from pipelines.ready import Ready, Serving, make_all_ready
from pipelines.remembered import Remembered, RemembersKeys
from policies.probabilities import Mixed, draw_ppb, mix, pick
from schemas.checks import PPB
from schemas.compiled import quick
from schemas.decisions import (
    Choice,
    DecisionMade,
    Features,
    OfferedAction,
    Presentation,
    ShadowOffer,
    Support,
)
from schemas.features import context_features
from schemas.frames import FrameAnalyzed, nearest
from schemas.loops import LoopConfigured
from schemas.outcomes import PolicySnapshot
from schemas.streams import DEAD_LETTERS, LATE

# A decision has 60 fields with those of its parts: 18 us by the usual way, 5 by this.
_new_choice, _new_offer, _new_decision = quick(Choice), quick(OfferedAction), quick(DecisionMade)


@dataclass(frozen=True, slots=True)
class _Memo:
    config: LoopConfigured
    keys: tuple[str, ...]
    snapshots: list[PolicySnapshot | None]
    ready: Ready


class Decide(RemembersKeys):
    """Decide for the first answered `pre` frame of each decision id; later ones change nothing."""

    def __init__(self) -> None:
        # A memo, not a memory: what it holds is a function of configuration and snapshot, and
        # restoring a policy costs some hundred microseconds, too much for every visitor.
        self._memos: dict[str, _Memo] = {}

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
        ready = self._ready(config, shared["policies"]) if frame.status == "ok" else _NOBODY
        decision = decide(frame, record.log_time_ms, config, ready.serving, ready.shadows)
        # As long as a repeat of it could still be taken: a fast clock's picture is from the future.
        remembered = Remembered(max(record.log_time_ms, frame.captured_at_ms) + horizon_ms)
        return Step(remembered, (Emit(decision, "decisions"),), remembered.until_ms)

    def _ready(self, config: LoopConfigured, policies: Mapping[str, PolicySnapshot]) -> Ready:
        memo = self._memos.get(config.loop_id)
        if memo is not None and memo.config is config:
            # By identity: comparing snapshots would compare all their bytes, for every visitor.
            if all(map(is_, map(policies.get, memo.keys), memo.snapshots)):
                return memo.ready
        keys = tuple(f"{config.loop_id}/{policy.policy_id}" for policy in config.policies)
        snapshots = [policies.get(key) for key in keys]
        ready = make_all_ready(config, policies)
        self._memos[config.loop_id] = _Memo(config, keys, snapshots, ready)
        return ready


_NOBODY = Ready(None)


def decide(
    frame: FrameAnalyzed,
    decided_at_ms: int,
    config: LoopConfigured,
    serving: Serving | None,
    shadows: tuple[Serving, ...] = (),
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
    shadows : tuple of Serving
        Policies that say what they would have done.
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
        policy_id=serving.policy_id if serving else config.serving.policy_id,
        epoch=serving.epoch if serving else 0,
        version=serving.version if serving else 0,
        policy_checksum=serving.checksum if serving else "",
        visit_id=frame.visit_id,
        kiosk_id=frame.kiosk_id,
        subject_hash=frame.subject_hash,
        shadows=tuple(_shadow(features, config, each) for each in shadows) if shadows else (),
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
    mixed, floor_ppb = _mixed(features, config, serving)
    index, control = pick(mixed, draw, baseline)
    actions = tuple(
        map(_new_offer, action_ids, eligible, mixed.probabilities_ppb, mixed.policy_ppb)
    )
    support = serving.policy.support
    return _Drawn(actions, index, control, mixed.control_ppb, floor_ppb, support)


def _mixed(features: Features, config: LoopConfigured, serving: Serving) -> tuple[Mixed, int]:
    """Return the probabilities of a policy's whole procedure, and the floor that is in them."""
    _, eligible, baseline = _offer(config)
    says = serving.policy.probabilities(features, eligible).tolist()
    # A degenerate policy stays so: floor and control would make another procedure of it.
    full = serving.policy.support == "full"
    floor_ppb = serving.floor_ppb if full else 0
    control_share_ppb = config.control_share_ppb if full else 0
    return mix(says, eligible, baseline, control_share_ppb, floor_ppb), floor_ppb


def _shadow(features: Features, config: LoopConfigured, shadow: Serving) -> ShadowOffer:
    """Return what a policy in shadow would have done, as if it had decided."""
    mixed, _ = _mixed(features, config, shadow)
    return ShadowOffer(shadow.policy_id, shadow.epoch, shadow.version, mixed.probabilities_ppb)


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
