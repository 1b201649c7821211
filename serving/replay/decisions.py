"""The decisions again: each from the frame that caused it, by the policy at its version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pipelines.decide import decide
from pipelines.ready import Serving
from policies.base import checksum_of
from policies.probabilities import Mixed, draw_ppb, mix, pick
from policies.registry import prior
from schemas.decisions import Choice, DecisionMade, OfferedAction
from schemas.errors import PhoError
from schemas.frames import FrameAnalyzed
from schemas.loops import LoopConfigured
from serving.replay.policies import Held, Named
from serving.replay.verdicts import differences


@dataclass(frozen=True, slots=True)
class Made:
    """A decision of the log with what is needed to make it again."""

    decision: DecisionMade
    """As it stands in the log."""
    config: LoopConfigured | None
    """The configuration it names."""
    frame: FrameAnalyzed | None
    """The answered frame that caused it, where it was decided in the stream."""


def versions_of(choice: Choice) -> Iterator[Named]:
    """Yield the versions a decision was made with: its policy's, then those of its shadows."""
    if choice.mode != "fallback":
        yield Named(choice.loop_id, choice.policy_id, choice.epoch, choice.version)
    for shadow in choice.shadows:
        yield Named(choice.loop_id, shadow.policy_id, shadow.epoch, shadow.version)


def decision_difference(
    made: Made, found: Mapping[Named, list[Held]], tolerance_ppb: int = 0
) -> str | None:
    """Make a decision again, and say where the log's differs.

    Parameters
    ----------
    made : Made
        The decision.
    found : mapping of Named to list of Held
        The policies: each version that `versions_of` names, as `Versions.take` returns it.
    tolerance_ppb : int
        Probabilities may differ by so much, in 1e-9: on another machine exponentials have other
        last digits. The draw must still fall on the action, by the probabilities of the log.

    Returns
    -------
    str or None
        None: it does not differ.
    """
    choice, config = made.decision.choice, made.config
    first = ""
    if config is None:
        first = f"its configuration {choice.config_hash!r} is not in `loops`"
    elif choice.host == "stream" and made.frame is None:
        first = f"the frame {made.decision.cause_id} that caused it is missing"
    else:
        try:
            for serving, shadows in _candidates(choice, config, found):
                again = _again(made, config, serving, shadows)
                if tolerance_ppb:
                    again = _within(again, made.decision, tolerance_ppb)
                where = next(differences(again, made.decision), None)
                if where is None:
                    return None
                first = first or where
        except (PhoError, ValueError, LookupError) as error:
            first = f"it cannot be made again: {error}"
    if not first:
        missing = next((name.text for name, held in found.items() if not held), "its policy")
        first = f"no prefix of the learning log teaches {missing}"
    return f"decision {choice.decision_id}: {first}"


def _candidates(
    choice: Choice, config: LoopConfigured, found: Mapping[Named, list[Held]]
) -> Iterator[tuple[Serving | None, tuple[Serving, ...]]]:
    """Yield who may have decided: a version may have stood under several configurations."""
    by_policy = {
        name: [_serving(config, held) for held in helds] + _untaught(name, config)
        for name, helds in found.items()
    }
    names = list(versions_of(choice))
    chosen: list[Serving | None] = [None]
    if choice.mode != "fallback":
        chosen = [*by_policy[names.pop(0)]]
    most = max([len(chosen), *(len(by_policy[name]) for name in names)])
    if not chosen or not all(by_policy[name] for name in names):
        return
    for place in range(most):
        shadows = tuple(by_policy[name][min(place, len(by_policy[name]) - 1)] for name in names)
        yield chosen[min(place, len(chosen) - 1)], shadows


def _serving(config: LoopConfigured, held: Held) -> Serving:
    """Return a version as `decide` makes it ready under a configuration."""
    learner = held.learner
    policy = learner.policy
    checksum = checksum_of(policy)
    if tuple(policy.actions) != config.action_ids:
        policy = policy.with_actions(config.action_ids)
    same = held.config.config_hash == config.config_hash
    floor_ppb = learner.floor_ppb if same else config.floor_ppb
    policy_id = learner.configured.policy_id
    return Serving(policy, learner.epoch, learner.version, checksum, floor_ppb, policy_id)


def _untaught(name: Named, config: LoopConfigured) -> list[Serving]:
    """Return the prior, where that is the version: it needs no record of the learning log."""
    if (name.epoch, name.version) != (0, 0):
        return []
    configured = [policy for policy in config.policies if policy.policy_id == name.policy_id]
    return [
        Serving(policy, 0, 0, checksum_of(policy), config.floor_ppb, name.policy_id)
        for policy in (prior(config, each) for each in configured)
    ]


def _again(
    made: Made, config: LoopConfigured, serving: Serving | None, shadows: tuple[Serving, ...]
) -> DecisionMade:
    logged = made.decision
    if made.frame is not None:
        return decide(made.frame, _decided_at_ms(logged), config, serving, shadows)
    return replace(logged, choice=_choice_again(logged.choice, config, serving, shadows))


def _decided_at_ms(logged: DecisionMade) -> int:
    # The log time of the frame; `Frames` found it by that, so it is the frame's own.
    at_ms = logged.cause_log_time_ms
    return logged.choice.decided_at_ms if at_ms is None else at_ms


def _choice_again(
    choice: Choice, config: LoopConfigured, serving: Serving | None, shadows: tuple[Serving, ...]
) -> Choice:
    """Make a choice again from the context it names: the gateway's and the clients' have no frame.

    A fallback there was somebody's whose policies were out of reach; only its draw follows.
    """
    draw = draw_ppb(config.seed, choice.loop_id, choice.decision_id)
    if serving is None:
        return replace(choice, draw_ppb=draw)
    eligible = [action.eligible for action in choice.actions]
    ids = [action.id for action in choice.actions]
    baseline = ids.index(config.baseline_id)

    def mixed_of(who: Serving) -> Mixed:
        full = who.policy.support == "full"
        says = who.policy.probabilities(choice.features, eligible).tolist()
        shares = (config.control_share_ppb, who.floor_ppb) if full else (0, 0)
        return mix(says, eligible, baseline, *shares)

    mixed = mixed_of(serving)
    index, control = pick(mixed, draw, baseline)
    return replace(
        choice,
        actions=tuple(
            replace(action, probability_ppb=ppb, policy_probability_ppb=policy_ppb)
            for action, ppb, policy_ppb in zip(
                choice.actions, mixed.probabilities_ppb, mixed.policy_ppb, strict=True
            )
        ),
        action_id=ids[index],
        baseline_id=config.baseline_id,
        propensity_ppb=mixed.probabilities_ppb[index],
        draw_ppb=draw,
        control=control,
        control_share_ppb=mixed.control_ppb,
        floor_ppb=serving.floor_ppb if serving.policy.support == "full" else 0,
        support=serving.policy.support,
        mode=config.mode,
        policy_checksum=serving.checksum,
        shadows=tuple(
            replace(offer, probabilities_ppb=mixed_of(each).probabilities_ppb)
            for offer, each in zip(choice.shadows, shadows, strict=True)
        ),
    )


def _within(again: DecisionMade, logged: DecisionMade, tolerance_ppb: int) -> DecisionMade:
    """Return what was made again with the log's own probabilities, where they are close enough.

    The action then follows from the draw and from these, as it did when it was chosen.
    """
    mine, its = again.choice, logged.choice
    if not _close(mine.actions, its.actions, tolerance_ppb):
        return again
    mixed = Mixed(
        tuple(action.probability_ppb for action in its.actions),
        tuple(action.policy_probability_ppb for action in its.actions),
        mine.control_share_ppb,
    )
    ids = [action.id for action in its.actions]
    index, control = pick(mixed, mine.draw_ppb, ids.index(mine.baseline_id))
    shadows = mine.shadows
    if len(shadows) == len(its.shadows) and all(
        _all_close(a.probabilities_ppb, b.probabilities_ppb, tolerance_ppb)
        for a, b in zip(shadows, its.shadows, strict=True)
    ):
        shadows = tuple(
            replace(a, probabilities_ppb=b.probabilities_ppb)
            for a, b in zip(shadows, its.shadows, strict=True)
        )
    choice = replace(
        mine,
        actions=its.actions,
        action_id=ids[index],
        propensity_ppb=its.actions[index].probability_ppb,
        control=control,
        shadows=shadows,
    )
    if ids[index] == mine.action_id:
        return replace(again, choice=choice)
    # Another action has other words; which ones, its own decision says.
    return replace(again, choice=choice, presentation=logged.presentation)


def _close(
    mine: tuple[OfferedAction, ...], its: tuple[OfferedAction, ...], tolerance_ppb: int
) -> bool:
    same = [replace(a, probability_ppb=0, policy_probability_ppb=0) for a in mine] == [
        replace(b, probability_ppb=0, policy_probability_ppb=0) for b in its
    ]
    return same and all(
        _all_close(
            (a.probability_ppb, a.policy_probability_ppb),
            (b.probability_ppb, b.policy_probability_ppb),
            tolerance_ppb,
        )
        for a, b in zip(mine, its, strict=True)
    )


def _all_close(mine: tuple[int, ...], its: tuple[int, ...], tolerance_ppb: int) -> bool:
    return len(mine) == len(its) and all(
        abs(a - b) <= tolerance_ppb for a, b in zip(mine, its, strict=True)
    )


class Frames:
    """The answered frames that may yet decide, by id and log time."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, int], FrameAnalyzed] = {}

    def add(self, frame: FrameAnalyzed, log_time_ms: int) -> None:
        """Keep an answer to a `pre` frame for some time."""
        if frame.phase != "pre":
            return
        self._waiting.setdefault((frame.frame_id, log_time_ms), frame)
        while (oldest := next(iter(self._waiting)))[1] < log_time_ms - KEPT_MS:
            del self._waiting[oldest]

    def take(self, decision: DecisionMade) -> FrameAnalyzed | None:
        """Return the frame that caused a decision; None: it is not in the log."""
        if decision.cause_id is None or decision.cause_log_time_ms is None:
            return None
        return self._waiting.pop((decision.cause_id, decision.cause_log_time_ms), None)


KEPT_MS = 3_600_000
"""An answer that caused no decision within this log time is let go, ms."""
