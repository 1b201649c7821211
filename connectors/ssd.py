"""Boxes from the numbers of a single-shot detector: anchors, decoding, suppression.

The MediaPipe face detectors answer with one row per anchor: an offset from the anchor's centre, a
size, six points of the face (not used here) and a raw score. The format is that of MediaPipe's
published graphs ``face_detection_full_range`` and ``face_detection_short_range`` (calculators
SsdAnchors, TfLiteTensorsToDetections and NonMaxSuppression); nothing of their code is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

RAW_SCORE_LIMIT = 80.0
"""Raw scores are cut here: exp(-89) overflows float32 in the sigmoid."""


@dataclass(frozen=True, slots=True)
class DetectorFormat:
    """What one detector takes and how its answer is laid out."""

    side_pixels: int
    """Width and height of the square input, pixels."""
    strides_pixels: tuple[int, ...]
    """Stride of each layer of anchors; equal neighbours share one grid of cells."""
    anchors_per_layer: int
    """Anchors in a cell for each layer of the grid."""
    score_min: float
    """Least confidence of a face, 0..1."""
    overlap_max: float = 0.3
    """Intersection over union above which two boxes are one face (MediaPipe's value)."""


FULL_RANGE = DetectorFormat(192, (4,), 1, 0.6)
"""Up to 5 m; 0.6 is the threshold of MediaPipe's graph."""
SHORT_RANGE = DetectorFormat(128, (8, 16, 16, 16), 2, 0.5)
"""Up to 2 m; 0.5 is the threshold of MediaPipe's graph."""


def anchor_centres(layout: DetectorFormat) -> Floats:
    """Return the centre of every anchor, in the order of the model's rows.

    Returns
    -------
    ndarray of float32, shape (n_anchors, 2)
        x and y as fractions of the input: 2304 rows for full range, 896 for short range.
    """
    grids = []
    for stride, layers in groupby(layout.strides_pixels):
        cells = layout.side_pixels // stride
        centres = (np.arange(cells, dtype=np.float32) + np.float32(0.5)) / np.float32(cells)
        y, x = np.meshgrid(centres, centres, indexing="ij")
        grid = np.stack((x.ravel(), y.ravel()), axis=1)
        grids.append(np.repeat(grid, layout.anchors_per_layer * len(list(layers)), axis=0))
    return np.concatenate(grids)


def decode(
    layout: DetectorFormat, anchors: Floats, rows: Floats, raw_scores: Floats
) -> tuple[Floats, Floats]:
    """Turn the model's rows into the boxes that are faces, surest first.

    Parameters
    ----------
    layout : DetectorFormat
        The detector that answered.
    anchors : ndarray of float32, shape (n_anchors, 2)
        From `anchor_centres`.
    rows : ndarray of float32, shape (n_anchors, 16)
        Centre offset and size in pixels of the input, then six points.
    raw_scores : ndarray of float32, shape (n_anchors,)
        Before the sigmoid.

    Returns
    -------
    boxes : ndarray of float32, shape (n, 4)
        left, top, right, bottom as fractions of the input.
    scores : ndarray of float32, shape (n,)
        Confidence, `score_min`..1, falling; equal scores keep the order of the anchors.
    """
    limited = np.clip(raw_scores, -RAW_SCORE_LIMIT, RAW_SCORE_LIMIT)
    scores: Floats = np.float32(1.0) / (np.float32(1.0) + np.exp(-limited))
    chosen = np.flatnonzero((scores > layout.score_min) & np.all(rows[:, 2:4] > 0.0, axis=1))
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    scaled: Floats = rows[chosen, :4] / np.float32(layout.side_pixels)
    centres = scaled[:, :2] + anchors[chosen]
    halves = scaled[:, 2:] / 2.0
    return np.concatenate((centres - halves, centres + halves), axis=1), scores[chosen]


def overlaps(box: Floats, boxes: Floats) -> Floats:
    """Return intersection over union, 0..1, of one box (4,) with each of `boxes` (n, 4)."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = np.prod(np.maximum(sides, 0.0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    joint: Floats = common / (np.prod(box[2:] - box[:2]) + areas - common)
    return joint


def merge(boxes: Floats, scores: Floats, overlap_max: float) -> list[tuple[Floats, float]]:
    """Make one box of those that show the same face: their mean, weighted by confidence.

    Weighted suppression holds the box steadier from frame to frame than keeping the surest box
    alone, and a steady crop is what the emotion classifier needs.

    Parameters
    ----------
    boxes : ndarray of float32, shape (n, 4)
        left, top, right, bottom.
    scores : ndarray of float32, shape (n,)
        Confidence, falling.
    overlap_max : float
        Intersection over union, 0..1, above which two boxes are one face.

    Returns
    -------
    list of (ndarray of float32 with shape (4,), float)
        Each face's box and the confidence of its surest box, surest first.
    """
    faces = []
    while len(boxes):
        same = overlaps(boxes[0], boxes) > overlap_max
        same[0] = True
        weights = scores[same, np.newaxis]
        faces.append((np.sum(boxes[same] * weights, axis=0) / np.sum(weights), float(scores[0])))
        boxes, scores = boxes[~same], scores[~same]
    return faces
