"""A kiosk's page without a browser: says what the page says, to a real gateway."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import cv2
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from producers.cameras import Shot
from producers.recorded import RecordedVisitors, Visitor
from schemas.frames import Box


def now_ms() -> int:
    """Return this machine's time, ms since 1970 UTC."""
    return time.time_ns() // 1_000_000


def ticket(port: int, key: str | None = None, scope: str = "kiosk") -> str:
    """Buy a ticket at the gateway's door."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/tickets",
        json.dumps({"scope": scope}).encode(),
        {"Content-Type": "application/json"},
    )
    if key is not None:
        request.add_header("Authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - this machine
        return str(json.load(answer)["ticket"])


def hello(kiosk_id: str = "door-1", **others: Any) -> dict[str, Any]:
    """Return the first message of a page."""
    told = {
        **{"type": "hello", "protocol": 1, "kiosk_id": kiosk_id, "language": "en"},
        **{"utc_offset_minutes": 0, "notice": "page", "sent_at_ms": now_ms()},
        **{"analysis": "gateway", "resume": None},
    }
    return {**told, **others}


def shot_message(at_ms: int, jpeg: bytes) -> bytes:
    """Return a picture as the page sends it."""
    header = json.dumps({"type": "shot", "at_ms": at_ms}).encode()
    return len(header).to_bytes(4, "big") + header + jpeg


FACE = Box(0.4, 0.3, 0.2, 0.4)
"""Somebody near."""


def edge_look(at_ms: int, box: Box | None, happy: float) -> dict[str, Any]:
    """Return what a page that analyses by itself says."""
    faces = []
    if box is not None:
        place = {"left": box.left, "top": box.top, "width": box.width, "height": box.height}
        emotions = {"happy": happy, "neutral": 1.0 - happy}
        faces = [{"box": place, "confidence": 0.98, "emotions": emotions}]
    return {
        **{"type": "look", "at_ms": at_ms, "width": 480, "height": 270, "faces": faces},
        **{"analyser": "face-api", "analyser_version": "1.7.15"},
    }


class ToldPage:
    """One page: keeps every message it gets, and what it must hand back.

    Parameters
    ----------
    port : int
        Of the gateway, on this machine.
    kiosk_id : str
        Which kiosk it is.
    key : str or None
        Its key.
    others : any
        Further fields of its hello.
    """

    def __init__(
        self, port: int, kiosk_id: str = "door-1", key: str | None = None, **others: Any
    ) -> None:
        self.port = port
        self.key = key
        self.kiosk_id = kiosk_id
        self.others = others
        self.heard: list[dict[str, Any]] = []
        self.resume: dict[str, Any] | None = None
        self.reports: dict[str, dict[str, Any]] = {}
        self.greeted: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self._changed = threading.Condition()
        self._held = ExitStack()
        self._socket: ClientConnection | None = None

    def connect(self, **others: Any) -> dict[str, Any]:
        """Connect, say hello, send again what was not acknowledged; return the first answer."""
        self._held = ExitStack()
        bought = ticket(self.port, self.key)
        opening = connect(
            f"ws://127.0.0.1:{self.port}/kiosk/socket",
            subprotocols=[Subprotocol("pho.kiosk.v1"), Subprotocol(f"ticket.{bought}")],
            origin=Origin(f"http://127.0.0.1:{self.port}"),
        )
        self._socket = self._held.enter_context(opening)
        self.close_code = None
        first = len(self.heard)
        threading.Thread(target=self._listen, args=(self._socket,), daemon=True).start()
        told = {"kiosk_id": self.kiosk_id, "resume": self.resume, **self.others, **others}
        self.send(hello(**told))
        answer = self.wait(lambda m: m["type"] in ("welcome", "error"), first=first)
        for report in list(self.reports.values()):
            self.send(report)
        return answer

    def send(self, message: dict[str, Any] | bytes | str) -> None:
        """Send a message; anything but a dict goes out as it is."""
        assert self._socket is not None
        self._socket.send(json.dumps(message) if isinstance(message, dict) else message)

    def close(self) -> None:
        """Leave without a word, as a page whose tab is closed."""
        self._held.close()

    def wait(
        self, wanted: Callable[[dict[str, Any]], bool], patience_s: float = 15.0, first: int = 0
    ) -> dict[str, Any]:
        """Return the first message from `first` on that is wanted, waiting for it."""
        end_s = time.monotonic() + patience_s
        with self._changed:
            while True:
                for message in self.heard[first:]:
                    if wanted(message):
                        return message
                left_s = end_s - time.monotonic()
                assert left_s > 0, (
                    f"not within {patience_s} s (closed: {self.close_code}); of "
                    f"{len(self.heard)} heard the last: {self.heard[-6:]}"
                )
                assert self.close_code is None, f"closed with {self.close_code}"
                self._changed.wait(min(left_s, 0.5))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return all messages of a type."""
        with self._changed:
            return [message for message in self.heard if message["type"] == kind]

    def wait_closed(self, patience_s: float = 15.0) -> int:
        """Return the code with which the gateway closed."""
        end_s = time.monotonic() + patience_s
        with self._changed:
            while self.close_code is None:
                left_s = end_s - time.monotonic()
                assert left_s > 0, f"still open after {patience_s} s"
                self._changed.wait(left_s)
            return self.close_code

    def show(self, greeting: dict[str, Any]) -> bool:
        """Show a greeting unless it was shown; report it until it is acknowledged."""
        if any(each["decision_id"] == greeting["decision_id"] for each in self.greeted):
            return False
        self.greeted.append(greeting)
        report = {
            **{"type": "shown", "decision_id": greeting["decision_id"]},
            **{"action_id": greeting["action_id"], "shown_at_ms": now_ms()},
        }
        self.reports[greeting["decision_id"]] = report
        try:
            self.send(report)
        except ConnectionClosed:
            pass  # it is sent again after the next hello
        return True

    def _listen(self, socket: ClientConnection) -> None:
        code = 1006
        try:
            for text in socket:
                self._hear(json.loads(text))
            code = socket.close_code or 1005
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd is not None else 1006
        with self._changed:
            if socket is self._socket:
                self.close_code = code
            self._changed.notify_all()

    def _hear(self, message: dict[str, Any]) -> None:
        with self._changed:
            self.heard.append(message)
            if message["type"] == "visit":
                self.resume = message.get("resume") if message["state"] == "started" else None
            elif message["type"] == "shown":
                self.reports.pop(message["decision_id"], None)
            self._changed.notify_all()


class Playing:
    """A page whose camera shows recorded visitors, in real time.

    Parameters
    ----------
    page : ToldPage
        Connected.
    world : RecordedVisitors
        Who comes.
    """

    def __init__(self, page: ToldPage, world: RecordedVisitors) -> None:
        self.page = page
        self.world = world
        self.between: Callable[[], None] = lambda: None
        """Called after each shot: a test may cut the line there."""
        self._heard = 0

    def visit(self, index: int) -> Visitor:
        """Let one visitor come, be greeted, react and go."""
        visitor = self.world.visitor(index, now_ms())
        # While the test cut the line the visitor stood still: what comes later comes later.
        late_ms = 0
        for shot in visitor.shots():
            late_ms += max(0, now_ms() - shot.at_ms - late_ms)
            time.sleep(max(0.0, (shot.at_ms + late_ms - now_ms()) / 1_000))
            self.look(shot)
            self.between()
            greetings = self.page.of("greeting")
            for greeting in greetings[self._heard :]:
                if self.page.show(greeting):
                    visitor.react(greeting["action_id"], now_ms() - late_ms)
            self._heard = len(greetings)
        return visitor

    def look(self, shot: Shot) -> None:
        """Send what the camera sees now; while the line is broken, nobody sees it."""
        encoded = cv2.imencode(".jpg", shot.picture)[1].tobytes()
        try:
            self.page.send(shot_message(now_ms(), encoded))
        except ConnectionClosed:
            return


@contextmanager
def connected(port: int, kiosk_id: str = "door-1", **others: Any) -> Iterator[ToldPage]:
    """Return a page that said hello, closed at the end."""
    page = ToldPage(port, kiosk_id, **others)
    try:
        page.connect()
        yield page
    finally:
        page.close()
