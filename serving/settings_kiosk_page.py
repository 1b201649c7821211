"""The table [kiosk_page] of the settings, and what it may say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from schemas.errors import SettingsError

_PAUSE_MS = (5_000, 3_600_000)
_LETTERS_MAX = 400
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


class KioskPageSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [kiosk_page]."""

    analysis: Literal["gateway", "edge"]
    """``edge``: the page reads expressions itself and sends numbers, no pictures."""
    objection_ms: int
    """How long the camera stays off after somebody objected."""
    notice: dict[str, str]
    """The notice by language; a language without one has PHO's own."""
    objection: dict[str, str]
    """How to object, by language; a language without one has PHO's own."""


def check_kiosk_page(table: KioskPageSettings) -> None:
    """Refuse what no visitor should meet.

    Raises
    ------
    SettingsError
        A pause that is none, or a text that is empty, too long, or of no language.
    """
    least, most = _PAUSE_MS
    if not least <= table.objection_ms <= most:
        problem = f"kiosk_page.objection_ms is {table.objection_ms}"
        raise SettingsError(problem, f"It must be {least} to {most}")
    _check_texts("notice", table.notice)
    _check_texts("objection", table.objection)


def _check_texts(name: str, texts: Mapping[str, str]) -> None:
    for tag, text in texts.items():
        if _LANGUAGE.fullmatch(tag) is None:
            problem = f"kiosk_page.{name} has a text for {tag!r}, which is no language"
            raise SettingsError(problem, "Give a tag such as de or en-GB")
        if not 0 < len(text.strip()) <= _LETTERS_MAX:
            problem = f"kiosk_page.{name}.{tag} has {len(text)} letters"
            raise SettingsError(problem, f"Give 1 to {_LETTERS_MAX}: it stands beside the picture")
