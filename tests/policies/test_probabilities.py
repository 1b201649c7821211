from __future__ import annotations

import hashlib
import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.probabilities import Mixed, draw_ppb, largest_remainder, mix, pick
from schemas.checks import PPB
from schemas.errors import InvalidRecord, PolicyError, UsageError

shares = st.lists(st.floats(0.0, 1e3), min_size=1, max_size=20).filter(lambda s: sum(s) > 0.0)


@st.composite
def offers(draw: st.DrawFn) -> tuple[list[float], list[bool], int, int, int]:
    """Draw p, eligibility, the baseline's place, control share and floor."""
    n = draw(st.integers(1, 12))
    eligible = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any))
    weights = [draw(st.floats(0.0, 1.0)) if may else 0.0 for may in eligible]
    if not sum(weights) > 1e-300:
        weights = [1.0 if may else 0.0 for may in eligible]
    p = [weight / math.fsum(weights) for weight in weights]
    ppb = st.sampled_from((0, 1, PPB // 3, PPB)) | st.integers(0, PPB)
    return p, eligible, draw(st.integers(0, n - 1)), draw(ppb), draw(ppb)


def by_definition(numbers: list[Fraction], total: int) -> list[int]:
    """Divide by largest remainders, ties to the lower index, as a textbook has it."""
    result = [math.floor(number) for number in numbers]
    order = sorted(range(len(numbers)), key=lambda i: (result[i] - numbers[i], i))
    for index in order[: total - sum(result)]:
        result[index] += 1
    return result


@given(shares, st.integers(0, 10**18))
def test_largest_remainder_adds_up_and_stays_within_one(s: list[float], total: int) -> None:
    whole = sum(map(Fraction, s))
    exact = [Fraction(share) * total / whole for share in s]
    parts = largest_remainder(s, total)
    assert sum(parts) == total
    assert list(parts) == by_definition(exact, total)
    assert all(abs(part - number) < 1 for part, number in zip(parts, exact, strict=True))
    assert all(part == 0 for part, share in zip(parts, s, strict=True) if share == 0.0)


def test_a_tie_goes_to_the_lower_index() -> None:
    assert largest_remainder([1.0, 1.0, 1.0], 100) == (34, 33, 33)
    assert largest_remainder([0.1] * 10, 13) == (2, 2, 2, 1, 1, 1, 1, 1, 1, 1)


@pytest.mark.parametrize("s", [[], [0.0], [-1.0, 2.0], [math.nan], [math.inf, 1.0]])
def test_impossible_shares_are_refused(s: list[float]) -> None:
    with pytest.raises(UsageError):
        largest_remainder(s, PPB)


@given(offers())
def test_q_is_what_the_design_says(offer: tuple[list[float], list[bool], int, int, int]) -> None:
    p, eligible, baseline, control, floor = offer
    mixed = mix(p, eligible, baseline, control, floor)
    k = sum(eligible)
    c = control if eligible[baseline] else 0
    exact = [
        (PPB - c) * ((1 - Fraction(floor, PPB)) * Fraction(ppb, PPB) + Fraction(floor, PPB) / k)
        if may
        else Fraction(0)
        for ppb, may in zip(mixed.policy_ppb, eligible, strict=True)
    ]
    r = by_definition(exact, PPB - c)
    expected = [part + c * (place == baseline) for place, part in enumerate(r)]
    assert list(mixed.probabilities_ppb) == expected
    assert mixed.control_ppb == c
    assert sum(mixed.probabilities_ppb) == sum(mixed.policy_ppb) == PPB
    assert all(
        abs(ppb - share * PPB) <= 1.001 for ppb, share in zip(mixed.policy_ppb, p, strict=True)
    )
    for place, (ppb, may) in enumerate(zip(mixed.probabilities_ppb, eligible, strict=True)):
        least = Fraction((PPB - c) * floor, PPB * k) - 1 + c * (place == baseline)
        assert ppb >= least if may else ppb == 0


@given(offers(), st.integers(0, PPB - 1))
def test_a_draw_picks_what_its_place_says(
    offer: tuple[list[float], list[bool], int, int, int], draw: int
) -> None:
    p, eligible, baseline, control, floor = offer
    mixed = mix(p, eligible, baseline, control, floor)
    index, is_control = pick(mixed, draw, baseline)
    assert eligible[index]
    assert is_control == (draw < mixed.control_ppb)
    if is_control:
        assert index == baseline
        return
    r = list(mixed.probabilities_ppb)
    r[baseline] -= mixed.control_ppb
    before = mixed.control_ppb + sum(r[:index])
    assert before <= draw < before + r[index]


def test_the_borders_of_a_pick_are_exact() -> None:
    mixed = Mixed((600_000_000, 0, 400_000_000), (0, 0, 0), 100_000_000)
    borders = [0, 99_999_999, 100_000_000, 599_999_999, 600_000_000, PPB - 1]
    picks = [pick(mixed, draw, 0) for draw in borders]
    assert picks == [(0, True), (0, True), (0, False), (0, False), (2, False), (2, False)]


def test_picks_come_as_often_as_q_says() -> None:
    mixed = mix([0.5, 0.0, 0.3, 0.2], [True, False, True, True], 2, PPB // 10, PPB // 5)
    n = 200_000
    draws = [draw_ppb(7, "greetings", f"visit-{i}") for i in range(n)]
    counts = Counter(pick(mixed, draw, 2) for draw in draws)
    for place, ppb in enumerate(mixed.probabilities_ppb):
        q = ppb / PPB
        seen = counts[place, False] + counts[place, True]
        assert abs(seen - n * q) <= 4.5 * math.sqrt(n * q * (1 - q))
    assert abs(counts[2, True] - n * 0.1) <= 4.5 * math.sqrt(n * 0.09)


def test_an_excluded_baseline_has_no_control_share() -> None:
    mixed = mix([0.0, 1.0], [False, True], 0, PPB // 2, PPB // 2)
    assert mixed == Mixed((0, PPB), (0, PPB), 0)


@pytest.mark.parametrize(
    ("p", "eligible"),
    [([0.5, 0.5], [True, False]), ([math.nan, 1.0], [True, True]), ([-0.1, 1.0], [True, True])],
)
def test_what_is_no_probability_is_refused(p: list[float], eligible: list[bool]) -> None:
    with pytest.raises(PolicyError):
        mix(p, eligible, 0, 0, 0)


@pytest.mark.parametrize("eligible", [[False, False], [True]])
def test_nothing_eligible_is_refused(eligible: list[bool]) -> None:
    with pytest.raises(UsageError):
        mix([0.0, 0.0], eligible, 0, 0, 0)


@pytest.mark.parametrize("ppb", [-1, PPB + 1])
def test_shares_outside_the_whole_are_refused(ppb: int) -> None:
    with pytest.raises(InvalidRecord):
        mix([1.0], [True], 0, ppb, 0)
    with pytest.raises(InvalidRecord):
        mix([1.0], [True], 0, 0, ppb)


@pytest.mark.parametrize("draw", [-1, PPB])
def test_a_draw_outside_the_whole_is_refused(draw: int) -> None:
    with pytest.raises(InvalidRecord):
        pick(Mixed((PPB,), (PPB,), 0), draw, 0)


# Never change these: decisions in every log were drawn so, and replay must draw them again.
GOLDEN = [
    (0, "greetings", "visit-1", "", 241_577_408),
    (7, "greetings", "visit-1", "", 285_869_149),
    (7, "greetings", "visit-1", "variant", 96_036_900),
    (-1, "greetings", "visit-1", "", 534_073_509),
    (2**63 - 1, "läden", "besuch-ä", "", 397_762_758),
]


@pytest.mark.parametrize(("seed", "loop_id", "decision_id", "salt", "expected"), GOLDEN)
def test_draws_stay_what_they_were(
    seed: int, loop_id: str, decision_id: str, salt: str, expected: int
) -> None:
    assert draw_ppb(seed, loop_id, decision_id, salt) == expected


def test_a_draw_is_the_keyed_hash_of_the_design() -> None:
    message = b"\x00\x00\x00\x02ab\x00\x00\x00\x01c"
    key = b"\xff\xff\xff\xff\xff\xff\xff\xfe"
    head = hashlib.blake2b(message, digest_size=64, key=key).digest()[:8]
    assert draw_ppb(-2, "ab", "c") == int.from_bytes(head, "big") * 10**9 // 2**64
    assert draw_ppb(-2, "ab", "c") != draw_ppb(-2, "a", "bc")
