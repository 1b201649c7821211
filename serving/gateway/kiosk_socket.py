"""The WebSocket of a kiosk's page: reads what it says in order, answers, and greets in between.

It stops reading while a message is worked on, so a page that sends faster than the log takes is
held up by its own socket; a page that sends much faster than it was asked to is sent away.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from schemas.errors import PhoError
from serving.gateway import kiosk_messages as say
from serving.gateway.doors import Caller, caller_of
from serving.gateway.kiosk_hall import KioskHall, Place
from serving.gateway.kiosk_messages import BadMessage, Outgoing
from serving.gateway.metrics import Metrics

_logger = logging.getLogger(__name__)

PATH = "/kiosk/socket"
HELLO_WITHIN_S = 10.0
_WAITING_MAX = 256
"""Messages on their way to a page; a page that takes none of them is gone."""
# A page sends shots_per_second pictures, a clock now and then and what it showed; after a pause in
# its tab a browser may send what piled up, and after a night without a gateway up to 200 reports.
_TIMES_TOO_FAST = 4
_BURST = 256
_LAST_WORDS_S = 2.0

CLOSE_CODES = {
    1012: "the gateway stops; connect again in a moment",
    1013: "there is no room for another kiosk",
    4400: "no hello came, or one that cannot be",
    4403: "the key is of another kiosk",
    4409: "another page is this kiosk now",
    4413: "a message above the limit",
    4429: "much faster than asked for",
    4500: "the gateway failed at a message; its log says why",
}
"""Why the gateway ends a connection, beside what the protocol itself knows."""


def router(hall: KioskHall, metrics: Metrics, shots_per_second: float) -> APIRouter:
    """Return the route of the socket.

    Parameters
    ----------
    hall : KioskHall
        The kiosks.
    metrics : Metrics
        Told of sockets and of messages that are refused.
    shots_per_second : float
        How often pages are asked to send what they see.
    """
    routes = APIRouter()

    @routes.websocket(PATH)
    async def kiosk_socket(socket: WebSocket) -> None:
        if say.SUBPROTOCOL not in socket.scope.get("subprotocols", ()):
            await socket.close(1002, f"offer the sub-protocol {say.SUBPROTOCOL}")
            return
        await socket.accept(subprotocol=say.SUBPROTOCOL)
        metrics.socket_opened()
        try:
            await KioskSocket(socket, hall, metrics, shots_per_second).run()
        finally:
            metrics.socket_closed()

    return routes


class KioskSocket:
    """One connection of one page.

    Parameters
    ----------
    socket : WebSocket
        Accepted.
    hall : KioskHall
        The kiosks.
    metrics : Metrics
        Told of messages that are refused.
    shots_per_second : float
        How often the page is asked to send what it sees.
    """

    def __init__(
        self, socket: WebSocket, hall: KioskHall, metrics: Metrics, shots_per_second: float
    ) -> None:
        self._socket = socket
        self._hall = hall
        self._metrics = metrics
        self._caller: Caller = caller_of(socket.scope)
        self._out: asyncio.Queue[Outgoing | None] = asyncio.Queue()
        self._code = 1000
        self._closing = asyncio.Event()
        self._pace = _Pace(_TIMES_TOO_FAST * shots_per_second + 4.0, _BURST)

    # For the hall

    def send(self, *messages: Outgoing) -> None:
        """Send; never waits."""
        if self._closing.is_set():
            return
        if self._out.qsize() + len(messages) > _WAITING_MAX:
            self.close(4429, "the page takes no messages", "Load the page again")
            return
        for message in messages:
            self._out.put_nowait(message)

    def close(self, code: int, problem: str, cure: str) -> None:
        """Say why, and end it; never waits."""
        if self._closing.is_set():
            return
        self._code = code
        self._out.put_nowait(say.Problem(problem, cure, fatal=code != 1012))
        self._out.put_nowait(None)
        self._closing.set()

    # Its life

    async def run(self) -> None:
        """Serve the page until it, or the hall, ends the connection."""
        writer = asyncio.create_task(self._write())
        reader = asyncio.create_task(self._read())
        closing = asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait({reader, closing}, return_when=asyncio.FIRST_COMPLETED)
            if self._closing.is_set():
                # What was to be said last goes out before the socket is shut.
                await asyncio.wait({writer}, timeout=_LAST_WORDS_S)
        finally:
            for task in (reader, writer, closing):
                task.cancel()
            await asyncio.gather(reader, writer, closing, return_exceptions=True)

    async def _write(self) -> None:
        try:
            while (message := await self._out.get()) is not None:
                await self._socket.send_text(say.write(message))
            await self._socket.close(self._code)
        except (WebSocketDisconnect, RuntimeError):
            return  # the page is gone; the reader sees it too

    async def _read(self) -> None:
        place: Place | None = None
        said_bye = False
        try:
            place = await self._admitted()
            while place is not None and not said_bye:
                message = await self._next()
                if not self._pace.allows(asyncio.get_running_loop().time()):
                    self._metrics.message_refused("too_many")
                    self.close(4429, "the page sends much too fast", "Send as welcome says")
                    return
                said_bye = await self._answer(place, message)
        except WebSocketDisconnect:
            pass
        except Exception:
            _logger.exception("a kiosk's message failed")
            self.close(4500, "the gateway failed", "See its log; connect again")
            raise
        finally:
            if place is not None:
                self._hall.leave(place, self, "stopped" if said_bye else None)
                with suppress(RuntimeError):
                    if said_bye:
                        await self._socket.close(1000)

    async def _next(self) -> str | bytes:
        message: Any = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        found: str | bytes | None = message.get("bytes")
        return found if found is not None else message["text"]

    async def _admitted(self) -> Place | None:
        """Wait for hello and let its kiosk in; None: the connection ends."""
        try:
            first = await asyncio.wait_for(self._next(), HELLO_WITHIN_S)
        except TimeoutError:
            self.close(4400, "no hello came", f"Say hello within {HELLO_WITHIN_S:.0f} s")
            return None
        received_ms = self._hall.around.clock()
        try:
            hello = say.read_text(first)
        except BadMessage as error:
            self._metrics.message_refused(error.reason)
            self.close(4400, error.problem, error.cure)
            return None
        if not isinstance(hello, say.Hello):
            self._metrics.message_refused("order")
            self.close(4400, "the first message is no hello", "Say hello first")
            return None
        mine = self._caller.kiosk_id
        if mine is not None and hello.kiosk_id != mine:
            problem = f"the key is of kiosk {mine!r}, not of {hello.kiosk_id!r}"
            self.close(4403, problem, "Use this kiosk's own key: pho keys add --scope kiosk")
            return None
        return await self._welcomed(hello, received_ms)

    async def _welcomed(self, hello: say.Hello, received_ms: int) -> Place | None:
        try:
            place = await self._hall.enter(hello.kiosk_id, self)
        except PhoError as error:  # an id that no record takes
            self._metrics.message_refused("invalid")
            self.close(4400, error.problem, error.cure)
            return None
        if place is None:
            self.close(1013, "there is no room for another kiosk", "Raise gateway.max_kiosks")
            return None
        try:
            answers = await self._hall.ask(place, lambda: place.session.hello(hello, received_ms))
        except PhoError as error:
            self._metrics.message_refused("invalid")
            self._hall.leave(place, self)
            self.close(4400, error.problem, error.cure)
            return None
        self.send(*answers)
        await self._hall.greet(place)
        return place

    async def _answer(self, place: Place, frame: str | bytes) -> bool:
        """Answer one message; return whether it was the last."""
        received_ms = self._hall.around.clock()
        at_ms: int | None = None
        try:
            if isinstance(frame, bytes):
                at_ms, jpeg = say.read_shot(frame)
                await self._shot(place, at_ms, jpeg, received_ms)
                return False
            message = say.read_text(frame)
            if isinstance(message, say.Bye):
                return True
            if isinstance(message, say.Look):
                at_ms = message.at_ms
            answers = await self._hall.ask(place, lambda: _say(place, message, received_ms))
            self.send(*answers)
        except PhoError as error:
            self._metrics.message_refused(getattr(error, "reason", "invalid"))
            if at_ms is not None:
                # It counts as answered, or a page that waits for it would never send another.
                self.send(place.session.unseen(at_ms))
            self.send(say.Problem(error.problem, error.cure, fatal=False))
        return False

    async def _shot(self, place: Place, at_ms: int, jpeg: bytes, received_ms: int) -> None:
        session = place.session
        look = await self._hall.see(lambda: session.prepare(at_ms, jpeg, received_ms))
        self.send(*await self._hall.ask(place, lambda: session.look(look, at_ms)))


def _say(place: Place, message: say.Incoming, received_ms: int) -> list[Outgoing]:
    session = place.session
    match message:
        case say.Look():
            return session.look(session.read_look(message, received_ms), message.at_ms)
        case say.Shown():
            return session.shown(message, received_ms)
        case say.Notice():
            return session.notice(message)
        case say.ClockAsked():
            return session.clock(message, received_ms)
        case say.Hello():
            problem = "hello came twice"
            raise BadMessage(problem, "Say it once for each connection", "order")
        case _:
            return []


class _Pace:
    """A token bucket: `burst` at once, then `per_second`."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._left = float(burst)
        self._at_s: float | None = None

    def allows(self, now_s: float) -> bool:
        """Take one; return whether there was one."""
        passed_s = 0.0 if self._at_s is None else now_s - self._at_s
        self._at_s = now_s
        self._left = min(self._burst, self._left + passed_s * self._per_second)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
