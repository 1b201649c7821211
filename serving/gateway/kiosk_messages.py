"""What a kiosk page and the gateway say to each other, version 1: docs/gateway.md lists it.

Text frames are JSON objects told apart by ``type``. A binary frame is a picture: 4 bytes, the
length of a JSON header, big-endian; the header ``{"type": "shot", "at_ms": N}``; the JPEG.
Times of the page are of its own clock, ms since 1970 UTC.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from schemas.errors import RecordError
from schemas.frames import Box as FrameBox
from schemas.frames import Face, Score

PROTOCOL = 1
SUBPROTOCOL = "pho.kiosk.v1"
SHOT_BYTES_MAX = 1_000_000
"""Largest picture a page may send."""
MESSAGE_BYTES_MAX = SHOT_BYTES_MAX + 4_096
SHOT_SIDE_PIXELS_MAX = 1_280
"""Longest side of a picture a page may send."""
_FACES_MAX = 32
_EMOTIONS_MAX = 16
_HEADER_BYTES = 4
_HEADER_BYTES_MAX = 1_024

Ms = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
# A face cut off by the edge reaches outside its picture.
Fraction = Annotated[float, msgspec.Meta(ge=-2.0, le=3.0)]
Pixels = Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class BadMessage(RecordError):
    """A message that is refused; the connection goes on.

    Parameters
    ----------
    problem, cure : str
        As of every error.
    reason : str
        For the metric: one of `serving.gateway.metrics.MESSAGE_REASONS`.
    """

    def __init__(self, problem: str, cure: str = "", reason: str = "invalid") -> None:
        super().__init__(problem, cure)
        self.args = (problem, cure, reason)
        self.reason = reason


class Box(msgspec.Struct, frozen=True):
    """A face, in fractions of the picture."""

    left: Fraction
    """Left edge."""
    top: Fraction
    """Top edge."""
    width: Annotated[float, msgspec.Meta(gt=0.0, le=3.0)]
    """Width."""
    height: Annotated[float, msgspec.Meta(gt=0.0, le=3.0)]
    """Height."""


class EdgeFace(msgspec.Struct, frozen=True):
    """A face that the page found."""

    box: Box
    """Where it is."""
    confidence: Share
    """How sure the page is that it is one, 0..1."""
    emotions: Annotated[dict[Id, Share], msgspec.Meta(max_length=_EMOTIONS_MAX)] = {}
    """Emotions, each 0..1; ``happy`` is what the reward reads."""

    def face(self) -> Face:
        """Return it as a record has it."""
        scores = tuple(Score(name.lower(), share) for name, share in sorted(self.emotions.items()))
        return Face(to_box(self.box), self.confidence, scores, smile=self.emotions.get("happy"))


class Resume(msgspec.Struct, frozen=True):
    """What a page hands back after a reconnect, so that nobody is greeted twice."""

    visit_id: Id
    """The visit."""
    sequence: int
    """Pictures taken so far, minus one."""
    shown_at_ms: Ms | None
    """When its greeting was shown, the gateway's time; None: not yet."""
    post_frame_ids: tuple[Id, ...]
    """Pictures of the reaction taken so far."""
    started_at_ms: Ms
    """When it began, the gateway's time."""


class _Incoming(msgspec.Struct, frozen=True, tag_field="type"):
    pass


class Hello(_Incoming, frozen=True, tag="hello"):
    """The first message: who the page is, and what it goes on with."""

    protocol: int
    """Version of this protocol: 1."""
    kiosk_id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    """Which kiosk it is."""
    sent_at_ms: Ms
    """Now, by the page's clock."""
    language: Annotated[str, msgspec.Meta(max_length=35)] | None = None
    """The page's language, a BCP 47 tag; None: the kiosk's."""
    utc_offset_minutes: Annotated[int, msgspec.Meta(ge=-1_080, le=1_080)] = 0
    """Local time minus UTC."""
    notice: Literal["page", "none"] = "none"
    """``page``: it shows the notice now."""
    analysis: Literal["gateway", "edge"] = "gateway"
    """``edge``: it sends looks instead of shots."""
    resume: Resume | None = None
    """What the gateway gave with the visit that runs."""


class Look(_Incoming, frozen=True, tag="look"):
    """What a page that analyses by itself saw: numbers, no pixel."""

    at_ms: Ms
    """When the picture was taken."""
    width: Pixels
    """Its width, pixels."""
    height: Pixels
    """Its height, pixels."""
    faces: Annotated[tuple[EdgeFace, ...], msgspec.Meta(max_length=_FACES_MAX)]
    """The faces in it."""
    analyser: Id
    """What analysed."""
    analyser_version: Annotated[str, msgspec.Meta(max_length=100)]
    """Its version."""


class Shown(_Incoming, frozen=True, tag="shown"):
    """The visitor was shown a greeting; said again until it is acknowledged."""

    decision_id: Id
    """The decision; where no greeting came, the visit's id."""
    action_id: Id
    """What was shown."""
    shown_at_ms: Ms
    """When."""
    fallback: bool = False
    """True: the page's own baseline, since nothing came in time."""


class Notice(_Incoming, frozen=True, tag="notice"):
    """The notice was put up, or taken away."""

    shown: bool
    """Whether visitors can read it now."""


class ClockAsked(_Incoming, frozen=True, tag="clock"):
    """A measurement of the page's clock."""

    sent_at_ms: Ms
    """Now, by the page's clock."""
    round_trip_ms: Annotated[float, msgspec.Meta(ge=0.0, le=60_000.0)] | None = None
    """How long the answer to the last one took to come; None: not measured yet."""


class Bye(_Incoming, frozen=True, tag="bye"):
    """The page is closed on purpose: whoever stands there is not waited for."""


class ShotHeader(msgspec.Struct, frozen=True, tag_field="type", tag="shot"):
    """What stands before a picture."""

    at_ms: Ms
    """When it was taken."""


Incoming = Hello | Look | Shown | Notice | ClockAsked | Bye


class Outgoing(msgspec.Struct, frozen=True, tag_field="type"):
    """Anything the gateway says."""


class Baseline(msgspec.Struct, frozen=True):
    """What a page shows by itself while nobody answers it."""

    action_id: str
    """The greeting's id."""
    texts: dict[str, str]
    """Its words, by language."""
    voice: str
    """Wish for a voice; empty: the page's own."""
    mood: str
    """Mood of the avatar."""


class SpeechOffered(msgspec.Struct, frozen=True):
    """The gateway speaks greetings for the page: ``/api/kiosk/speech``."""

    languages: tuple[str, ...]
    """BCP 47 tags, or their first parts, that it has a voice for."""
    wait_ms: int
    """How long the page waits for it; then a voice of its own speaks."""


class Welcome(Outgoing, frozen=True, tag="welcome"):
    """The answer to hello."""

    protocol: int
    kiosk_id: str
    loop_id: str
    loop_name: str
    baseline: Baseline
    shots_per_second: float
    shot_width: int
    server_ms: int
    sent_at_ms: int
    speech: SpeechOffered | None = None


class Seen(Outgoing, frozen=True, tag="seen"):
    """The answer to each shot and look, with the page's own time of it."""

    at_ms: int
    faces: int
    box: Box | None
    visit_id: str | None
    stage: str


class VisitStarted(Outgoing, frozen=True, tag="visit"):
    """Somebody stands there, or still does after a reconnect."""

    visit_id: str
    resume: Resume
    state: Literal["started"] = "started"


class VisitEnded(Outgoing, frozen=True, tag="visit"):
    """They went."""

    visit_id: str
    reason: str
    state: Literal["ended"] = "ended"


class Greeting(Outgoing, frozen=True, tag="greeting"):
    """Say this, unless it was said."""

    decision_id: str
    visit_id: str
    loop_id: str
    action_id: str
    text: str
    language: str
    voice: str
    mood: str
    expires_at_ms: int
    expires_in_ms: int


class ShownNoted(Outgoing, frozen=True, tag="shown"):
    """It is in the log that this was shown."""

    decision_id: str


class PictureTaken(Outgoing, frozen=True, tag="picture"):
    """A picture was taken, and is in the log."""

    phase: str
    sequence: int


class ClockTold(Outgoing, frozen=True, tag="clock"):
    """The answer to a measurement."""

    sent_at_ms: int
    server_ms: int


class Problem(Outgoing, frozen=True, tag="error"):
    """Something is wrong; fatal: the connection ends, and another would end likewise."""

    problem: str
    cure: str
    fatal: bool


_incoming: msgspec.json.Decoder[Incoming] = msgspec.json.Decoder(Incoming)
_header = msgspec.json.Decoder(ShotHeader)
_CURE = "See the table of messages in docs/gateway.md"


def read_text(text: str | bytes) -> Incoming:
    """Return what a text frame says.

    Raises
    ------
    BadMessage
        It is no message of this protocol; names the field.
    """
    try:
        return _incoming.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem = f"this is no message of the kiosk's protocol: {error}"
        raise BadMessage(problem, _CURE, _reason(error)) from error


def _reason(error: Exception) -> str:
    if not isinstance(error, msgspec.ValidationError):
        return "not_json"
    return "unknown" if str(error).endswith("`$.type`") else "invalid"


def read_shot(frame: bytes) -> tuple[int, bytes]:
    """Return when a picture was taken, by the page's clock, and its JPEG.

    Raises
    ------
    BadMessage
        It is no picture of this protocol.
    """
    length = int.from_bytes(frame[:_HEADER_BYTES], "big")
    if not 0 < length <= _HEADER_BYTES_MAX or len(frame) <= _HEADER_BYTES + length:
        problem = f"a binary message of {len(frame)} bytes has no header and picture"
        raise BadMessage(problem, _CURE, "not_json")
    jpeg = frame[_HEADER_BYTES + length :]
    if len(jpeg) > SHOT_BYTES_MAX:
        problem = f"the picture has {len(jpeg):,} bytes"
        raise BadMessage(problem, f"Send at most {SHOT_BYTES_MAX:,}", "too_large")
    try:
        header = _header.decode(frame[_HEADER_BYTES : _HEADER_BYTES + length])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem = f"the header of a picture is none: {error}"
        raise BadMessage(problem, _CURE, _reason(error)) from error
    return header.at_ms, jpeg


def write(message: Outgoing) -> str:
    """Return a message as a text frame."""
    return msgspec.json.encode(message).decode()


def to_box(box: Box) -> FrameBox:
    """Return a box as a record has it."""
    return FrameBox(box.left, box.top, box.width, box.height)
