"""The gateway's application: doors, pages, the kiosks' socket, the owner's API, health."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from connectors.face_models import FaceFinder
from schemas.errors import PhoError, UsageError
from serving.demo import tracker_settings
from serving.gateway import (
    health,
    kiosk_page,
    kiosk_socket,
    owner_routes,
    speech,
    ticket_routes,
    trust,
    vendor,
)
from serving.gateway.bad_requests import explain_bad_requests
from serving.gateway.certificates import Certificate
from serving.gateway.doors import DoorRules, Doors
from serving.gateway.doors_openapi import document_doors
from serving.gateway.greeting_board import GreetingBoard
from serving.gateway.kiosk_hall import BRIDGE_S, KioskHall
from serving.gateway.kiosk_session import Surroundings
from serving.gateway.known_visits import known_visit
from serving.gateway.security_headers import SecurityHeaders
from serving.gateway.shop import Shop
from serving.gateway.spending_metrics import add_spending

PAGES = Path(str(resources.files("serving.gateway").joinpath("pages")))
_FOLDER_POLL_S = 0.005
_BROKER_POLL_S = 0.1


def make_app(
    shop: Shop, certificate: Certificate | None = None, bridge_s: float = BRIDGE_S
) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    shop : Shop
        What its parts share; it must stay open as long as the application runs.
    certificate : Certificate or None
        The gateway's own, where it has made one.
    bridge_s : float
        How long a visit waits for its page to come back, seconds.
    """
    gateway = shop.settings.gateway
    hall = make_hall(shop, bridge_s)
    if shop.settings.analysis.analyser == "rekognition":
        add_spending(shop.metrics.registry, shop.settings.data)

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        hall.open()
        try:
            yield
        finally:
            await hall.close()

    app = FastAPI(
        title="PHO gateway",
        version="1",
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=running,
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(
                Doors,
                rules=DoorRules.of(gateway.host, gateway.port, gateway.hosts),
                keys=shop.keys,
                tickets=shop.tickets,
                refused=shop.metrics.request_refused,
            ),
        ],
    )
    app.add_exception_handler(PhoError, _explain)
    app.include_router(health.router(shop))
    app.include_router(ticket_routes.router(shop))
    app.include_router(trust.router(certificate))
    app.include_router(owner_routes.router(shop))
    app.include_router(vendor.router(shop.settings.cache))
    app.include_router(kiosk_page.router(shop.settings))
    app.include_router(speech.router(shop.settings))
    app.include_router(kiosk_socket.router(hall, shop.metrics, gateway.shots_per_second))
    _add_pages(app)
    explain_bad_requests(app)
    document_doors(app)
    return app


def make_hall(shop: Shop, bridge_s: float) -> KioskHall:
    """Return the kiosks of a shop, not yet open."""
    settings, gateway = shop.settings, shop.settings.gateway
    around = Surroundings(
        loop=settings.loop(settings.kiosk.loop),
        tracker=tracker_settings(settings),
        posted=settings.kiosk.notice == "posted",
        language=settings.kiosk.language,
        shots_per_second=gateway.shots_per_second,
        shot_width=gateway.shot_width,
        finder=FaceFinder("short_range", settings.cache),
        pictures=shop.pictures,
        log=shop.log,
        clock=shop.clock,
        known=lambda visit_id: known_visit(shop.open_log, visit_id),
        metrics=shop.metrics,
        speech=speech.offered(settings),
    )
    poll_s = _BROKER_POLL_S if settings.log.address else _FOLDER_POLL_S
    return KioskHall(
        around,
        lambda issued: GreetingBoard(shop.open_log, shop.clock, issued, poll_s),
        gateway.max_kiosks,
        bridge_s,
    )


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def home() -> RedirectResponse:
        """Lead to the kiosk's page."""
        return RedirectResponse("/kiosk/")

    for name in ("kiosk", "owner"):
        folder = PAGES / name
        if folder.is_dir():
            app.mount(f"/{name}", StaticFiles(directory=folder, html=True), name=name)


async def _explain(_request: Request, error: Exception) -> JSONResponse:
    """Answer with what is wrong and what to do: 400 where the caller can mend it, else 503."""
    assert isinstance(error, PhoError)  # noqa: S101 - registered for nothing else
    status = 400 if isinstance(error, UsageError) else 503
    return JSONResponse({"problem": error.problem, "cure": error.cure}, status_code=status)
