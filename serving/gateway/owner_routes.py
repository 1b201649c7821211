"""The API of the owner's page: what was learned, the newest decisions, receipts, and what comes.

Whatever reads the log or the fold blocks, and runs in a thread; the event loop serves the kiosks.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, FastAPI, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse

from connectors.logs import Log
from engines.job import StopFlag
from schemas.checks import ID_LENGTH_MAX
from schemas.errors import PhoError, ResourceError, UsageError
from serving.forgotten import without_erased
from serving.gateway import owner_models as told
from serving.gateway.owner_board import OwnerBoard
from serving.gateway.owner_receipts import Receipts, ReceiptTold
from serving.gateway.owner_summary import decisions, ledger_told, summary
from serving.receipt_reading import NoSuchDecision
from serving.replay.verdicts import LAG_MS
from serving.settings import Settings

PAGE_MAX = 200
"""Decisions in one answer."""
STREAMS_MAX = 32
"""Pages that are told of changes at once; each is a connection that stays open."""
LOOK_S = 0.5
"""How often it is looked whether there is something new to tell."""
BEAT_S = 10.0
"""A page is told at least so often: its clock moves on, and a dead connection is found."""
_JSON = "application/json"
_EVENTS = "text/event-stream"
_ID = r"^[!-~]([ -~]{0,254}[!-~])?$"
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {_EVENTS: {"schema": {"type": "string"}}}}
}
_REFUSED: dict[int | str, dict[str, Any]] = {
    status: {"model": told.Problem} for status in (401, 403, 404, 421, 429, 503)
}

Loop = Annotated[
    str | None,
    Query(max_length=ID_LENGTH_MAX, pattern=_ID, description="The loop; without it the kiosk's."),
]
DecisionId = Annotated[
    str, Path(max_length=ID_LENGTH_MAX, pattern=_ID, description="The decision, or its visit.")
]


class ShopOfOwner(Protocol):
    """What of the shop is needed here."""

    @property
    def settings(self) -> Settings:
        """Where the log is, and which loop greets."""
        ...

    @property
    def clock(self) -> Callable[[], int]:
        """Returns ms since 1970 UTC."""
        ...

    @property
    def stop(self) -> StopFlag:
        """Set when the gateway is to end."""
        ...

    def open_log(self) -> Log:
        """Open a reader of its own, for one thread."""
        ...


class NoSuchLoop(UsageError):
    """The log has no loop of that name."""


class Desk:
    """Answers what the routes ask: the fold under its lock, each answer made once.

    Parameters
    ----------
    shop : ShopOfOwner
        Where the log is.
    """

    def __init__(self, shop: ShopOfOwner) -> None:
        settings = shop.settings

        def opened() -> Log:
            return without_erased(settings, shop.open_log())

        self.receipts = Receipts(opened)
        self.board = OwnerBoard(opened, self.receipts.keep_up)
        self.clock = shop.clock
        self.stop = shop.stop
        self._loop_id = settings.kiosk.loop
        self._made: dict[str | None, tuple[tuple[int, int], bytes]] = {}
        self._making = threading.Lock()

    def loop_id(self, wanted: str | None) -> str | None:
        """Return the loop to tell of: the one named, the kiosk's, or any; None: there is none yet.

        Raises
        ------
        NoSuchLoop
            When the one named is not in the log.
        """
        known = self.board.fold.loops
        if wanted is None:
            return self._loop_id if self._loop_id in known else next(iter(sorted(known)), None)
        if wanted not in known and self.board.reading.caught_up:
            problem = f"the log has no loop {wanted!r}"
            raise NoSuchLoop(problem, f"There is {', '.join(sorted(known)) or 'none yet'}")
        return wanted

    def version(self) -> tuple[int, int]:
        """Return what changes when a page would: what was read, and the clock in steps."""
        return self.board.changes, int(self.clock() / (BEAT_S * 1_000))

    def summary(self, wanted: str | None) -> bytes:
        """Return the summary as JSON; for many pages it is made once."""
        self.board.start()
        with self._making:
            with self.board.lock:
                loop_id = self.loop_id(wanted)
                version = self.version()
                made = self._made.get(loop_id)
                if made is not None and made[0] == version:
                    return made[1]
                found = summary(self.board, loop_id, self.clock())
            data = found.model_dump_json().encode()
            self._made[loop_id] = (version, data)
            return data

    def hour(self, wanted: str | None) -> told.Hour:
        """Return the last hour."""
        self.board.start()
        with self.board.lock:
            loop_id = self.loop_id(wanted)
            found = summary(self.board, loop_id, self.clock())
        return found.hour

    def ledger(self) -> told.LedgerTold:
        """Return the ledger of all loops."""
        self.board.start()
        with self.board.lock:
            fold = self.board.fold
            return ledger_told(fold.book.ledger(fold.sides, self.board.complete_ms, LAG_MS))

    def decisions(self, wanted: str | None, before: int | None, limit: int) -> told.Decisions:
        """Return decisions, newest first."""
        self.board.start()
        with self.board.lock:
            return decisions(self.board, self.loop_id(wanted), before, limit)


def router(shop: ShopOfOwner) -> APIRouter:
    """Return the routes; what they hold is let go when the application ends."""
    desk = Desk(shop)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await run_in_threadpool(desk.board.close)

    routes = APIRouter(prefix="/api/owner", tags=["owner"], lifespan=lifespan, responses=_REFUSED)

    @routes.get("/summary", response_model=told.Summary)
    def get_summary(loop: Loop = None) -> Response:
        """Tell everything the owner's page shows of one loop."""
        return _answered(lambda: Response(desk.summary(loop), media_type=_JSON))

    @routes.get("/hour", response_model=told.Hour)
    def get_hour(loop: Loop = None) -> Response:
        """Tell the last hour, minute by minute."""
        return _answered(lambda: _json(desk.hour(loop)))

    @routes.get("/ledger", response_model=told.LedgerTold)
    def get_ledger() -> Response:
        """Count decisions: rewarded + defaulted + dropped + not activated + open, of all loops."""
        return _answered(lambda: Response(told.LEDGER.dump_json(desk.ledger()), media_type=_JSON))

    @routes.get("/decisions", response_model=told.Decisions)
    def get_decisions(
        loop: Loop = None,
        before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 50,
    ) -> Response:
        """List decisions, newest first, with what became of each."""
        return _answered(lambda: _json(desk.decisions(loop, before, limit)))

    @routes.get("/receipts/{decision_id:path}", response_model=ReceiptTold)
    def get_receipt(decision_id: DecisionId) -> Response:
        """Tell one decision's whole story, read back from the log."""
        return _answered(lambda: _json(desk.receipts.read(decision_id)))

    _add_live(routes, desk)
    return routes


def _add_live(routes: APIRouter, desk: Desk) -> None:
    """Add the stream of summaries."""
    open_streams = 0

    @routes.get("/live", response_class=StreamingResponse, responses=_STREAM)
    async def get_live(request: Request, loop: Loop = None) -> Response:
        """Send server-sent events `summary`, each the same document, whenever it changed."""
        nonlocal open_streams
        if open_streams >= STREAMS_MAX:
            problem = f"{open_streams} pages are open already"
            return _problem(503, problem, "Close one, or ask again later")
        first = await run_in_threadpool(_answered, lambda: Response(desk.summary(loop)))
        if first.status_code != 200:
            return first
        open_streams += 1

        async def events() -> AsyncIterator[bytes]:
            nonlocal open_streams
            try:
                async for event in _events(desk, loop, request):
                    yield event
            finally:
                open_streams -= 1

        return StreamingResponse(events(), media_type=_EVENTS)


async def _events(desk: Desk, loop: str | None, request: Request) -> AsyncIterator[bytes]:
    told_of: tuple[int, int] | None = None
    # The server waits for open connections before it ends: told to stop, this one ends itself.
    while not desk.stop.is_set() and not await request.is_disconnected():
        version = desk.version()
        if version != told_of:
            told_of = version
            try:
                data = await run_in_threadpool(desk.summary, loop)
            except PhoError as error:
                yield _event("away", told.Problem(problem=error.problem, cure=error.cure))
                return
            yield b"event: summary\ndata: " + data + b"\n\n"
        await asyncio.sleep(LOOK_S)


def _event(name: str, value: told.Answer) -> bytes:
    return f"event: {name}\ndata: {value.model_dump_json()}\n\n".encode()


def _json(value: told.Answer) -> Response:
    return Response(value.model_dump_json(), media_type=_JSON)


def _problem(status: int, problem: str, cure: str) -> JSONResponse:
    return JSONResponse({"problem": problem, "cure": cure}, status_code=status)


def _answered(answer: Callable[[], Response]) -> Response:
    """Return an answer, or why there is none."""
    try:
        return answer()
    except (NoSuchDecision, NoSuchLoop) as error:
        return _problem(404, error.problem, error.cure)
    except ResourceError as error:
        return _problem(503, error.problem, error.cure)
    except UsageError as error:
        # The log is not there yet: a gateway that was started before its job.
        return _problem(503, error.problem, error.cure)
