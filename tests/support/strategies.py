"""Hypothesis strategies for every record, built from its dataclass: fields, types and checks."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from schemas.checks import PPB
from schemas.decisions import Choice, Features, OfferedAction, RewardRules
from schemas.frames import EdgeAnalysis, FrameCaptured
from schemas.loops import ActionConfigured, LoopConfigured, PolicyConfigured, VariantConfigured
from schemas.outcomes import NamedArray

LAST_MS = 253_402_300_799_999
DAY_MS = 86_400_000

ids: SearchStrategy[str] = st.from_regex(r"\A[!-~]([ -~]{0,30}[!-~])?\Z")
unit = st.floats(0.0, 1.0)
numbers = st.floats(allow_nan=False)
finite = st.floats(allow_nan=False, allow_infinity=False)
longs = st.integers(-(2**63), 2**63 - 1)
texts = st.text(max_size=20)
ppb = st.integers(0, PPB)

# Fields whose checks their type does not tell.
_BY_NAME: dict[str, SearchStrategy[Any]] = {
    "confidence": unit,
    "precision": unit,
    "reward": finite,
    "reward_raw": finite,
    "sequence": st.integers(0, 1_000_000),
    "utc_offset_minutes": st.integers(-1080, 1080),
    "epoch": st.integers(0, 2**31),
    "version": st.integers(0, 2**62),
    "seed": longs,
}
_SIZES = {"width", "height"}
_PRIMITIVES: dict[Any, SearchStrategy[Any]] = {
    str: texts,
    float: numbers,
    int: longs,
    bool: st.booleans(),
    bytes: st.binary(max_size=40),
}


_made: dict[type[Any], SearchStrategy[Any]] = {}


def records(kind: type[Any]) -> SearchStrategy[Any]:
    """Return a strategy for a dataclass of `schemas`, all of whose examples pass its checks."""
    if kind not in _made:
        special = _SPECIAL.get(kind)
        _made[kind] = special() if special else st.builds(kind, **fields_of(kind))
    return _made[kind]


def fields_of(kind: type[Any], *without: str) -> dict[str, SearchStrategy[Any]]:
    """Return a strategy for each field of a dataclass, by its name."""
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind) if field.name not in without]
    return {name: _field(name, hints[name]) for name in names}


def _field(name: str, hint: Any) -> SearchStrategy[Any]:
    origin = get_origin(hint)
    if origin in (types.UnionType, Union):
        inner = next(part for part in get_args(hint) if part is not type(None))
        return st.none() | _field(name, inner)
    if origin is Literal:
        return st.sampled_from(get_args(hint))
    if origin is tuple:
        return st.lists(_field("", get_args(hint)[0]), max_size=3).map(tuple)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return records(hint)
    if name == "id" or name.endswith("_id"):
        return ids
    if name in _BY_NAME:
        return _BY_NAME[name]
    if hint is int and name in _SIZES:
        return st.integers(0, 100_000)
    if hint is int and name.endswith("_ppb"):
        return ppb
    if hint is int and name.endswith("_ms"):
        return st.integers(0, LAST_MS)
    if name == "value" and hint is float:
        return finite
    return _PRIMITIVES[hint]


def _rules() -> SearchStrategy[RewardRules]:
    @st.composite
    def build(draw: st.DrawFn) -> RewardRules:
        window_ms = draw(st.integers(1, 7 * DAY_MS))
        low, default, high = sorted(draw(st.tuples(*[st.floats(-1e12, 1e12)] * 3)))
        return RewardRules(
            **draw(st.fixed_dictionaries(fields_of(RewardRules, *_RELATED))),
            reward_window_ms=window_ms,
            grace_ms=draw(st.integers(0, 3_600_000)),
            reward_low=low,
            reward_high=high,
            default_reward=default,
            reaction_delay_ms=draw(st.integers(0, window_ms)),
            min_confidence=draw(unit),
            closing_reactions=draw(st.integers(0, 1_000)),
            dedup_horizon_ms=draw(st.integers(2 * (7 * DAY_MS + 3_600_000), 2**62)),
        )

    return build()


_RELATED = (
    "reward_window_ms",
    "grace_ms",
    "reward_low",
    "reward_high",
    "default_reward",
    "reaction_delay_ms",
    "min_confidence",
    "closing_reactions",
    "dedup_horizon_ms",
)


def _choice() -> SearchStrategy[Choice]:
    @st.composite
    def build(draw: st.DrawFn) -> Choice:
        names = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
        cuts = sorted(draw(st.lists(ppb, min_size=len(names) - 1, max_size=len(names) - 1)))
        shares = [high - low for low, high in zip([0, *cuts], [*cuts, PPB], strict=True)]
        chosen = draw(st.sampled_from([i for i, share in enumerate(shares) if share]))
        optional_features = st.none() | records(Features)
        actions = tuple(
            OfferedAction(name, bool(share) or draw(st.booleans()), share, draw(ppb),
                          draw(optional_features))
            for name, share in zip(names, shares, strict=True)
        )  # fmt: skip
        related = ("actions", "action_id", "propensity_ppb", "draw_ppb")
        return Choice(
            **draw(st.fixed_dictionaries(fields_of(Choice, *related))),
            actions=actions,
            action_id=names[chosen],
            propensity_ppb=shares[chosen],
            draw_ppb=draw(st.integers(0, PPB - 1)),
        )

    return build()


def _array() -> SearchStrategy[NamedArray]:
    @st.composite
    def build(draw: st.DrawFn) -> NamedArray:
        shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
        size = 8
        for extent in shape:
            size *= extent
        return NamedArray(draw(texts), shape, draw(st.binary(min_size=size, max_size=size)))

    return build()


def _frame() -> SearchStrategy[FrameCaptured]:
    plain = fields_of(FrameCaptured, "picture_id", "edge_analysis")
    picture_ids = st.text("0123456789abcdef", min_size=32, max_size=32)
    with_picture = st.builds(FrameCaptured, picture_id=picture_ids, **plain)
    return with_picture | st.builds(FrameCaptured, edge_analysis=records(EdgeAnalysis), **plain)


def _loop() -> SearchStrategy[LoopConfigured]:
    @st.composite
    def build(draw: st.DrawFn) -> LoopConfigured:
        names = draw(st.lists(ids, min_size=1, max_size=3, unique=True))
        wordings = fields_of(ActionConfigured, "id")
        actions = tuple(draw(st.builds(ActionConfigured, id=st.just(n), **wordings)) for n in names)
        policies = draw(
            st.lists(
                records(PolicyConfigured),
                max_size=2,
            )
        )
        share = draw(ppb)
        split = draw(st.booleans())
        related = ("actions", "baseline_id", "policies", "split")
        return LoopConfigured(
            **draw(st.fixed_dictionaries(fields_of(LoopConfigured, *related))),
            actions=actions,
            baseline_id=draw(st.sampled_from(names)),
            policies=(*policies, PolicyConfigured("main", "uniform")),
            split=(
                (VariantConfigured("a", "main", share), VariantConfigured("b", "x", PPB - share))
                if split
                else ()
            ),
        )

    return build()


_SPECIAL: dict[type[Any], Callable[[], SearchStrategy[Any]]] = {
    RewardRules: _rules,
    Choice: _choice,
    NamedArray: _array,
    FrameCaptured: _frame,
    LoopConfigured: _loop,
}
