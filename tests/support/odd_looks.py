"""A stand-in for an analyser that does what the picture says: be slow, hang, fail, fail once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

from pipelines.analyze import Seen
from schemas.errors import AnalysisError, PictureUnreadable
from worlds import face

HANG_S = 30.0
SLOW_S = 10.0


class OddLooks:
    """Does what a picture's first word says, and sees a face as happy as its second.

    A third word names a file to make: then the picture was asked about.
    """

    name = "odd"
    version = "1"

    def __init__(self) -> None:
        self._asked: Counter[bytes] = Counter()
        self._lock = threading.Lock()

    def analyse(self, picture: bytes) -> Seen:
        with self._lock:
            self._asked[picture] += 1
            times = self._asked[picture]
        what, happy, *asked = picture.decode().split(" ")
        for path in asked:
            Path(path).touch()
        if what == "unreadable":
            problem = "no picture"
            raise PictureUnreadable(problem)
        if what == "down" or (what == "flaky" and times == 1):
            problem = "the analyser is away"
            raise AnalysisError(problem)
        if what == "broken":
            raise ZeroDivisionError
        time.sleep({"hang": HANG_S, "slow": SLOW_S}.get(what, 0.0))
        return Seen((face(float(happy)),), self.name, self.version)
