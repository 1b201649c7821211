"""Kiosk pages that analyse by themselves, many in one process, and how long each greeting took."""

from __future__ import annotations

import asyncio
import json
import random
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

EMPTY_MS = (1_000, 4_000)
"""How long nobody is there between two visitors, ms, by chance."""
STAYS_MS = 4_000
"""How long a visitor stays after the greeting, ms."""
PATIENCE_MS = 10_000
"""After so long without a greeting the visitor goes, and is counted as not greeted."""


@dataclass
class Measured:
    """What the pages measured, ms."""

    greetings_ms: list[float] = field(default_factory=list)
    """From sending the look that decided to its greeting in the page."""
    answers_ms: list[float] = field(default_factory=list)
    """From sending a look to its answer."""
    echoes_ms: list[float] = field(default_factory=list)
    """From sending the same bytes to a bare echo to their coming back."""
    visits: int = 0
    """Visits that began."""
    not_greeted: int = 0
    """Of those, visitors who went without."""
    repeats: int = 0
    """Greetings of a visit that was greeted already."""
    unacknowledged: int = 0
    """Reports of what was shown that no acknowledgement came for."""
    reconnects: int = 0
    """Connections that broke, and were made again."""
    problems: list[str] = field(default_factory=list)
    """What the gateway complained of."""


def look(at_ms: int, happy: float | None) -> bytes:
    """Return a look; None: nobody is there."""
    faces = []
    if happy is not None:
        shift = random.uniform(-0.004, 0.004)  # noqa: S311 - a face is never quite still
        box = {"left": 0.4 + shift, "top": 0.3 + shift, "width": 0.2, "height": 0.4}
        others = ("angry", "disgusted", "fearful", "neutral", "sad", "surprised")
        emotions = {"happy": happy, **dict.fromkeys(others, (1.0 - happy) / len(others))}
        faces = [{"box": box, "confidence": 0.98, "emotions": emotions}]
    message = {
        **{"type": "look", "at_ms": at_ms, "width": 480, "height": 270, "faces": faces},
        **{"analyser": "face-api", "analyser_version": "1.7.15"},
    }
    return json.dumps(message).encode()


def now_ms() -> int:
    """Return this machine's time, ms since 1970 UTC."""
    return time.time_ns() // 1_000_000


def _ticket(port: int) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/tickets",
        b'{"scope": "kiosk"}',
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own machine
        return str(json.load(answer)["ticket"])


class Page:
    """One kiosk's page: visitors come to it one after the other."""

    def __init__(self, number: int, port: int, looks_per_second: float, found: Measured) -> None:
        self.kiosk_id = f"kiosk-{number}"
        self._port = port
        self._interval_s = 1.0 / looks_per_second
        self._found = found
        self._sent_s: dict[int, float] = {}
        self._decided_s: float | None = None
        self._seen_at_ms = 0
        self._greeted_ms: int | None = None
        self._present = False
        self._comes_ms = now_ms() + random.randint(*EMPTY_MS)  # noqa: S311 - no secret
        self._reports: dict[str, dict[str, Any]] = {}
        self._said: set[str] = set()
        self._resume: dict[str, Any] | None = None
        self._visit_s: float | None = None

    async def run(self, until_s: float) -> None:
        """Send looks until the monotonic clock says `until_s`; come back when the line breaks."""
        while time.monotonic() < until_s:
            try:
                await self._connected(until_s)
            except (ConnectionClosed, OSError) as error:
                self._found.reconnects += 1
                self._found.problems.append(str(error))
                await asyncio.sleep(1.0)
        self._found.unacknowledged += len(self._reports)

    async def _connected(self, until_s: float) -> None:
        ticket = await asyncio.to_thread(_ticket, self._port)
        opening = connect(
            f"ws://127.0.0.1:{self._port}/kiosk/socket",
            subprotocols=[Subprotocol("pho.kiosk.v1"), Subprotocol(f"ticket.{ticket}")],
            compression=None,
        )
        async with opening as socket:
            hello = {
                **{"type": "hello", "protocol": 1, "kiosk_id": self.kiosk_id, "notice": "page"},
                **{"language": "en", "sent_at_ms": now_ms(), "analysis": "edge"},
                "resume": self._resume,
            }
            await socket.send(json.dumps(hello))
            for report in self._reports.values():
                await socket.send(json.dumps(report))
            listening = asyncio.create_task(self._listen(socket))
            # Kiosks do not look in step.
            await asyncio.sleep(random.uniform(0.0, self._interval_s))  # noqa: S311 - no secret
            due_s = time.monotonic()
            while time.monotonic() < until_s and not listening.done():
                await self._look(socket)
                due_s += self._interval_s
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            if listening.done():
                await listening
            await asyncio.sleep(1.0)
            await socket.send('{"type": "bye"}')
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _look(self, socket: ClientConnection) -> None:
        at_ms = now_ms()
        self._step(at_ms)
        happy = None
        if self._present:
            happy = 0.1 if self._greeted_ms is None else 0.8
        self._sent_s[at_ms] = time.perf_counter()
        await socket.send(look(at_ms, happy).decode())

    def _step(self, at_ms: int) -> None:
        """Let the visitor come, or go."""
        if not self._present:
            self._present = at_ms >= self._comes_ms
            self._greeted_ms = None
            return
        stays_ms = STAYS_MS if self._greeted_ms is not None else PATIENCE_MS
        since_ms = self._greeted_ms if self._greeted_ms is not None else self._comes_ms
        if at_ms - since_ms > stays_ms:
            self._found.not_greeted += self._greeted_ms is None
            self._present = False
            # Longer than the tracker bridges.
            self._comes_ms = at_ms + 1_600 + random.randint(*EMPTY_MS)  # noqa: S311 - no secret

    async def _listen(self, socket: ClientConnection) -> None:
        async for text in socket:
            heard_s = time.perf_counter()
            message: dict[str, Any] = json.loads(text)
            kind = message["type"]
            if kind == "seen":
                self._seen_at_ms = message["at_ms"]
                sent_s = self._sent_s.pop(self._seen_at_ms, heard_s)
                self._found.answers_ms.append((heard_s - sent_s) * 1_000.0)
                self._decided_s = sent_s
            elif kind == "visit" and message["state"] == "started":
                if self._resume is None:
                    # The look that was answered just now is the one that decides.
                    self._found.visits += 1
                    self._visit_s = self._decided_s
                self._resume = message["resume"]
            elif kind == "visit":
                self._resume = None
            elif kind == "greeting":
                await self._greeted(socket, message, heard_s)
            elif kind == "shown":
                self._reports.pop(message["decision_id"], None)
            elif kind == "error":
                self._found.problems.append(message["problem"])

    async def _greeted(
        self, socket: ClientConnection, message: dict[str, Any], heard_s: float
    ) -> None:
        if message["decision_id"] in self._said:
            self._found.repeats += 1
            return
        self._said.add(message["decision_id"])
        self._greeted_ms = now_ms()
        if self._visit_s is not None:
            self._found.greetings_ms.append((heard_s - self._visit_s) * 1_000.0)
        report = {
            **{"type": "shown", "decision_id": message["decision_id"]},
            **{"action_id": message["action_id"], "shown_at_ms": self._greeted_ms},
        }
        self._reports[message["decision_id"]] = report
        await socket.send(json.dumps(report))


async def echo_page(port: int, looks_per_second: float, until_s: float, found: Measured) -> None:
    """Send the same looks to a bare echo."""
    async with connect(f"ws://127.0.0.1:{port}", compression=None) as socket:
        while time.monotonic() < until_s:
            sent_s = time.perf_counter()
            await socket.send(look(now_ms(), 0.5).decode())
            await socket.recv()
            found.echoes_ms.append((time.perf_counter() - sent_s) * 1_000.0)
            await asyncio.sleep(1.0 / looks_per_second)
