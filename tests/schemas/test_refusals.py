"""What a record refuses when it is made; the edges on both sides."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from golden_records import example
from schemas import errors
from schemas.checks import PPB, check_finite, check_id, check_optional_id, check_range, check_time
from schemas.decisions import Choice, GreetingIssued
from schemas.errors import InvalidRecord, PhoError
from schemas.loops import Parameter, PolicyConfigured, VariantConfigured, with_hash
from schemas.operations import AlarmRaised, Tick
from schemas.outcomes import NamedArray, OutcomeClosed, PolicyDirected, PolicySnapshot
from worlds import RULES, analyzed, captured, ended, loop, rewarded, shown

NAN = math.nan
CHOICE: Choice = example(Choice)


@pytest.mark.parametrize("value", ["a", "v-1 of 2", "~", "!" * 256, "0c5f.pre.1"])
def test_an_id_is_printable_ascii(value: str) -> None:
    check_id("decision_id", value)


@pytest.mark.parametrize("value", ["", " a", "a ", "ä", "a\n", "a\x7fb", "!" * 257, "a\tb"])
def test_what_no_id_may_be_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidRecord, match="decision_id"):
        check_id("decision_id", value)
    with pytest.raises(InvalidRecord):
        check_optional_id("decision_id", value)


def test_no_id_is_no_error_where_it_is_optional() -> None:
    check_optional_id("kiosk_id", None)


@pytest.mark.parametrize("value", [-0.1, 1.000001, NAN, math.inf, -math.inf])
def test_outside_a_range_is_refused_and_so_is_not_a_number(value: float) -> None:
    with pytest.raises(InvalidRecord, match="share is"):
        check_range("share", value, 0.0, 1.0)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 0.5])
def test_the_ends_of_a_range_belong_to_it(value: float) -> None:
    check_range("share", value, 0.0, 1.0)


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_only_finite_numbers_pass_where_they_must_be_finite(value: float) -> None:
    with pytest.raises(InvalidRecord, match="finite"):
        check_finite("value", value)


@pytest.mark.parametrize("value_ms", [-1, 253_402_300_800_000])
def test_times_before_1970_and_after_9999_are_refused(value_ms: int) -> None:
    with pytest.raises(InvalidRecord):
        check_time("at_ms", value_ms)
    check_time("at_ms", min(max(value_ms, 0), 253_402_300_799_999))


Made = Callable[[], Any]


def _offered(first_ppb: int, second_ppb: int, *, eligible: bool = True) -> Made:
    first, second = CHOICE.actions
    actions = (
        replace(first, probability_ppb=first_ppb),
        replace(second, probability_ppb=second_ppb, eligible=eligible),
    )
    return lambda: replace(CHOICE, actions=actions, propensity_ppb=second_ppb)


def _outcome(**changes: Any) -> Made:
    return lambda: replace(example(OutcomeClosed), **changes)


def _rules(**changes: Any) -> Made:
    return lambda: replace(RULES, **changes)


REFUSED: dict[str, Made] = {
    "a propensity of 0": _offered(PPB, 0),
    "a propensity below 0": _offered(PPB + 1, -1),
    "a propensity above 1": _offered(-1, PPB + 1),
    "probabilities that add up to less than 1": _offered(PPB - 2, 1),
    "probabilities that add up to more than 1": _offered(PPB, 1),
    "a probability of an excluded action": _offered(PPB - 1, 1, eligible=False),
    "a chosen action that was not offered": lambda: replace(CHOICE, action_id="nobody"),
    "a propensity that is not the action's": lambda: replace(CHOICE, propensity_ppb=2),
    "a draw of 1e9": lambda: replace(CHOICE, draw_ppb=PPB),
    "a control share above 1": lambda: replace(CHOICE, control_share_ppb=PPB + 1),
    "a floor below 0": lambda: replace(CHOICE, floor_ppb=-1),
    "a decision without an id": lambda: replace(CHOICE, decision_id=""),
    "a reward that is not a number": _outcome(reward=NAN),
    "a raw reward without end": _outcome(reward_raw=math.inf),
    "a precision above 1": _outcome(precision=1.000001),
    "a precision below 0": _outcome(precision=-0.1),
    "a precision that is not a number": _outcome(precision=NAN),
    "a window of no length": _rules(reward_window_ms=0, reaction_delay_ms=0),
    "a reaction delay beyond the window": _rules(reaction_delay_ms=5_001),
    "a confidence above 1": _rules(min_confidence=1.000001),
    "a confidence that is not a number": _rules(min_confidence=NAN),
    "a default outside the reward's range": _rules(default_reward=1.000001),
    "a default that is not a number": _rules(default_reward=NAN),
    "a reward range upside down": _rules(reward_low=1.0, reward_high=-1.0, default_reward=0.0),
    "a negative count of reactions": _rules(closing_reactions=-1),
    "a memory shorter than a window": _rules(dedup_horizon_ms=10_999),
    "a frame with neither picture nor analysis": (
        lambda: captured("v", "pre", 0, 1, 0.5, edge_analysis=None)
    ),
    "a frame with both": lambda: captured("v", "pre", 0, 1, 0.5, picture_id="0" * 32),
    "a frame that names a path": lambda: captured(
        "v", "pre", 0, 1, None, picture_id="../pictures/secret", edge_analysis=None
    ),
    "a frame that names another bucket": lambda: captured(
        "v", "pre", 0, 1, None, picture_id="s3://others/" + "0" * 32, edge_analysis=None
    ),
    "a frame captured before 1970": lambda: captured("v", "pre", 0, -1, 0.5),
    "a face of a confidence above 1": lambda: analyzed("v", "pre", 0, 1, 0.5, 1.000001),
    "a happiness below 0": lambda: analyzed("v", "pre", 0, 1, -0.1),
    "a happiness that is not a number": lambda: analyzed("v", "pre", 0, 1, NAN),
    "a reward of NaN": lambda: rewarded("v", 1, NAN, 1),
    "an impression of nothing": lambda: shown("v", "", 1),
    "a visit that ended before 1970": lambda: ended("v", -1),
    "a greeting for no kiosk": lambda: replace(example(GreetingIssued), kiosk_id=""),
    "a tick before 1970": lambda: Tick(-1, "x"),
    "an alarm without an id": lambda: replace(example(AlarmRaised), alarm_id=""),
    "an array one byte short": lambda: NamedArray("x", (2,), bytes(15)),
    "an array one byte long": lambda: NamedArray("x", (), bytes(9)),
    "a directive with a floor above 1": lambda: replace(example(PolicyDirected), floor_ppb=PPB + 1),
    "a snapshot of a negative version": lambda: replace(example(PolicySnapshot), version=-1),
    "a loop whose baseline is no action": lambda: replace(loop(), baseline_id="nobody"),
    "a loop with an action twice": lambda: replace(loop(), actions=loop().actions * 2),
    "a loop that nobody serves": (
        lambda: replace(loop(), policies=(PolicyConfigured("main", "uniform", "shadow"),))
    ),
    "a loop whose split is not whole": (
        lambda: replace(loop(), split=(VariantConfigured("a", "main", PPB - 1),))
    ),
    "a parameter that is not a number": (
        lambda: replace(
            loop(), policies=(PolicyConfigured("m", "x", "serving", (Parameter("a", NAN),)),)
        )
    ),
    "a seed beyond 64 bits": lambda: replace(loop(), seed=2**63),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_impossible_is_refused_when_it_is_made(what: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        REFUSED[what]()
    assert caught.value.problem


@pytest.mark.parametrize(
    "possible",
    [
        _offered(PPB - 1, 1),
        _offered(0, PPB),
        _rules(dedup_horizon_ms=11_000),
        _rules(dedup_horizon_ms=5_500, activation="at_decision"),
        _rules(reaction_delay_ms=5_000),
        _rules(reward_low=0.0, reward_high=0.0),
        _outcome(precision=0.0),
        _outcome(precision=1.0),
        lambda: NamedArray("x", (0, 3), b""),
        lambda: captured("v", "pre", 0, 0, 0.0),
        lambda: replace(loop(), seed=-(2**63)),
    ],
)
def test_the_edge_of_the_possible_is_taken(possible: Made) -> None:
    possible()


def test_a_configuration_is_named_by_all_it_says_and_by_nothing_else() -> None:
    one = loop()
    assert with_hash(replace(one, config_hash="something else")).config_hash == one.config_hash
    assert loop(seed=8).config_hash != one.config_hash
    assert loop(rules={"grace_ms": 501}).config_hash != one.config_hash


ERRORS = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, PhoError)
]


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_crosses_a_process_boundary_whole(kind: type[PhoError]) -> None:
    error = kind("the log is full", "Free some space")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes, in this process
    assert type(again) is kind
    assert (again.problem, again.cure) == (error.problem, error.cure)
    assert str(again) == "the log is full. Free some space"
    assert again.exit_status in (1, 2, 3)


def test_an_error_without_a_cure_says_the_problem_alone() -> None:
    assert str(errors.TornRecord("it ends early")) == "it ends early"


def test_every_error_is_drawn_in_the_tree() -> None:
    assert errors.__doc__
    missing = [kind.__name__ for kind in ERRORS if f" {kind.__name__} " not in errors.__doc__]
    assert missing == ["PhoError"]  # the root stands alone on its line
