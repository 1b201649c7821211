"""All kiosks of a gateway: who is connected, whose visit waits for its page, whom to greet.

Lives in the event loop; what the log or a model may hold up runs in threads, one call at a time
for each kiosk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from schemas.decisions import EndReason, GreetingIssued
from schemas.errors import PhoError
from serving.gateway.greeting_board import GreetingBoard
from serving.gateway.kiosk_messages import Outgoing
from serving.gateway.kiosk_session import KioskSession, Surroundings

_logger = logging.getLogger(__name__)
T = TypeVar("T")

BRIDGE_S = 10.0
"""So long a visit waits for its page to come back, or to see again; then its camera is lost."""
_TIDY_EVERY_S = 0.5
# Two pictures at once keep two cores busy; a model of its own for each thread is 10 MB.
_EYES = 2
# Each may stand in an append that a broker holds up for 10 s.
_HANDS = 16


class Line(Protocol):
    """The way to a kiosk's page."""

    def send(self, *messages: Outgoing) -> None:
        """Send; never waits."""
        ...

    def close(self, code: int, problem: str, cure: str) -> None:
        """Say why, and end it; never waits."""
        ...


class Place:
    """A kiosk in the hall.

    Parameters
    ----------
    session : KioskSession
        What is known of it.
    """

    def __init__(self, session: KioskSession) -> None:
        self.session = session
        self.turn = asyncio.Lock()
        self.line: Line | None = None
        self.lost_s = 0.0


class KioskHall:
    """All kiosks of a gateway.

    Parameters
    ----------
    around : Surroundings
        What kiosks share.
    make_board : callable
        Makes the board, given what to tell each greeting.
    max_kiosks : int
        Kiosks at once.
    bridge_s : float
        How long a visit waits for its page, seconds.
    """

    def __init__(
        self,
        around: Surroundings,
        make_board: Callable[[Callable[[GreetingIssued], None]], GreetingBoard],
        max_kiosks: int,
        bridge_s: float = BRIDGE_S,
    ) -> None:
        self.around = around
        self._max_kiosks = max_kiosks
        self._bridge_s = bridge_s
        self._places: dict[str, Place] = {}
        self._eyes = ThreadPoolExecutor(_EYES, "kiosk-eyes")
        self._hands = ThreadPoolExecutor(_HANDS, "kiosk-hands")
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.board = make_board(self._issued)

    # Its life

    def open(self) -> None:
        """Start; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._start(self._tidy())
        self.board.start()

    async def close(self) -> None:
        """Stop, and send every page away, to come back to the next gateway.

        Visits go on: a restart is no end of a visit, and who does not come back is closed by the
        deadline of the window.
        """
        for place in self._places.values():
            if place.line is not None:
                place.line.close(1012, "the gateway stops", "Connect again in a moment")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.board.close)
        self._eyes.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._hands.shutdown)

    # For the sockets

    async def enter(self, kiosk_id: str, line: Line) -> Place | None:
        """Return the place of a kiosk, made now or found again; None: there is no room.

        Another page of the same kiosk is sent away: the newest counts, as after a reload.
        """
        place = self._places.get(kiosk_id)
        if place is None:
            if len(self._places) >= self._max_kiosks and not self._make_room():
                return None
            place = self._places[kiosk_id] = Place(KioskSession(kiosk_id, self.around))
        if place.line is not None:
            place.line.close(
                4409, f"another page is kiosk {kiosk_id!r} now", "Give each page an id of its own"
            )
        place.line = line
        return place

    def leave(self, place: Place, line: Line, reason: EndReason | None = None) -> None:
        """Note that a page is gone; with a reason, its visit is not waited for."""
        if place.line is not line:
            return  # another page took its place
        place.line = None
        place.lost_s = self._now_s()
        if reason is not None:
            self._start(self._end(place, reason, forget=True))

    async def ask(self, place: Place, what: Callable[[], T]) -> T:
        """Let a session do something in a thread, when its turn comes."""
        async with place.turn:
            return await asyncio.get_running_loop().run_in_executor(self._hands, what)

    async def see(self, what: Callable[[], T]) -> T:
        """Let somebody look at pixels in a thread of those that have models."""
        return await asyncio.get_running_loop().run_in_executor(self._eyes, what)

    async def greet(self, place: Place) -> None:
        """Send the greeting of who stands at a kiosk, where one waits."""
        visit_id = place.session.visit_id
        greeting = None if visit_id is None else self.board.of(visit_id)
        if greeting is not None and place.line is not None:
            messages = await self.ask(place, lambda: place.session.greet(greeting))
            if place.line is not None:
                place.line.send(*messages)

    # Inside

    def _issued(self, greeting: GreetingIssued) -> None:
        """Hand on a greeting, from the board's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, greeting.kiosk_id)

    def _deliver(self, kiosk_id: str) -> None:
        place = self._places.get(kiosk_id)
        if place is not None and place.line is not None:
            self._start(self.greet(place))

    async def _tidy(self) -> None:
        """End the visits of pages that stay away, or see nothing any more."""
        while True:
            await asyncio.sleep(_TIDY_EVERY_S)
            now_s, now_ms = self._now_s(), self.around.clock()
            for kiosk_id, place in list(self._places.items()):
                blind_ms = now_ms - place.session.looked_at_ms
                if place.turn.locked():
                    continue
                if place.line is None and now_s - place.lost_s >= self._bridge_s:
                    if place.session.visit_id is None:
                        self._forget(kiosk_id, place)
                    else:
                        await self._end(place, "camera_lost", forget=True)
                elif place.session.visit_id is not None and blind_ms >= self._bridge_s * 1_000:
                    await self._end(place, "camera_lost", forget=False)

    async def _end(self, place: Place, reason: EndReason, *, forget: bool) -> None:
        try:
            messages = await self.ask(place, lambda: place.session.end(reason))
        except PhoError as error:
            # Nothing was written: the place stays, and it is tried again in half a second.
            _logger.info("the end of a visit waits: %s", error)
            return
        if place.line is not None:
            place.line.send(*messages)
        elif forget:
            self._forget(place.session.kiosk_id, place)

    def _forget(self, kiosk_id: str, place: Place) -> None:
        if place.line is None and self._places.get(kiosk_id) is place:
            del self._places[kiosk_id]

    def _make_room(self) -> bool:
        """Forget one kiosk whose page is gone and where nobody stands; return whether one was."""
        for kiosk_id, place in self._places.items():
            if place.line is None and place.session.visit_id is None and not place.turn.locked():
                del self._places[kiosk_id]
                return True
        return False

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("work for a kiosk failed", exc_info=error)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
