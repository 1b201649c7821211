"""River's drift detectors over one stream of numbers: they say when its mean has changed.

They stand outside `learn`: an alarm is a record that somebody may act on, never a number that
enters what was learned.
"""

from __future__ import annotations

from dataclasses import dataclass

DELTA = 1e-4
"""Confidence of ADWIN, a twentieth of River's own 0.002: a policy that is watched still learns, and
its slow rise after the warm-up is no alarm. Over one fixed greeting neither of the two raised any
in 10 seeds of 20,000 visits."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A change of the mean, as far as the detector can tell."""

    before: float
    """Mean of the window until then."""
    after: float
    """Mean of what is left of it: the newest numbers."""
    samples: int
    """Numbers in what is left."""


class MeanWatch:
    """Watches the mean of a stream of numbers.

    ADWIN: Bifet and Gavaldà, "Learning from Time-Changing Data with Adaptive Windowing", 2007. It
    keeps the longest window whose halves have one mean, and forgets the older part when they have
    not: so it starts anew after each alarm by itself.

    Parameters
    ----------
    delta : float
        Confidence, 0..1; smaller is slower and surer.
    warm_up : int
        The first numbers, which are left out: what is still being learned moves.
    """

    def __init__(self, delta: float = DELTA, warm_up: int = 0) -> None:
        # Imported when first used: River's import takes longer than PHO's own.
        from river import drift

        self._adwin = drift.ADWIN(delta=delta)
        self._left_out = warm_up

    def update(self, value: float) -> Shift | None:
        """Take a number; return the change it gave away, None: none is seen."""
        if self._left_out > 0:
            self._left_out -= 1
            return None
        before = float(self._adwin.estimation)
        self._adwin.update(value)
        if not self._adwin.drift_detected:
            return None
        return Shift(before, float(self._adwin.estimation), int(self._adwin.width))
