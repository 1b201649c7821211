"""A stand-in for Polly: speaks a tone in place of each text, with marks as Polly sends them."""

from __future__ import annotations

import io
import json
import math
import struct
import time
import wave
from typing import Any

from http_servers import HttpServer, QuietHandler

SPEECH_MS = 1_800
"""How long it speaks, whatever the text."""
OPEN_MS = ((0, 600), (1_200, 1_700))
"""When its mouth is open, from and to."""
_TONE_HZ = 440.0
_RATE_HZ = 24_000  # of Polly's neural voices
_AMPLITUDE = 9_000


class PollyServer(HttpServer):
    """Answers SynthesizeSpeech (Polly's API reference) with a WAV: browsers look at the content."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.asked: list[dict[str, Any]] = []
        self.answered = 0
        self.delay_s = 0.0
        """How long each answer takes."""
        self.status = 200
        """What is answered; 200: speech."""
        self.audio = tone()
        self.marks: bytes | None = None
        """Marks in place of its own."""

    @property
    def texts(self) -> list[str]:
        """Texts it was asked to speak."""
        return [each["Text"] for each in self.asked if each["OutputFormat"] == "mp3"]


class _Handler(QuietHandler):
    server: PollyServer

    def do_POST(self) -> None:
        request = json.loads(self.body())
        server = self.server
        server.asked.append({"path": self.path, **request})
        time.sleep(server.delay_s)
        if server.status != 200:
            said = b'{"message": "not now"}'
            self.send(server.status, "application/json", said, "ServiceFailureException")
        elif request["OutputFormat"] == "json":
            told = server.marks if server.marks is not None else marks_of(request["Text"])
            self.send(200, "application/x-json-stream", told)
        else:
            self.send(200, "audio/mpeg", server.audio)
        server.answered += 1


def tone(duration_ms: int = SPEECH_MS) -> bytes:
    """Return a tone as a WAV of 16 bits, one channel."""
    count = _RATE_HZ * duration_ms // 1_000
    turn = 2 * math.pi * _TONE_HZ / _RATE_HZ
    samples = (round(_AMPLITUDE * math.sin(turn * place)) for place in range(count))
    kept = io.BytesIO()
    with wave.open(kept, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_RATE_HZ)
        sound.writeframes(struct.pack(f"<{count}h", *samples))
    return kept.getvalue()


def silent_mp3(frames: int = 50) -> bytes:
    """Return an MP3 without a sound: MPEG-2 layer III, 24 kHz, 48 kbit/s, 24 ms a frame.

    ISO/IEC 13818-3: a header, and side information of zeros says that nothing was coded.
    """
    frame_bytes = 72 * 48_000 // _RATE_HZ
    frame = bytes((0xFF, 0xF3, 0x64, 0xC4)).ljust(frame_bytes, b"\0")
    return frame * frames


def marks_of(text: str) -> bytes:
    """Return a text's marks: its words evenly over the time, the mouth as in `OPEN_MS`."""
    marks: list[dict[str, Any]] = []
    words = text.split()
    place = 0
    for number, word in enumerate(words):
        start = text.index(word, place)
        place = start + len(word)
        # Polly counts its places in bytes of UTF-8.
        at = {"start": len(text[:start].encode()), "end": len(text[:place].encode())}
        marks.append({"time": SPEECH_MS * number // len(words), "type": "word", **at})
        marks[-1]["value"] = word
    for begun_ms, ended_ms in OPEN_MS:
        marks.append({"time": begun_ms, "type": "viseme", "value": "a"})
        marks.append({"time": ended_ms, "type": "viseme", "value": "p"})
    marks.append({"time": SPEECH_MS - 20, "type": "viseme", "value": "sil"})
    return b"".join(json.dumps(mark).encode() + b"\n" for mark in marks)
