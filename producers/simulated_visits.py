"""What a kiosk that analyses by itself hands in of a simulated visitor: numbers, and no pixel."""

from __future__ import annotations

from dataclasses import dataclass

from producers.simulated import SimulatedVisitor, Trouble
from producers.taste import START_MS, draw
from schemas.decisions import DecisionShown, GreetingIssued, VisitEnded
from schemas.features import DAYPARTS
from schemas.frames import Box, Face, FrameAnalyzed, Phase, Score, Status

SHOWN_AFTER_MS = 400
"""From the deciding picture to the greeting on the screen."""
POST_AFTER_MS = (1_500, 3_000)
"""From the greeting to each picture of the reaction."""
VISIT_MS = 5_000
"""From the deciding picture to the visitor's leaving."""
ROUND_MS = 10_000
"""From one visitor of a kiosk to its next."""
_DAY_MS = 86_400_000
_PART_STARTS_MS = (9 * 3_600_000, 14 * 3_600_000, 19 * 3_600_000)


@dataclass(frozen=True, slots=True)
class SimulatedKiosk:
    """Several kiosks of one loop, each with one visitor at a time.

    Parameters are the fields.
    """

    seed: int
    """Seed of the world; part of every visit's id."""
    loop_id: str
    """The loop that decides."""
    kiosks: int
    """Kiosks side by side."""

    def start_ms(self, visitor: SimulatedVisitor) -> int:
        """Return when the deciding picture of a visitor is taken, ms since 1970 UTC."""
        start_ms = START_MS + visitor.day * _DAY_MS
        start_ms += _PART_STARTS_MS[DAYPARTS.index(visitor.part)]
        return start_ms + visitor.place // self.kiosks * ROUND_MS

    def kiosk_id(self, visitor: SimulatedVisitor) -> str:
        """Return the kiosk a visitor comes to."""
        return f"kiosk-{visitor.place % self.kiosks + 1}"

    def visit_id(self, visitor: SimulatedVisitor) -> str:
        """Return the id of a visit."""
        return f"visit-{self.seed}-{visitor.index:07d}"

    def pre(self, visitor: SimulatedVisitor) -> FrameAnalyzed:
        """Return the answer to the deciding picture."""
        face = _face(visitor.before, self._box(visitor))
        return self._answer(visitor, "pre", 0, self.start_ms(visitor), "ok", (face,))

    def post(self, visitor: SimulatedVisitor, action_id: str, picture: int) -> FrameAnalyzed:
        """Return the answer to a picture of the reaction, from 0."""
        status, faces = self._reaction(visitor, visitor.after(action_id), visitor.troubles[picture])
        at_ms = self.start_ms(visitor) + SHOWN_AFTER_MS + POST_AFTER_MS[picture]
        return self._answer(visitor, "post", picture + 1, at_ms, status, faces)

    def shown(self, visitor: SimulatedVisitor, greeting: GreetingIssued) -> DecisionShown:
        """Return the impression of a greeting."""
        return DecisionShown(
            event_id=f"{greeting.decision_id}.shown",
            decision_id=greeting.decision_id,
            loop_id=self.loop_id,
            action_id=greeting.action_id,
            shown_at_ms=self.start_ms(visitor) + SHOWN_AFTER_MS,
            kiosk_id=greeting.kiosk_id,
        )

    def ended(self, visitor: SimulatedVisitor) -> VisitEnded:
        """Return the end of a visit."""
        visit_id = self.visit_id(visitor)
        return VisitEnded(
            event_id=f"{visit_id}.ended",
            decision_id=visit_id,
            visit_id=visit_id,
            loop_id=self.loop_id,
            kiosk_id=self.kiosk_id(visitor),
            reason="left",
            ended_at_ms=self.start_ms(visitor) + VISIT_MS,
            post_frame_ids=tuple(f"{visit_id}.post.{i + 1}" for i in range(len(POST_AFTER_MS))),
        )

    def _reaction(
        self, visitor: SimulatedVisitor, happy: float, trouble: Trouble
    ) -> tuple[Status, tuple[Face, ...]]:
        box = self._box(visitor)
        match trouble:
            case "turned_away":
                return "no_face", ()
            case "passer_by":
                # Larger, elsewhere and beaming: whoever takes it for the visitor learns nonsense.
                return "ok", (_face(happy, box), _face(0.95, Box(0.02, 0.1, 0.25, 0.42)))
            case "blurred":
                return "ok", (_face(1.0 - happy, box, quality=0.1),)
            case _:
                return "ok", (_face(happy, box),)

    def _box(self, visitor: SimulatedVisitor) -> Box:
        left = 0.55 + 0.15 * draw(self.seed, "box", visitor.index)
        return Box(left, 0.3, 0.16, 0.28)

    def _answer(
        self,
        visitor: SimulatedVisitor,
        phase: Phase,
        sequence: int,
        at_ms: int,
        status: Status,
        faces: tuple[Face, ...],
    ) -> FrameAnalyzed:
        visit_id = self.visit_id(visitor)
        return FrameAnalyzed(
            frame_id=f"{visit_id}.{phase}.{sequence}",
            decision_id=visit_id,
            visit_id=visit_id,
            loop_id=self.loop_id,
            kiosk_id=self.kiosk_id(visitor),
            phase=phase,
            sequence=sequence,
            captured_at_ms=at_ms,
            width=640,
            height=360,
            notice="posted",
            status=status,
            analyser="simulated",
            analyser_version="1",
            milliseconds=0.0,
            faces=faces,
        )


def _face(happy: float, box: Box, quality: float = 0.9) -> Face:
    sad = (1.0 - happy) ** 2
    rest = 1.0 - happy - sad
    emotions = (Score("happy", happy), Score("sad", sad), Score("neutral", rest))
    return Face(box, 0.95, emotions, smile=happy, quality=quality)
