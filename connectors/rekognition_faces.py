"""Rekognition's answers as our faces and labels: percents become 0..1, names lower case.

Shapes and ranges: Amazon Rekognition API reference, FaceDetail and Label (2016-06-27).
"""

from __future__ import annotations

from typing import Any

from schemas.frames import Box, Face, Score

EMOTIONS = {
    "HAPPY": "happy",
    "SAD": "sad",
    "ANGRY": "angry",
    "CONFUSED": "confused",
    "DISGUSTED": "disgusted",
    "SURPRISED": "surprised",
    "CALM": "calm",
    "FEAR": "fear",
}
"""Its emotions and our features; UNKNOWN is none, and what it may add later stays out."""

ATTRIBUTES = {
    "Eyeglasses": "eyeglasses",
    "Sunglasses": "sunglasses",
    "Beard": "beard",
    "Mustache": "mustache",
    "EyesOpen": "eyes_open",
    "MouthOpen": "mouth_open",
    "FaceOccluded": "occluded",
}
"""What it says yes or no to, with a confidence."""


def face_of(detail: dict[str, Any]) -> Face:
    """Return a face.

    Parameters
    ----------
    detail : dict
        A FaceDetail of DetectFaces.

    Raises
    ------
    KeyError, TypeError, ValueError
        It has no box or no confidence, or one that is no number: no answer of Rekognition.
    """
    box = detail["BoundingBox"]
    age = detail.get("AgeRange") or {}
    pose = detail.get("Pose") or {}
    attributes = [
        Score(ours, yes)
        for theirs, ours in ATTRIBUTES.items()
        if (yes := _yes(detail.get(theirs))) is not None
    ]
    gender = detail.get("Gender")
    if gender:
        female = {"Value": gender["Value"] == "Female", "Confidence": gender["Confidence"]}
        attributes.append(Score("female", _yes(female) or 0.0))
    return Face(
        box=Box(float(box["Left"]), float(box["Top"]), float(box["Width"]), float(box["Height"])),
        confidence=_share(detail["Confidence"]),
        emotions=tuple(
            Score(EMOTIONS[each["Type"]], _share(each["Confidence"]))
            for each in detail.get("Emotions", ())
            if each["Type"] in EMOTIONS
        ),
        smile=_yes(detail.get("Smile")),
        quality=_quality(detail.get("Quality")),
        age_low_years=_whole(age.get("Low")),
        age_high_years=_whole(age.get("High")),
        attributes=tuple(attributes),
        yaw_degrees=_number(pose.get("Yaw")),
        pitch_degrees=_number(pose.get("Pitch")),
    )


def label_of(label: dict[str, Any]) -> Score:
    """Return a label: its name in lower case and how sure it is, 0..1.

    Raises
    ------
    KeyError, TypeError, ValueError
        It has no name or no confidence.
    """
    return Score(str(label["Name"]).lower(), _share(label["Confidence"]))


def _share(percent: Any) -> float:
    # Rounding at the service may pass a hundred by a hair; a record above 1 would be refused.
    share = float(percent) / 100.0
    if not -0.001 <= share <= 1.001:
        problem = f"a confidence of {percent!r} percent"
        raise ValueError(problem)
    return min(1.0, max(0.0, share))


def _yes(told: Any) -> float | None:
    """Return how sure it is of yes: a confident no is a small number."""
    if not told or "Value" not in told:
        return None
    share = _share(told["Confidence"])
    return share if told["Value"] else 1.0 - share


def _quality(told: Any) -> float | None:
    """Return how well the face can be read, 0..1: as the local analyser counts it."""
    if not told:
        return None
    brightness, sharpness = _share(told["Brightness"]), _share(told["Sharpness"])
    return min(1.0, 4.0 * brightness, 4.0 * (1.0 - brightness)) * sharpness


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
