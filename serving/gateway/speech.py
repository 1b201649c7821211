"""``/api/kiosk/speech``: a greeting of the loop, spoken by Polly; off unless it is configured.

Only what a loop may say is spoken: a page names a greeting, never a text, so nobody can have other
things spoken at the shop's cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from connectors.guarding import CircuitBreaker
from connectors.polly import FOLDER, MEDIA_TYPE, PollySpeech, Speech
from pipelines.decide import presentation
from schemas.errors import CloudError, PhoError, ResourceError, SettingsError, UsageError
from serving.gateway.kiosk_messages import SpeechOffered
from serving.services import aws_clients
from serving.settings import Settings

_FAILURES, _PAUSE_S = 3, 30.0
_REFUSED: dict[int | str, dict[str, Any]] = {
    404: {"description": "No such greeting, or no voice of the gateway is configured"}
}


@dataclass(frozen=True, slots=True)
class _Spoken:
    text: str
    speech: Speech


def make_speech(settings: Settings) -> PollySpeech | None:
    """Make the voice of these settings; None: it is off.

    Raises
    ------
    ResourceError
        boto3 is not installed, or the folder cannot be used.
    """
    table = settings.polly
    if not table.on:
        return None
    limit_s = table.time_limit_ms / 1_000.0
    client = aws_clients(settings).fresh(
        "polly",
        connect_timeout=limit_s,
        read_timeout=limit_s,
        retries={"mode": "standard", "total_max_attempts": 1},
    )
    return PollySpeech(
        client,
        table.engine,
        table.voices,
        settings.data / FOLDER,
        int(table.cache_mb * 1_000_000),
        CircuitBreaker(_FAILURES, _PAUSE_S),
    )


def offered(settings: Settings) -> SpeechOffered | None:
    """Return what pages are told of the voice; None: it is off."""
    table = settings.polly
    if not table.on or not table.voices:
        return None
    return SpeechOffered(tuple(sorted(table.voices)), table.time_limit_ms)


def router(settings: Settings) -> APIRouter:
    """Return the routes ``/api/kiosk/speech/LOOP/ACTION/LANGUAGE`` and the same with ``/marks``."""
    routes = APIRouter(tags=["kiosk"], responses=_REFUSED)
    speech = make_speech(settings)

    def spoken(loop_id: str, action_id: str, language: str) -> _Spoken | JSONResponse:
        if speech is None:
            problem = "no voice of the gateway is configured"
            return _told(404, UsageError(problem, "Set polly.on = true; the page has its own"))
        try:
            config = settings.loop(loop_id)
            if action_id not in config.action_ids:
                problem = f"loop {loop_id!r} says no {action_id!r}"
                return _told(404, UsageError(problem, f"It says {', '.join(config.action_ids)}"))
            words = presentation(config, action_id, language)
            return _Spoken(words.text, speech.speak(words.text, words.language))
        except (SettingsError, UsageError) as error:
            return _told(404, error)
        except (CloudError, ResourceError) as error:
            return _told(503, error)

    # Not async: a greeting that was never said takes Polly half a second.
    @routes.get("/api/kiosk/speech/{loop_id}/{action_id}/{language}")
    def audio(loop_id: str, action_id: str, language: str) -> Response:
        """Return a greeting of a loop as MP3."""
        told = spoken(loop_id, action_id, language)
        if isinstance(told, JSONResponse):
            return told
        # Not kept by the browser: its address stays when the words of the greeting change.
        return Response(told.speech.audio, media_type=MEDIA_TYPE)

    @routes.get("/api/kiosk/speech/{loop_id}/{action_id}/{language}/marks")
    def marks(loop_id: str, action_id: str, language: str) -> Response:
        """Return the text that is spoken, and when each word and each shape of the mouth comes.

        Who shows other words, since they were chosen under other settings, does not play it.
        """
        told = spoken(loop_id, action_id, language)
        if isinstance(told, JSONResponse):
            return told
        at = msgspec.to_builtins(told.speech.marks)
        return JSONResponse({"text": told.text, "marks": at})

    return routes


def _told(status: int, error: PhoError) -> JSONResponse:
    return JSONResponse({"problem": error.problem, "cure": error.cure}, status)
