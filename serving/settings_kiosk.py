"""The tables [kiosk], [camera] and [tracker]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from producers.tracker import TrackerSettings
from schemas.checks import check_id, check_range
from schemas.errors import InvalidRecord, SettingsError


class KioskTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [kiosk]."""

    id: str
    loop: str
    notice: Literal["page", "posted", "none"]
    language: str
    utc_offset_minutes: int


class CameraTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [camera]."""

    source: str
    shots_per_second: float


class TrackerTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [tracker]."""

    min_face_height: float
    stand_still_ms: int
    bridge_ms: int
    post_delays_ms: tuple[int, ...]
    visit_max_ms: int


def check_kiosk(kiosk: KioskTable, table: TrackerTable, loop_ids: Sequence[str]) -> None:
    """Refuse a kiosk or a tracker that would fail later, at its first visitor.

    Parameters
    ----------
    kiosk, table : settings
        The tables [kiosk] and [tracker].
    loop_ids : sequence of str
        The configured loops.

    Raises
    ------
    SettingsError
        With the setting and what it must be.
    """
    try:
        check_id("kiosk.id", kiosk.id)
        check_range("kiosk.utc_offset_minutes", kiosk.utc_offset_minutes, -1_080, 1_080)
        TrackerSettings(
            min_face_height=table.min_face_height,
            stand_still_ms=table.stand_still_ms,
            bridge_ms=table.bridge_ms,
            post_delays_ms=table.post_delays_ms,
            visit_max_ms=table.visit_max_ms,
        )
    except InvalidRecord as error:
        problem = f"[kiosk] or [tracker] cannot be used: {error.problem}"
        raise SettingsError(problem, error.cure) from error
    if kiosk.loop not in loop_ids:
        problem = f"kiosk.loop is {kiosk.loop!r}, which is not configured"
        cure = f"There is {', '.join(loop_ids)}; or add [loops.{kiosk.loop}]"
        raise SettingsError(problem, cure)
