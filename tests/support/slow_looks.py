"""A stand-in for an analyser: it takes 50 ms, and reads from the picture what it is to see."""

from __future__ import annotations

import time

from pipelines.analyze import Seen
from schemas.errors import PictureUnreadable
from worlds import face

LOOK_S = 0.05


class SlowLooks:
    """Sees one face, as happy as the picture says in plain digits."""

    name = "slow"
    version = "1"

    def analyse(self, picture: bytes) -> Seen:
        time.sleep(LOOK_S)
        try:
            return Seen((face(float(picture)),), self.name, self.version)
        except ValueError as error:
            problem = f"{picture[:20]!r} is no number"
            raise PictureUnreadable(problem) from error
