"""A greeting is spoken once and kept; whatever Polly does, the kiosk has an answer at once."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.response import StreamingBody
from fastapi import FastAPI

from connectors.aws_clients import AwsClients
from connectors.guarding import CircuitBreaker
from connectors.polly import Mark, PollySpeech, read_marks
from local_aws_fixture import local_clients
from schemas.errors import CloudError, UsageError
from serving.gateway import speech as speech_routes
from serving.gateway.kiosk_messages import SpeechOffered
from serving.settings import load

VOICES = {"en": "Joanna", "de": "Vicki"}
MARKS = (
    b'{"time":0,"type":"word","start":0,"end":6,"value":"Sch\xc3\xb6n"}\n'
    b'{"time":125,"type":"viseme","value":"S"}\n'
    b"no mark\n{}\n[]\n"
    b'{"time":6,"type":"viseme","value":"p"}\n'
    b'{"time":"soon","type":"viseme","value":"p"}\n'
)


class MadeUp:
    """A client of Polly that answers as told; `fails` raises."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.audio = b"ID3 sound"
        self.marks = MARKS
        self.fails: Exception | None = None
        self.before: Callable[[], object] = lambda: None

    def synthesize_speech(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        self.before()
        if self.fails is not None:
            raise self.fails
        data = self.marks if request["OutputFormat"] == "json" else self.audio
        body = StreamingBody(io.BytesIO(data), len(data))
        return {"AudioStream": body, "ContentType": "audio/mpeg"}


@pytest.fixture
def polly() -> MadeUp:
    return MadeUp()


def speaking(client: Any, folder: Path, cache_bytes: int = 1_000_000) -> PollySpeech:
    return PollySpeech(client, "neural", VOICES, folder, cache_bytes, CircuitBreaker(2, 60.0))


def test_motos_polly_speaks_over_the_real_protocol(tmp_path: Path) -> None:
    with local_clients() as (_, clients):
        speech = speaking(clients.client("polly"), tmp_path / "speech")
        first = speech.speak("Welcome.", "en")
        assert first.audio
        asked = speech.asked
        assert speech.speak("Welcome.", "en-GB").audio == first.audio
        assert speech.speak("Welcome.", "en") == first
        assert speech.asked == asked + 2, "another language tag is another request, once"


def test_a_text_is_asked_for_once_and_outlives_the_process(polly: MadeUp, tmp_path: Path) -> None:
    told = speaking(polly, tmp_path / "speech").speak("Schön, Sie zu sehen.", "de-AT")
    assert told.audio == b"ID3 sound"
    assert told.marks == (
        Mark(0, "word", "Schön", 0, 5),
        Mark(6, "viseme", "p"),
        Mark(125, "viseme", "S"),
    )
    assert [request["VoiceId"] for request in polly.asked] == ["Vicki", "Vicki"]
    again = speaking(polly, tmp_path / "speech")
    assert again.speak("Schön, Sie zu sehen.", "de-AT") == told
    assert len(polly.asked) == 2
    assert (tmp_path / "speech").stat().st_mode & 0o077 == 0


def test_marks_count_characters_where_polly_counts_bytes() -> None:
    line = b'{"time":1,"type":"word","start":7,"end":11,"value":"Sie"}'
    (mark,) = read_marks(line, "Schön Sie")
    assert "Schön Sie"[mark.start : mark.end] == "Sie"


def test_a_voice_without_marks_speaks_all_the_same(polly: MadeUp, tmp_path: Path) -> None:
    polly.marks = b"<html>"
    assert speaking(polly, tmp_path / "speech").speak("Welcome.", "en").marks == ()


def test_silence_is_no_answer(polly: MadeUp, tmp_path: Path) -> None:
    polly.audio = b""
    with pytest.raises(CloudError, match="no sound"):
        speaking(polly, tmp_path / "speech").speak("Welcome.", "en")
    assert list((tmp_path / "speech").iterdir()) == []


def test_what_is_kept_waits_for_no_other_text(polly: MadeUp, tmp_path: Path) -> None:
    speech = speaking(polly, tmp_path / "speech")
    told = speech.speak("Welcome.", "en")
    asked, release = threading.Event(), threading.Event()

    def hold() -> None:
        asked.set()
        release.wait(30.0)

    polly.before = hold
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(speech.speak, "Good day.", "en")
        try:
            assert asked.wait(10.0)
            # While Polly keeps somebody waiting for another one.
            assert pool.submit(speech.speak, "Welcome.", "en").result(10.0) == told
        finally:
            release.set()
        assert other.result(10.0).audio


def test_a_half_written_file_is_asked_for_again(polly: MadeUp, tmp_path: Path) -> None:
    speech = speaking(polly, tmp_path / "speech")
    told = speech.speak("Welcome.", "en")
    (marks,) = (tmp_path / "speech").glob("*.json")
    marks.write_bytes(b"[{")
    assert speech.speak("Welcome.", "en") == told
    assert len(polly.asked) == 4


def test_the_folder_stays_within_its_bound(polly: MadeUp, tmp_path: Path) -> None:
    polly.audio, polly.marks = b"x" * 1_000, b""
    speech = speaking(polly, tmp_path / "speech", cache_bytes=3_500)
    for number in range(8):
        speech.speak(f"Greeting {number}", "en")
        speech.speak("Greeting 0", "en")  # said all the time, so never thrown away
    kept = sum(path.stat().st_size for path in (tmp_path / "speech").iterdir())
    assert kept <= 3_500
    asked = len(polly.asked)
    speech.speak("Greeting 0", "en")
    assert len(polly.asked) == asked
    speech.speak("Greeting 1", "en")
    assert len(polly.asked) > asked


def test_what_was_just_spoken_stays_however_small_the_bound(polly: MadeUp, tmp_path: Path) -> None:
    speech = speaking(polly, tmp_path / "speech", cache_bytes=1)
    assert speech.speak("Welcome.", "en") == speech.speak("Welcome.", "en")
    assert len(polly.asked) == 2


def test_polly_that_fails_is_left_alone_for_a_while(polly: MadeUp, tmp_path: Path) -> None:
    from botocore.exceptions import ReadTimeoutError

    polly.fails = ReadTimeoutError(endpoint_url="http://polly")
    speech = speaking(polly, tmp_path / "speech")
    for _ in range(4):
        with pytest.raises(CloudError):
            speech.speak("Welcome.", "en")
    assert len(polly.asked) == 2


@pytest.mark.parametrize(
    ("text", "language"), [("", "en"), (" ", "en"), ("x" * 1_001, "en"), ("x", "fr")]
)
def test_what_cannot_be_spoken_is_not_asked_for(
    polly: MadeUp, tmp_path: Path, text: str, language: str
) -> None:
    with pytest.raises(UsageError):
        speaking(polly, tmp_path / "speech").speak(text, language)
    assert polly.asked == []


# The gateway's route


@pytest.fixture(scope="module")
def clients() -> Iterator[AwsClients]:
    with local_clients() as (_, made):
        yield made


def get(clients: AwsClients, tmp_path: Path, path: str, **flags: Any) -> httpx.Response:
    """Ask a gateway that has this one route."""
    told = {
        "data": str(tmp_path / "shop"),
        "aws.endpoint": clients.access.endpoint,
        "aws.region": clients.access.region,
        "polly.time_limit_ms": 30_000,
        **flags,
    }
    app = FastAPI()
    app.include_router(speech_routes.router(load(None, told, {})))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(f"/api/kiosk/speech/{path}")

    return asyncio.run(ask())


ON = {"polly.on": True}


def test_a_page_has_a_greeting_spoken(clients: AwsClients, tmp_path: Path) -> None:
    told = get(clients, tmp_path, "greeting/welcome/de-CH", **ON)
    assert (told.status_code, told.headers["content-type"]) == (200, "audio/mpeg")
    assert told.content
    marks = get(clients, tmp_path, "greeting/welcome/de/marks", **ON)
    assert marks.json() == {"text": "Willkommen. Schön, Sie zu sehen.", "marks": []}


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("greeting/shout", "says no 'shout'"),
        ("nowhere/welcome", "no loop 'nowhere'"),
    ],
)
def test_only_greetings_of_a_loop_are_spoken(
    clients: AwsClients, tmp_path: Path, place: str, problem: str
) -> None:
    told = get(clients, tmp_path, f"{place}/en", **ON)
    assert told.status_code == 404
    assert problem in told.json()["problem"]


def test_the_browser_keeps_no_words_that_may_change(clients: AwsClients, tmp_path: Path) -> None:
    told = get(clients, tmp_path, "greeting/welcome/en", **ON)
    assert "max-age" not in told.headers.get("cache-control", "")


def test_pages_are_told_of_the_voice_where_there_is_one() -> None:
    limit = {"polly.time_limit_ms": 900}
    assert speech_routes.offered(load(None, limit, {})) is None
    told = speech_routes.offered(load(None, {**limit, "polly.on": True}, {}))
    assert told == SpeechOffered(("de", "en", "es"), 900)


def test_it_is_off_unless_it_is_configured(clients: AwsClients, tmp_path: Path) -> None:
    told = get(clients, tmp_path, "greeting/welcome/en")
    assert (told.status_code, told.json()["cure"][:9]) == (404, "Set polly")
    assert not (tmp_path / "shop").exists()


def test_a_polly_that_is_away_is_503_so_that_the_page_speaks_itself(
    clients: AwsClients, tmp_path: Path
) -> None:
    flags = {**ON, "aws.endpoint": "http://127.0.0.1:9"}
    assert get(clients, tmp_path, "greeting/welcome/en", **flags).status_code == 503
