"""`best_probabilities` for many contexts at once, with the very bytes of one by one.

What makes the bytes equal: rows stand together only with rows of as many points, every sum runs
over the same numbers in the same order, and a Gaussian that cannot be the largest stays, as one so
far below that its Phi is exactly 1 and its density exactly 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policies.thompson_probabilities import (
    ABOVE,
    BELOW,
    BORDERS,
    CELLS_UP,
    CERTAIN,
    GRID,
    GRID_POINTS_MAX,
    STEP,
    Vector,
    best_probabilities,
    densities,
    grid_size,
    nodes,
)

_BORDERS = np.array(BORDERS)[:, None]
_FAR_BELOW = -1e100
_TOGETHER = 2**16
"""Numbers integrated together: half a megabyte, which a processor's cache holds."""


def best_probabilities_many(means: Vector, deviations: Vector) -> Vector:
    """Return the probability of each independent Gaussian to be the largest of its row.

    Parameters
    ----------
    means, deviations : ndarray of float64, shape (n_rows, n)
        As for `best_probabilities`.

    Returns
    -------
    ndarray of float64, shape (n_rows, n)
        The same bytes as `best_probabilities` gives for each row.

    Raises
    ------
    UsageError
        When there is nothing to compare, or a number is negative or not finite.
    """
    result = np.zeros(means.shape)
    if not means.size:
        return result
    lower = means - BELOW * deviations
    start = lower.max(axis=1, keepdims=True)
    mean = means - start
    kept = (mean + ABOVE * deviations > 0.0) | (lower == start)
    mean = np.where(kept, mean, _FAR_BELOW)
    deviation = np.where(kept, deviations, 1.0)
    smallest = np.where(kept, deviations, np.inf).min(axis=1)
    largest = np.where(kept, deviations, 0.0).max(axis=1)
    # Few and certain ones, and what must be refused, go the way of one by one.
    together = (kept.sum(axis=1) > 2) & (smallest > CERTAIN * largest) & (largest < np.inf)
    for row in np.flatnonzero(~together):
        result[row] = best_probabilities(means[row], deviations[row])
    ends = (mean + ABOVE * deviation).max(axis=1)
    n_points = np.zeros(len(means))
    n_points[together] = ends[together] / (STEP * smallest[together]) + 2.0
    by_grid = together & (n_points <= GRID_POINTS_MAX)
    sizes = np.array([grid_size(n) for n in np.where(by_grid, n_points, 0.0).tolist()])
    for size in np.unique(sizes[by_grid]):
        for rows in _parts(np.flatnonzero(by_grid & (sizes == size)), size * means.shape[1]):
            points = GRID[:size] * (ends[rows] / (size - 1))[:, None]
            density = densities(points[:, None], 1.0, mean[rows], deviation[rows])
            result[rows] = _normal(density)
    by_cells = np.flatnonzero(together & ~by_grid)
    if by_cells.size:
        result[by_cells] = _by_cells(mean[by_cells], deviation[by_cells])
    return result


def _by_cells(mean: Vector, deviation: Vector) -> Vector:
    """Integrate rows by cells."""
    borders, counts = _borders(mean, deviation)
    result = np.empty(mean.shape)
    for count in np.unique(counts):
        numbers = int(count) * 4 * mean.shape[1]
        for rows in _parts(np.flatnonzero(counts == count), numbers):
            points, weights = nodes(borders[rows, :count])
            density = densities(points[:, None], weights[:, None], mean[rows], deviation[rows])
            result[rows] = _normal(density)
    return result


def _borders(mean: Vector, deviation: Vector) -> tuple[Vector, NDArray[np.intp]]:
    """Return the borders of each row, filled up with the last one, and how many there are."""
    n_rows = len(mean)
    wanted = (mean[:, None] + _BORDERS * deviation[:, None]).reshape(n_rows, -1)
    order = wanted.argsort(axis=1)
    # Columns first: each step below reads one border of every row.
    wanted = np.take_along_axis(wanted, order, axis=1).T.copy()
    near = np.take_along_axis(np.tile(deviation, len(BORDERS)), order, axis=1).T.copy()
    last = np.zeros(n_rows)
    n_borders = np.ones(n_rows, dtype=np.intp)
    borders = np.repeat(wanted[-1][:, None], len(wanted) + CELLS_UP + 2, axis=1)
    borders[:, 0] = 0.0
    for border, least in zip(wanted, near, strict=True):
        rows = np.flatnonzero(border - last > least)
        borders[rows, n_borders[rows]] = border[rows]
        n_borders[rows] += 1
        last[rows] = border[rows]
    return borders, n_borders + (-n_borders % CELLS_UP + 1)


def _parts(rows: NDArray[np.intp], numbers: int) -> list[NDArray[np.intp]]:
    """Divide rows that take so many numbers each."""
    together = max(1, _TOGETHER // numbers)
    return [rows[first : first + together] for first in range(0, len(rows), together)]


def _normal(density: Vector) -> Vector:
    result: Vector = density / np.add.accumulate(density, axis=1)[:, -1:]
    return result
