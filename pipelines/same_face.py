"""Whether a picture taken after the greeting shows the visitor who was greeted, and readably.

A sad face followed by somebody else's smile is no reaction, and a blurred face has any expression.
Such pictures are left out of the reward and named (docs/decisions/20261121_same_face.md); the
visit then earns what its other pictures say, or the default.
"""

from __future__ import annotations

from typing import Literal

from schemas.frames import Box, Face, FrameAnalyzed, nearest

Flaw = Literal[
    "",
    "no_face",
    "failed",
    "expired",
    "refused",
    "poor_picture",
    "turned_away",
    "other_face",
]
"""What is wrong with one picture by itself; empty: nothing."""

QUALITY_MIN = 0.25
"""A face below this quality (0..1) is not read. On the demo's recordings, blurred more and more,
the classifier told smile from rest in 97 % of the pictures down to 0.3, in 81 % around it, and in
53 to 69 % below 0.25: no better than a coin. A face without a quality is not judged by it."""
YAW_DEGREES_MAX = 60.0
"""A head turned farther to the side shows less than half of its mouth."""
PITCH_DEGREES_MAX = 45.0
"""A head bent farther, over a telephone mostly, hides it."""
MOVED_MAX = 1.5
"""A face whose centre moved by more than this, in sizes of the larger box, is another one. One
person moved by 0.3 at most in the recordings; a lean of 25 cm is 1.5 of a face 17 cm wide; who
stands shoulder to shoulder beside it is 2.6 away (45 cm)."""
GROWN_MAX = 3.0
"""A face this many times as high or as low is another one. In the recordings one person's grew to
1.2; who steps up to the kiosk from 2 m to 70 cm grows to 2.9, and a greeting that brings somebody
nearer must not lose its reward by it."""
TRACKED_MOVED_MAX = 0.5
"""The same in one picture, from the face that the visit tracker followed to the one analysed. Two
detectors put the box of one face 0.1 apart at most; faces do not overlap by half of each."""


def flaw_of(answer: FrameAnalyzed, box_before: Box | None) -> Flaw:
    """Say what is wrong with one picture after the greeting, whatever its time.

    Parameters
    ----------
    answer : FrameAnalyzed
        The answer to the picture; of several faces only the nearest is looked at.
    box_before : Box or None
        Where the nearest face was in the deciding picture; None: not known, so not compared.
    """
    face = nearest(answer.faces) if answer.status == "ok" else None
    if face is None:
        match answer.status:
            case "failed" | "expired" | "refused":
                return answer.status
            case _:
                return "no_face"
    if face.quality is not None and face.quality < QUALITY_MIN:
        return "poor_picture"
    if _turned_away(face):
        return "turned_away"
    if box_before is not None and jumped(box_before, face.box):
        return "other_face"
    tracked = answer.tracked_box
    if tracked is not None and jumped(tracked, face.box, TRACKED_MOVED_MAX):
        return "other_face"
    return ""


def jumped(one: Box, other: Box, moved_max: float = MOVED_MAX) -> bool:
    """Whether two boxes are too far apart, or too different in size, to be one face's.

    Parameters
    ----------
    one, other : Box
        The boxes; which comes first does not matter. A box without a size is nobody's.
    moved_max : float
        Farthest distance of the centres, in sizes of the larger box, above 0.
    """
    width, height = max(one.width, other.width), max(one.height, other.height)
    smaller = min(one.height, other.height)
    if smaller <= 0.0 or min(one.width, other.width) <= 0.0:
        return True
    across = abs((other.left + other.width / 2) - (one.left + one.width / 2))
    along = abs((other.top + other.height / 2) - (one.top + one.height / 2))
    # Said so that a box of NaN, which compares with nothing, has jumped.
    stayed = across <= moved_max * width and along <= moved_max * height
    return not (stayed and height <= GROWN_MAX * smaller)


def _turned_away(face: Face) -> bool:
    yaw, pitch = face.yaw_degrees, face.pitch_degrees
    return (yaw is not None and abs(yaw) > YAW_DEGREES_MAX) or (
        pitch is not None and abs(pitch) > PITCH_DEGREES_MAX
    )
