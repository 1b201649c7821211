"""Frames: what a camera saw, and what an analyser saw in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from schemas.checks import check_id, check_optional_id, check_range, check_time
from schemas.errors import InvalidRecord

Phase = Literal["unknown", "pre", "post"]
Notice = Literal["unknown", "page", "posted", "none"]
Status = Literal["unknown", "ok", "no_face", "failed", "expired", "refused"]

_is_picture_id = re.compile(r"[0-9a-f]{32}").fullmatch


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in a picture, as fractions of its width and height."""

    left: float
    """Left edge, 0..1 of the picture's width; slightly negative when a face is cut off."""
    top: float
    """Top edge, 0..1 of the picture's height; slightly negative when a face is cut off."""
    width: float
    """Width, 0..1 of the picture's width."""
    height: float
    """Height, 0..1 of the picture's height."""

    @property
    def area(self) -> float:
        """Share of the picture's area, 0..1."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Score:
    """A name and how sure the analyser is of it."""

    name: str
    """What is scored, in lower case: ``happy``, ``sad``, ``handbag``."""
    confidence: float
    """How sure the analyser is, 0..1."""


@dataclass(frozen=True, slots=True)
class Face:
    """One face in a picture, with whatever the analyser told of it."""

    box: Box
    """Where the face is."""
    confidence: float
    """The detector's confidence that this is a face, 0..1."""
    emotions: tuple[Score, ...] = ()
    """Emotions, each 0..1; ``happy`` is the one the reward reads."""
    smile: float | None = None
    """Confidence that the face smiles, 0..1."""
    quality: float | None = None
    """How well the face can be read (sharpness, brightness), 0..1."""
    age_low_years: int | None = None
    """Lower end of the estimated age, years."""
    age_high_years: int | None = None
    """Upper end of the estimated age, years."""
    attributes: tuple[Score, ...] = ()
    """Anything else: ``female``, ``eyeglasses``, ``beard``, ``mouth_open``, each 0..1."""
    yaw_degrees: float | None = None
    """Turn of the head to the side, -180..180 degrees."""
    pitch_degrees: float | None = None
    """Tilt of the head up or down, -180..180 degrees."""

    def emotion(self, name: str) -> float:
        """Confidence of one emotion, 0..1; 0.0 when the analyser did not name it."""
        for score in self.emotions:
            if score.name == name:
                return score.confidence
        return 0.0

    @property
    def happiness(self) -> float:
        """The reward's raw material: confidence that the face is happy, 0..1."""
        return self.emotion("happy")


def nearest(faces: tuple[Face, ...]) -> Face | None:
    """Return the largest face, the first of equals; None when there is none."""
    return max(faces, key=lambda face: face.box.area, default=None)


@dataclass(frozen=True, slots=True)
class EdgeAnalysis:
    """What a kiosk page that analyses by itself found: numbers, and no pixel."""

    faces: tuple[Face, ...]
    """The faces it found; empty when there was none."""
    analyser: str
    """Name of the analyser on the kiosk."""
    analyser_version: str
    """Its version."""


@dataclass(frozen=True, slots=True)
class FrameCaptured:
    """One picture taken of a visitor. The picture itself stays in the picture store."""

    frame_id: str
    """Id of this frame; a repeat of it is the same frame."""
    decision_id: str
    """The decision this frame belongs to; in the greeting loop the visit's id."""
    visit_id: str
    """The visit: one stay of one person before one kiosk."""
    loop_id: str
    """The loop that decides."""
    kiosk_id: str
    """The kiosk whose camera took it."""
    phase: Phase
    """``pre``: before the greeting; ``post``: after it was shown."""
    sequence: int
    """Place among the frames of its visit, from 0."""
    captured_at_ms: int
    """Event time: when the shutter closed, ms since 1970 UTC, corrected for clock skew."""
    width: int
    """Width of the picture, pixels."""
    height: int
    """Height of the picture, pixels."""
    notice: Notice
    """Where the visitor can read that a camera estimates expressions; ``none``: no analysis."""
    utc_offset_minutes: int = 0
    """Local time minus UTC at the kiosk, minutes, -1080..1080."""
    clock_offset_ms: int | None = None
    """What was added to the source's own clock to get `captured_at_ms`."""
    picture_id: str | None = None
    """Opaque 128-bit id (32 hex digits) that only the configured picture store can resolve."""
    edge_analysis: EdgeAnalysis | None = None
    """The analysis, where the kiosk made it; then there is no picture."""
    tracked_box: Box | None = None
    """The face the visit tracker followed."""
    language: str | None = None
    """Wish of the visitor or the kiosk, a BCP 47 tag such as ``de``."""
    subject_hash: str | None = None
    """Keyed hash of a person's id, where an application gives one."""

    def __post_init__(self) -> None:
        check_frame_ids(self)
        if (self.picture_id is None) == (self.edge_analysis is None):
            problem = f"frame {self.frame_id!r} has not exactly one of picture_id, edge_analysis"
            raise InvalidRecord(problem, "Send the picture's id, or the kiosk's own analysis")
        if self.picture_id is not None and _is_picture_id(self.picture_id) is None:
            # A path, an address or another bucket's key stops here, before any store sees it.
            problem = f"picture_id {self.picture_id[:40]!r} is not a picture's id"
            raise InvalidRecord(problem, "It is 32 lower-case hex digits, from the picture store")


@dataclass(frozen=True, slots=True)
class FrameAnalyzed:
    """The answer to one frame: every frame gets exactly one, whatever happens."""

    frame_id: str
    """Id of the frame this answers."""
    decision_id: str
    """The decision the frame belongs to."""
    visit_id: str
    """The visit the frame belongs to."""
    loop_id: str
    """The loop that decides."""
    kiosk_id: str
    """The kiosk whose camera took the frame."""
    phase: Phase
    """``pre``: before the greeting; ``post``: after it was shown."""
    sequence: int
    """Place among the frames of its visit, from 0."""
    captured_at_ms: int
    """Event time of the frame, ms since 1970 UTC."""
    width: int
    """Width of the picture, pixels."""
    height: int
    """Height of the picture, pixels."""
    notice: Notice
    """Where the notice was."""
    status: Status
    """``ok``, ``no_face``, ``failed``, ``expired`` (too old), ``refused`` (no notice)."""
    analyser: str
    """Who answered: ``local``, ``rekognition``, the kiosk's own, or ``none``."""
    analyser_version: str
    """Version of the analyser and its models."""
    milliseconds: float
    """How long the answer took, by the clock of the machine that asked."""
    utc_offset_minutes: int = 0
    """Local time minus UTC at the kiosk, minutes."""
    clock_offset_ms: int | None = None
    """What was added to the source's own clock."""
    picture_id: str | None = None
    """The picture to delete now that its answer is in the log."""
    tracked_box: Box | None = None
    """The face the visit tracker followed."""
    language: str | None = None
    """Wish of the visitor or the kiosk, a BCP 47 tag."""
    subject_hash: str | None = None
    """Keyed hash of a person's id."""
    error: str | None = None
    """Why it failed, for a person to read."""
    faces: tuple[Face, ...] = ()
    """The faces found, with the attributes the loop uses."""
    labels: tuple[Score, ...] = ()
    """Objects and brands seen, with the ones the loop uses."""
    fallback_of: str | None = None
    """The analyser that should have answered, where this one stood in for it."""

    def __post_init__(self) -> None:
        check_frame_ids(self)
        for face in self.faces:
            check_range("face.confidence", face.confidence, 0.0, 1.0)
            for score in face.emotions:
                check_range(f"emotion {score.name}", score.confidence, 0.0, 1.0)


def check_frame_ids(frame: FrameCaptured | FrameAnalyzed) -> None:
    """Refuse a frame whose ids, times or sizes are impossible.

    Raises
    ------
    InvalidRecord
        With the field's name and what it must be.
    """
    check_id("frame_id", frame.frame_id)
    check_id("decision_id", frame.decision_id)
    check_id("visit_id", frame.visit_id)
    check_id("loop_id", frame.loop_id)
    check_id("kiosk_id", frame.kiosk_id)
    check_optional_id("picture_id", frame.picture_id)
    check_time("captured_at_ms", frame.captured_at_ms)
    check_range("utc_offset_minutes", frame.utc_offset_minutes, -1080, 1080)
    check_range("sequence", frame.sequence, 0, 1_000_000)
    check_range("width", frame.width, 0, 100_000)
    check_range("height", frame.height, 0, 100_000)
