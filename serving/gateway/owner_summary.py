"""From the fold to the page: everything of one loop at one moment."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

from policies.evaluation.estimators import Estimate, Lift
from policies.evaluation.records import RewardRange
from schemas.checks import PPB
from schemas.loops import LoopConfigured
from serving.gateway import owner_models as told
from serving.gateway.owner_board import OwnerBoard
from serving.gateway.owner_fold import LoopFold
from serving.gateway.owner_groups import title
from serving.gateway.owner_means import ALPHA, Interval, interval, intervals
from serving.gateway.owner_minutes import MINUTE_MS, MINUTES
from serving.gateway.owner_recent import KEPT, Line
from serving.gateway.owner_speed import EDGES_MS, Durations
from serving.gateway.owner_worth import Worth, WorthOfLoop
from serving.ledger import Ledger
from serving.missing import missing_rates_of
from serving.replay.verdicts import LAG_MS

NEWEST = 12
"""Decisions that a summary carries."""
_PROBLEMS_MAX = 5
_NOTHING: tuple[Interval | None, Interval | None] = (None, None)
Key = TypeVar("Key", bound=Hashable)
_BYS_FIRST = ("mood_part", "mood", "part", "kiosk")


def summary(board: OwnerBoard, loop_id: str | None, now_ms: int) -> told.Summary:
    """Return the page of a loop; hold the board's lock.

    Parameters
    ----------
    board : OwnerBoard
        What was read.
    loop_id : str or None
        The loop; None: there is none yet.
    now_ms : int
        The clock, ms since 1970 UTC.
    """
    fold, reading = board.fold, board.reading
    loop = fold.loops.get(loop_id or "") or LoopFold()
    worth = loop.worth
    width, low = worth.rewards.width, worth.rewards.low
    return told.Summary(
        loop_id=loop_id,
        loops=sorted(fold.loops),
        log=board.name,
        recording=board.is_recording,
        now_ms=now_ms,
        newest_ms=fold.newest_ms,
        reading=told.ReadingTold(
            caught_up=reading.caught_up,
            share=reading.share,
            records=fold.records,
            unreadable=fold.unreadable,
            problem=reading.problem,
            cure=reading.cure,
        ),
        visits=loop.decisions,
        judged=worth.learned.reward.n + worth.control.reward.n,
        waiting=loop.order.behind,
        left_out=dict(worth.left_out),
        sees_faces=worth.sees_faces,
        reward_low=low,
        reward_high=worth.rewards.high,
        smile=_difference(worth, "smile", worth.smile_lift),
        reward=_difference(worth, "reward", worth.lift, width, low),
        greetings=_greetings(loop),
        slices=_slices(worth),
        course=_course(worth),
        hour=hour_told(loop, now_ms),
        ledger=ledger_told(fold.book.ledger(fold.sides, board.complete_ms, LAG_MS)),
        speed=_speed(board),
        ways=_ways(loop),
        policies=_policies(loop),
        directives=[
            told.DirectiveTold(
                at_ms=at_ms, policy_id=each.policy_id, kind=each.kind, by=each.by,
                reason=each.reason,
            )
            for each, at_ms in reversed(loop.directives)
        ],
        alarms=[
            told.AlarmTold(
                alarm_id=alarm.alarm_id, at_ms=alarm.raised_at_ms, kind=alarm.kind,
                detector=alarm.detector,
                numbers={number.name: number.value for number in alarm.numbers},
            )
            for alarm in reversed(loop.alarms)
        ],
        alarms_ever=len(loop.alarm_ids),
        newest=[line(each) for each in fold.recent.page(loop_id or "", None, NEWEST)[0]],
    )  # fmt: skip


def decisions(
    board: OwnerBoard, loop_id: str | None, before: int | None, limit: int
) -> told.Decisions:
    """Return decisions of a loop, newest first; hold the board's lock."""
    lines, older = board.fold.recent.page(loop_id or "", before, limit)
    return told.Decisions(decisions=[line(each) for each in lines], before=older, kept=KEPT)


def line(known: Line) -> told.DecisionLine:
    """Return a decision as a list shows it."""
    return told.DecisionLine(
        number=known.number,
        decision_id=known.decision_id,
        kiosk_id=known.kiosk_id,
        decided_at_ms=known.decided_at_ms,
        action_id=known.action_id,
        text=known.text,
        control=known.control,
        mode=known.mode,
        propensity=known.propensity,
        happiness_before=known.happiness_before,
        happiness_after=known.happiness_after,
        reward=known.reward,
        result=known.result,
    )


def ledger_told(ledger: Ledger) -> told.LedgerTold:
    """Return the ledger, with the first of what does not add up."""
    document = {**ledger.document(), "problems": ledger.problems[:_PROBLEMS_MAX]}
    return told.LedgerTold(**document)


def _mean(known: Interval) -> told.Mean:
    # Six digits: the rest is noise, and a third of what travels.
    value, low, high = (round(end, 6) for end in (known.value, known.low, known.high))
    return told.Mean(value=value, low=low, high=high, n=known.n)


def _or_none(known: Interval | None) -> told.Mean | None:
    return None if known is None else _mean(known)


def _difference(
    worth: WorthOfLoop, what: str, lift: Lift, width: float = 1.0, low: float = 0.0
) -> told.Difference:
    learned = interval(getattr(worth.learned, what), width, low)
    control = interval(getattr(worth.control, what), width, low)
    estimate = lift.estimate(ALPHA)
    scaled = estimate.scaled(width) if estimate is not None else None
    is_told = scaled is not None and learned is not None and control is not None
    return told.Difference(
        verdict=_verdict(scaled if is_told else None, any_visit=bool(learned or control)),
        learned=_or_none(learned),
        control=_or_none(control),
        lift=(
            _mean(Interval(scaled.value, scaled.low, scaled.high, scaled.n))
            if scaled is not None and is_told
            else None
        ),
        needed=scaled.needed if scaled is not None else None,
    )


def _verdict(lift: Estimate | None, *, any_visit: bool) -> told.Verdict:
    if lift is None:
        return "no_control" if any_visit else "no_visits"
    if lift.low > 0.0:
        return "more"
    return "fewer" if lift.high < 0.0 else "early"


def _pairs(
    worths: Mapping[Key, Worth], rewards: RewardRange
) -> dict[Key, tuple[Interval, Interval]]:
    """Return smile and reward of each, with intervals; all bounds in two bisections."""
    smiles = intervals({key: each.smile for key, each in worths.items()})
    earned = {key: each.reward for key, each in worths.items()}
    earns = intervals(earned, rewards.width, rewards.low)
    return {key: (smiles[key], earns[key]) for key in smiles}


def _greetings(loop: LoopFold) -> list[told.Greeting]:
    worth, config = loop.worth, loop.worth.newest
    pairs = _pairs(worth.by_action, worth.rewards)
    rates = {rate.action_id: rate for rate in missing_rates_of(loop.shown, loop.missing)}
    known = config.action_ids if config is not None else ()
    found = []
    for action_id in dict.fromkeys([*known, *sorted(loop.given)]):
        smile, reward = pairs.get(action_id, _NOTHING)
        rate = rates.get(action_id)
        text, mood, enabled = _words(config, action_id)
        found.append(
            told.Greeting(
                action_id=action_id,
                text=text,
                mood=mood,
                enabled=enabled,
                baseline=config is not None and config.baseline_id == action_id,
                given=loop.given[action_id],
                smile=_or_none(smile),
                reward=_or_none(reward),
                not_seen=rate.share if rate else None,
                not_seen_alarm=rate is not None and rate.alarm,
            )
        )
    return found


def _words(config: LoopConfigured | None, action_id: str) -> tuple[str, str, bool]:
    """Return words, mood, and whether it is offered; an action of an older configuration is not."""
    if config is None or action_id not in config.action_ids:
        return "", "", False
    action = config.action(action_id)
    texts = {wording.language: wording.text for wording in action.wordings}
    text = texts.get(config.default_language) or next(iter(texts.values()), "")
    return text, action.mood, action.enabled


def _slices(worth: WorthOfLoop) -> list[told.Slices]:
    pairs = _pairs(worth.by_group, worth.rewards)
    found: dict[str, list[told.Cell]] = {}
    for by, group, action_id in worth.by_group:
        smile, reward = pairs[by, group, action_id]
        cell = told.Cell(group=group, action_id=action_id, smile=_mean(smile), reward=_mean(reward))
        found.setdefault(by, []).append(cell)
    first = {by: place for place, by in enumerate(_BYS_FIRST)}
    bys = sorted(found, key=lambda by: first.get(by, len(first)))  # the others as they came
    return [
        told.Slices(
            by=by,
            title=title(by),
            groups=sorted({cell.group for cell in found[by]}, key=_group_order),
            cells=found[by],
        )
        for by in bys
    ]


_PARTS = {"morning": 0, "afternoon": 1, "evening": 2}


def _group_order(group: str) -> tuple[object, ...]:
    """Order the day from morning to evening, and whoever comes at rest before who smiles."""
    head, _, part = group.rpartition(", ")
    return (head, _PARTS.get(part, 9), group)


def _course(worth: WorthOfLoop) -> list[told.Step]:
    worths = {
        (place, name): getattr(block, name)
        for place, block in enumerate(worth.blocks)
        for name in ("learned", "control")
    }
    pairs = _pairs(worths, worth.rewards)
    steps = []
    for place, block in enumerate(worth.blocks):
        learned = pairs.get((place, "learned"), _NOTHING)
        control = pairs.get((place, "control"), _NOTHING)
        steps.append(
            told.Step(
                from_ms=block.from_ms,
                to_ms=block.to_ms,
                learned_smile=_or_none(learned[0]),
                learned_reward=_or_none(learned[1]),
                control_smile=_or_none(control[0]),
                control_reward=_or_none(control[1]),
            )
        )
    return steps


def hour_told(loop: LoopFold, now_ms: int) -> told.Hour:
    """Return the last hour; where nobody came in it, the last one that had a visit."""
    newest_ms = loop.minutes.newest_ms
    live = not newest_ms or now_ms - newest_ms < MINUTES * MINUTE_MS
    minutes = loop.minutes.hour_to(now_ms if live else newest_ms)
    return told.Hour(
        live=live,
        from_ms=minutes[0][0],
        to_ms=minutes[-1][0] + MINUTE_MS,
        visits=sum(minute.visits for _, minute in minutes),
        smiles=sum(minute.smiles for _, minute in minutes),
        minutes=[
            told.MinuteTold(
                at_ms=at_ms,
                visits=minute.visits,
                smiles=minute.smiles,
                no_smile=minute.no_smile,
                not_seen=minute.not_seen,
                not_greeted=minute.not_greeted,
                open=minute.open,
                reward=minute.reward / minute.rewards if minute.rewards else None,
            )
            for at_ms, minute in minutes
        ],
    )


def _speed(board: OwnerBoard) -> list[told.Duration]:
    speed = board.fold.speed
    return [
        _duration("to_greeting", speed.to_greeting),
        _duration("to_showing", speed.to_showing),
        _duration("analysis", speed.analysis),
        _duration("to_policy", speed.to_policy),
    ]


def _duration(name: told.DurationName, durations: Durations) -> told.Duration:
    return told.Duration(
        name=name,
        count=durations.count,
        p50_ms=durations.percentile_ms(50.0),
        p99_ms=durations.percentile_ms(99.0),
        edges_ms=list(EDGES_MS),
        bars=durations.bars(),
    )


def _ways(loop: LoopFold) -> told.Ways:
    ways = list(loop.ways)
    return told.Ways(
        over=len(ways),
        control=ways.count("control"),
        favourite=ways.count("favourite"),
        exploring=ways.count("exploring"),
        fallback=ways.count("fallback"),
        floor=loop.floor_ppb / PPB,
        control_share=loop.control_share_ppb / PPB,
    )


def _policies(loop: LoopFold) -> list[told.PolicyTold]:
    return [
        told.PolicyTold(
            policy_id=snapshot.policy_id,
            algorithm=snapshot.algorithm,
            role=snapshot.role,
            epoch=snapshot.epoch,
            version=snapshot.version,
            role_since_ms=snapshot.role_since_log_time_ms,
            learned_at_ms=snapshot.learned_through_log_time_ms,
            floor=snapshot.floor_ppb / PPB,
            checksum=snapshot.checksum,
        )
        for snapshot, _ in loop.policies.values()
    ]
