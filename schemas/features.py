"""Features: what a face and the hour say, as the numbers a policy sees.

A feature's name says how it is computed, so a loop is configured with names alone:

=====================  ============================================================
``bias``               1
``happy``, ``sad`` …   confidence of that emotion, 0..1
``smile``              confidence of a smile, 0..1
``age``                middle of the estimated range / 100, 0 where unknown
``daypart.morning``    1 before 12:00 local time; ``.afternoon`` 12 to 18; ``.evening`` after
``attribute.NAME``     confidence of an attribute such as ``eyeglasses``, 0..1
``label.NAME``         confidence of an object or brand, 0..1
``A:B``                the product of two features (an interaction)
=====================  ============================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

from schemas.errors import SettingsError
from schemas.frames import Face, Score

EMOTIONS = (
    "happy",
    "sad",
    "angry",
    "confused",
    "disgusted",
    "disgust",
    "surprised",
    "surprise",
    "calm",
    "fear",
    "neutral",
)
DAYPARTS = ("morning", "afternoon", "evening")
_DAYPART_STARTS_MINUTES = (0, 12 * 60, 18 * 60)
_MINUTES_IN_A_DAY = 24 * 60


def features_hash(names: Sequence[str]) -> str:
    """Return the hash that names a feature vector: 32 hex digits over the names in order."""
    text = "\x1f".join(names)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def daypart(at_ms: int, utc_offset_minutes: int) -> str:
    """Return the part of the day at a place.

    Parameters
    ----------
    at_ms : int
        Event time, ms since 1970 UTC.
    utc_offset_minutes : int
        Local time minus UTC, minutes.
    """
    minute = (at_ms // 60_000 + utc_offset_minutes) % _MINUTES_IN_A_DAY
    index = sum(minute >= start for start in _DAYPART_STARTS_MINUTES) - 1
    return DAYPARTS[index]


def check_feature_names(names: Sequence[str]) -> None:
    """Refuse names that no rule of this module computes.

    Raises
    ------
    SettingsError
        With the first unknown name and the names there are.
    """
    for name in names:
        for factor in name.split(":"):
            if not _is_known(factor):
                problem = f"{factor!r} in the feature {name!r} is unknown"
                cure = (
                    "Use bias, smile, age, an emotion such as happy, daypart.morning, "
                    "attribute.NAME, label.NAME, or a product such as happy:daypart.morning"
                )
                raise SettingsError(problem, cure)


def _is_known(factor: str) -> bool:
    kind, _, rest = factor.partition(".")
    if kind == "daypart":
        return rest in DAYPARTS
    if kind in ("attribute", "label"):
        return bool(rest)
    return factor in ("bias", "smile", "age") or factor in EMOTIONS


@cache
def used_attributes(names: tuple[str, ...]) -> frozenset[str]:
    """Return the single features behind a loop's names: what an analysis must keep for it."""
    return frozenset(factor for name in names for factor in name.split(":"))


def context_features(
    names: tuple[str, ...],
    face: Face | None,
    labels: tuple[Score, ...],
    at_ms: int,
    utc_offset_minutes: int,
) -> tuple[float, ...]:
    """Compute the context of one decision.

    Parameters
    ----------
    names : tuple of str, shape (d,)
        The loop's feature names.
    face : Face or None
        The nearest face of the deciding frame.
    labels : tuple of Score
        Objects and brands in it.
    at_ms : int
        Event time of the frame, ms since 1970 UTC.
    utc_offset_minutes : int
        Local time minus UTC, minutes.

    Returns
    -------
    tuple of float, shape (d,)
        One number for each name; what the analyser did not tell is 0.
    """
    part = "daypart." + daypart(at_ms, utc_offset_minutes)
    values = {
        factor: _value(factor, face, labels, part) for factor in sorted(used_attributes(names))
    }
    row = []
    for name in names:
        product = 1.0
        for factor in name.split(":"):
            product *= values[factor]
        row.append(product)
    return tuple(row)


def _value(factor: str, face: Face | None, labels: tuple[Score, ...], part: str) -> float:
    if factor == "bias":
        return 1.0
    kind, _, rest = factor.partition(".")
    if kind == "daypart":
        return 1.0 if factor == part else 0.0
    if kind == "label":
        return _confidence(rest, labels)
    if face is None:
        return 0.0
    if kind == "attribute":
        return _confidence(rest, face.attributes)
    if factor == "smile":
        return face.smile or 0.0
    if factor == "age":
        if face.age_low_years is None or face.age_high_years is None:
            return 0.0
        return (face.age_low_years + face.age_high_years) / 200.0
    return face.emotion(factor)


def _confidence(name: str, scores: tuple[Score, ...]) -> float:
    return next((score.confidence for score in scores if score.name == name), 0.0)
