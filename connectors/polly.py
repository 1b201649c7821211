"""The avatar's voice from Amazon Polly: asked once for each text, then kept on this machine.

Greetings are few and said a thousand times, so what was spoken is kept by a hash of text, language,
voice and engine, in a bounded folder. Speech marks (which word, which mouth, when) come with it
where the voice has them. Nothing waits for it: who has no answer speaks with a voice of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from connectors.aws_errors import call, read_body
from connectors.guarding import CircuitBreaker
from schemas.errors import CloudError, ResourceError, UsageError

NAME = "polly"
MEDIA_TYPE = "audio/mpeg"
TEXT_MAX = 1_000
"""Characters; a greeting is a sentence or two. Polly takes 3,000."""
AUDIO_BYTES_MAX = 5_000_000
MARKS_BYTES_MAX = 1_000_000
FOLDER = "speech"
"""Name of the folder of kept speech, inside a data folder."""

_METHOD_VERSION = 1  # raise it when what is asked for changes the sound


class Mark(msgspec.Struct, frozen=True):
    """When something happens in the speech."""

    at_ms: int
    """From its beginning, ms."""
    kind: str
    """``word``, ``viseme`` or ``sentence``."""
    value: str
    """The word, or Polly's name of the mouth's shape (``p``, ``t``, ``a`` …, ``sil``)."""
    start: int = 0
    """Of a word: where it begins in the text, characters."""
    end: int = 0
    """Of a word: where it ends in the text, characters."""


@dataclass(frozen=True, slots=True)
class Speech:
    """A text, spoken."""

    audio: bytes
    """MP3."""
    marks: tuple[Mark, ...]
    """In the order of time; empty where the voice has none."""


class PollySpeech:
    """Speaks texts. Called from several threads.

    Parameters
    ----------
    client : boto3 client of Polly
        Made by `connectors.aws_clients`, with a time limit that a visitor would wait.
    engine : str
        ``standard``, ``neural``, ``long-form`` or ``generative``.
    voices : mapping of str to str
        A voice for each language, by BCP 47 tag or its first part.
    folder : Path
        Where speech is kept; made if missing, with mode 0700.
    cache_bytes : int
        Above so much what was not said for longest is deleted.
    breaker : CircuitBreaker
        Opens when Polly fails.

    Raises
    ------
    ResourceError
        The folder cannot be made.
    """

    def __init__(
        self,
        client: Any,
        engine: str,
        voices: Mapping[str, str],
        folder: Path,
        cache_bytes: int,
        breaker: CircuitBreaker,
    ) -> None:
        self.asked = 0
        """Calls sent to Polly, for audio and for marks."""
        self.spoken_characters = 0
        """Characters that Polly was asked to speak: what it charges for."""
        self._client = client
        self._engine = engine
        self._voices = {tag.lower(): voice for tag, voice in voices.items()}
        self._folder = folder
        self._cache_bytes = cache_bytes
        self._breaker = breaker
        self._lock = threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(folder, error) from error

    def voice(self, language: str) -> str | None:
        """Return the voice of a language; None: there is none."""
        tag = language.lower()
        return self._voices.get(tag) or self._voices.get(tag.split("-")[0])

    def speak(self, text: str, language: str) -> Speech:
        """Return a text as speech: kept, or asked for now.

        Parameters
        ----------
        text : str
            At most 1,000 characters.
        language : str
            BCP 47 tag.

        Raises
        ------
        UsageError
            No text, too much of it, or no voice for the language.
        CloudError
            Polly gave none, now or for good.
        ResourceError
            The folder cannot be used.
        """
        voice = self.voice(language)
        if voice is None:
            problem = f"Polly has no voice for {language!r}"
            raise UsageError(problem, "Name one in [polly.voices]")
        if not text.strip() or len(text) > TEXT_MAX:
            problem = f"{len(text)} characters are no greeting"
            raise UsageError(problem, f"Speak 1 to {TEXT_MAX}")
        name = _name(text, language, voice, self._engine)
        kept = self._kept(name)
        if kept is not None:
            return kept  # without the lock: it may be held as long as Polly takes for another
        # One at a time: ten kiosks that wake up together ask for the same greeting.
        with self._lock:
            kept = self._kept(name)
            if kept is not None:
                return kept
            speech = self._asked(text, voice)
            self._keep(name, speech)
        return speech

    def _asked(self, text: str, voice: str) -> Speech:
        if not self._breaker.allows():
            problem = "Polly failed too often; it is asked again after a pause"
            raise CloudError(problem, "The kiosk's own voice speaks meanwhile", "retry", "Open")
        request = {"Engine": self._engine, "VoiceId": voice, "Text": text}
        try:
            audio = self._call(AUDIO_BYTES_MAX, **request, OutputFormat="mp3")
        except CloudError as error:
            self._breaker.failed(for_good=error.action == "stop")
            raise
        self._breaker.succeeded()
        if not audio:
            problem = "AWS polly SynthesizeSpeech: no sound"
            raise CloudError(problem, "It is asked again", "retry", "ForeignAnswer")
        self.spoken_characters += len(text)
        kinds = ["word", "viseme"]
        try:
            told = self._call(
                MARKS_BYTES_MAX, **request, OutputFormat="json", SpeechMarkTypes=kinds
            )
        except CloudError:
            return Speech(audio, ())  # a voice without marks speaks all the same
        return Speech(audio, read_marks(told, text))

    def _call(self, most_bytes: int, **request: Any) -> bytes:
        self.asked += 1
        answer = call(self._client, NAME, "SynthesizeSpeech", request["VoiceId"], **request)
        return read_body(answer["AudioStream"], NAME, "SynthesizeSpeech", most_bytes)

    def _kept(self, name: str) -> Speech | None:
        audio, marks = self._folder / f"{name}.mp3", self._folder / f"{name}.json"
        try:
            speech = Speech(
                audio.read_bytes(),
                msgspec.json.decode(marks.read_bytes(), type=tuple[Mark, ...]),
            )
            for path in (audio, marks):
                os.utime(path)  # so that the bound takes what was not said for longest
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError:
            return None  # half written by a full disk: asked for and written again
        except OSError as error:
            raise _unusable(self._folder, error) from error
        return speech if speech.audio else None

    def _keep(self, name: str, speech: Speech) -> None:
        try:
            _write(self._folder / f"{name}.json", msgspec.json.encode(speech.marks))
            _write(self._folder / f"{name}.mp3", speech.audio)
            self._bound(name)
        except OSError as error:
            raise _unusable(self._folder, error) from error

    def _bound(self, newest: str) -> None:
        files = sorted(
            ((path.stat().st_mtime_ns, path) for path in self._folder.iterdir()),
            key=lambda each: each[0],
        )
        total = sum(path.stat().st_size for _, path in files)
        for _, path in files:
            if total <= self._cache_bytes:
                return
            if path.stem != newest:
                total -= path.stat().st_size
                path.unlink(missing_ok=True)


def read_marks(told: bytes, text: str) -> tuple[Mark, ...]:
    """Read Polly's speech marks: one JSON document a line (Polly guide, "Speech mark output").

    Parameters
    ----------
    told : bytes
        As Polly answered; a line that is no mark is passed over.
    text : str
        What was spoken: Polly counts its places in bytes of UTF-8, these are characters.
    """
    encoded = text.encode()
    marks = []
    for line in told.splitlines():
        try:
            each = json.loads(line)
            start, end = (
                len(encoded[: int(each.get(name, 0))].decode(errors="ignore"))
                for name in ("start", "end")
            )
            marks.append(Mark(int(each["time"]), str(each["type"]), str(each["value"]), start, end))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return tuple(sorted(marks, key=lambda mark: mark.at_ms))


def _name(text: str, language: str, voice: str, engine: str) -> str:
    told = json.dumps([_METHOD_VERSION, text, language.lower(), voice, engine])
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _unusable(folder: Path, error: OSError) -> ResourceError:
    problem = f"the folder of speech {folder} cannot be used: {error.strerror or error}"
    return ResourceError(problem, "Make it writable, or set polly.on = false")
