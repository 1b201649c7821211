"""What the log knows of a visit, for a gateway that goes on with one of another process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from connectors.logs import Log
from producers.looks import Visit
from schemas.codec import decode
from schemas.decisions import DecisionShown
from schemas.errors import RecordError
from schemas.frames import FrameCaptured

_LOOKED_BACK = 2_000
"""Records of a stream that are looked through: 200 kiosks with 3 frames in each visit of 10 s make
2,000 in 33 s, and a page comes back within seconds."""


def known_visit(open_log: Callable[[], Log], visit_id: str) -> Visit | None:
    """Return a visit as the log knows it; None: it ended, or never began.

    Parameters
    ----------
    open_log : callable
        Opens a reader.
    visit_id : str
        The visit, which is the key of its records.

    Raises
    ------
    LogUnavailable
        The log cannot be read now.
    """
    with closing(open_log()) as log:
        if any(row.key == visit_id for row in log.last("visits", _LOOKED_BACK)):
            return None
        frames = [f for f in _of(log, "frames", visit_id) if isinstance(f, FrameCaptured)]
        shown = [s for s in _of(log, "impressions", visit_id) if isinstance(s, DecisionShown)]
    started_ms = [frame.captured_at_ms for frame in frames if frame.phase == "pre"]
    if not started_ms:
        return None
    posts = [frame.frame_id for frame in frames if frame.phase == "post"]
    return Visit(
        visit_id,
        started_ms[0],
        shown[0].shown_at_ms if shown else None,
        tuple(dict.fromkeys(posts)),
    )


def _of(log: Log, stream: str, key: str) -> Iterator[Any]:
    for row in log.last(stream, _LOOKED_BACK):
        if row.key != key:
            continue
        try:
            yield decode(row.value)
        except RecordError:
            continue
