"""How long the exact Thompson probabilities of one decision take, alone and in a batch."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from policies.thompson_batches import best_probabilities_many
from policies.thompson_probabilities import best_probabilities

TURNS = 2_000
ROWS = 1_000


def exact_us() -> dict[str, float]:
    """Return times for 12 actions, us: deviations alike, or a thousandfold apart."""
    rng = np.random.default_rng(1)
    alike, apart = np.full(12, 0.1), np.logspace(-3.0, 0.0, 12)
    mean = rng.normal(0.0, 0.3, 12)
    close = -1.5 * apart
    means = rng.normal(0.0, 0.3, (ROWS, 12))
    both = {"alike": (mean, alike), "a thousandfold apart": (close, apart)}
    result = {
        name: _fastest_us(lambda m=m, s=s: best_probabilities(m, s), TURNS)  # type: ignore[misc]
        for name, (m, s) in both.items()
    }
    for name, deviation in (("alike", alike), ("a thousandfold apart", apart)):
        many = np.tile(deviation, (ROWS, 1))
        centres = means if name == "alike" else many * -1.5 + 1e-4 * means
        taken_us = _fastest_us(
            lambda m=centres, s=many: best_probabilities_many(m, s),  # type: ignore[misc]
            5,
        )
        result[f"{name}, each of 1,000"] = taken_us / ROWS
    return result


def _fastest_us(call: Callable[[], object], turns: int) -> float:
    """Return the shortest of some times: what else the machine does only ever adds."""
    times_s = []
    for _ in range(turns):
        started_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - started_s)
    return 1e6 * min(times_s)
