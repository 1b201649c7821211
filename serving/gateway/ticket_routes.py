"""POST /api/tickets: a ticket for a socket, for whoever shows a key."""

from __future__ import annotations

from typing import Literal, Protocol

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from serving.gateway.doors import caller_of
from serving.gateway.metrics import Metrics
from serving.gateway.tickets import TicketRefused, Tickets


class ShopOfTickets(Protocol):
    """What of the shop is needed here."""

    @property
    def tickets(self) -> Tickets:
        """Gives them."""
        ...

    @property
    def metrics(self) -> Metrics:
        """Counts them."""
        ...


class TicketWanted(BaseModel):
    """What a page asks for."""

    model_config = ConfigDict(extra="forbid")

    scope: Literal["kiosk", "owner"]
    """The socket it wants to open."""


class TicketGiven(BaseModel):
    """A ticket: offer it as the sub-protocol ``ticket.`` and this text, once."""

    ticket: str
    """Letters, digits, ``-``, ``_`` and one dot."""
    expires_in_ms: int
    """How long it waits to be shown."""


class Refused(BaseModel):
    """Why not, and what to do."""

    problem: str
    cure: str


def router(shop: ShopOfTickets) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["tickets"])

    @routes.post(
        "/api/tickets",
        response_model=TicketGiven,
        responses={status: {"model": Refused} for status in (401, 403, 421, 429, 503)},
    )
    def tickets(wanted: TicketWanted, request: Request) -> TicketGiven | JSONResponse:
        """Give a ticket that opens one socket within 30 s."""
        try:
            given = shop.tickets.issue(caller_of(request.scope), wanted.scope)
        except TicketRefused as error:
            refused = Refused(problem=error.problem, cure=error.cure)
            return JSONResponse(refused.model_dump(), status_code=403)
        shop.metrics.ticket_given(wanted.scope)
        return TicketGiven(ticket=given.ticket, expires_in_ms=given.expires_in_ms)

    return routes
