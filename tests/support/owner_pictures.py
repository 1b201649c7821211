"""Draws every state of the owner's page in Chromium, wide and narrow, light and dark.

    .venv/bin/python tests/support/owner_pictures.py build/pictures
    .venv/bin/python tests/support/owner_pictures.py docs/pictures --kept

Look at each. ``--kept`` draws only those that the documentation shows.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import cv2
from playwright.sync_api import Browser, Page

from chromium import browsers
from connectors.embedded_log import EmbeddedLog
from owner_shops import rows_of, simulated, write
from producers import simulated_visits
from running_gateways import free_port, running_gateway
from schemas.codec import encode
from schemas.operations import AlarmRaised
from schemas.outcomes import Evidence
from serving import simulating

SIZES = {"wide": (1280, 860), "phone": (390, 844), "narrow": (320, 640), "large": (2200, 1300)}
KEPT = {
    "owner-answer": ("open", "wide", "light"),
    "owner-receipt": ("receipt", "wide", "light"),
    "owner-phone": ("open", "phone", "dark"),
}
BYTES_MAX = 150_000
VISITS = 900

Scheme = Literal["dark", "light"]
Draw = Callable[[Page, str], None]


def shop_of_today(folder: Path) -> Path:
    """Play a simulation that ends about now, as the log of a shop at work."""
    now_ms = time.time_ns() // 1_000_000
    plain = simulated(folder / "plain", VISITS)
    rows = [row for row in rows_of(plain) if row.stream == "decisions"]
    start_ms = simulated_visits.START_MS + now_ms - rows[-1].log_time_ms - 120_000
    with (
        patch.object(simulated_visits, "START_MS", start_ms),
        patch.object(simulating, "START_MS", start_ms),
    ):
        simulated(folder / "shifted", VISITS)
    kept = [row for row in rows_of(folder / "shifted") if row.log_time_ms < now_ms]
    alarm = AlarmRaised(
        "a-1", "greeting", "reward_fell", "adwin.reward", now_ms - 7_200_000,
        (Evidence("before", 0.31), Evidence("after", 0.22)),
    )  # fmt: skip
    row = replace_row(kept[-1], "alarms", encode(alarm))
    write(folder / "shop", [*kept, row])
    return folder / "shop"
