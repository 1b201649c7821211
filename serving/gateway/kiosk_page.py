"""What the kiosk page asks before it opens its socket: its words, and whose key it has."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from schemas.loops import LoopConfigured
from serving.gateway.doors import caller_of
from serving.settings import Settings


class Me(BaseModel):
    """Who the caller's key says it is."""

    kiosk_id: str | None
    """The kiosk; null: without a key, or one of the owner's."""


def router(settings: Settings) -> APIRouter:
    """Return the routes ``/kiosk/settings.json`` and ``/api/kiosk/me``.

    Parameters
    ----------
    settings : Settings
        Whose table [kiosk_page] the page follows.
    """
    routes = APIRouter(tags=["kiosk"])
    page = page_settings(settings)

    @routes.get("/kiosk/settings.json", include_in_schema=False)
    def kiosk_settings() -> dict[str, Any]:
        """Return what the page follows; nothing in it is secret."""
        return page

    @routes.get("/api/kiosk/me", response_model=Me)
    def me(request: Request) -> Me:
        """Tell a page which kiosk its key is of."""
        return Me(kiosk_id=caller_of(request.scope).kiosk_id)

    return routes


def page_settings(settings: Settings) -> dict[str, Any]:
    """Return what the page follows, as it is written in JSON."""
    table = settings.kiosk_page
    return {
        "kiosk_id": settings.kiosk.id,
        "language": settings.kiosk.language,
        "analysis": table.analysis,
        "objection_ms": table.objection_ms,
        "words": {"notice": table.notice, "objection": table.objection},
        "baseline": _baseline(settings.loop(settings.kiosk.loop)),
    }


def _baseline(loop: LoopConfigured) -> dict[str, Any]:
    """Return what the page says by itself; it has it even if no socket ever opens."""
    action = next(each for each in loop.actions if each.id == loop.baseline_id)
    return {
        "action_id": action.id,
        "texts": {wording.language: wording.text for wording in action.wordings},
        "voice": next((wording.voice for wording in action.wordings), ""),
        "mood": action.mood,
    }
