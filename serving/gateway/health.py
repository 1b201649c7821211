"""/health, /ready and /metrics: whether it lives, whether it can work, and what it did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, Protocol

from fastapi import APIRouter, FastAPI, Response
from pydantic import BaseModel

from connectors.logs import Log
from serving.gateway.log_watch import LogWatch, Seen
from serving.gateway.metrics import CONTENT_TYPE, Metrics
from serving.opening import open_log
from serving.settings import Settings


class ShopOfHealth(Protocol):
    """What of the shop is looked at here."""

    @property
    def settings(self) -> Settings:
        """Where the log is."""
        ...

    @property
    def metrics(self) -> Metrics:
        """What was counted."""
        ...

    @property
    def clock(self) -> Callable[[], int]:
        """Returns ms since 1970 UTC."""
        ...


class Alive(BaseModel):
    """The answer of /health."""

    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """The answer of /ready: numbers only, since nobody is asked for a key here."""

    ready: bool
    """Whether greetings can be served and what kiosks report can be kept."""
    problems: list[str]
    """Why not, for a person."""
    job: Literal["answers", "behind", "unknown"]
    """Whether the analysis keeps up; while it does not, kiosks greet with the baseline."""
    newest_record_age_ms: int | None
    """Since the newest record that came while this gateway ran; at night nothing comes."""
    newest_analysis_age_ms: int | None
    """Since the newest analysis."""
    unanswered_frames: int
    """Frames of the last minute without an answer."""
    job_lag_ms: int
    """Age of the oldest of them."""


def readiness(seen: Seen) -> Readiness:
    """Say what was seen.

    A job that is behind does not make a gateway unready: it still takes frames and keeps what
    kiosks report, and sending its kiosks elsewhere would help none of them.
    """
    problems = [] if seen.log_answers else ["the log does not answer: see `pho doctor`"]
    return Readiness(
        ready=seen.log_answers,
        problems=problems,
        job=seen.job,
        newest_record_age_ms=seen.newest_record_age_ms,
        newest_analysis_age_ms=seen.newest_analysis_age_ms,
        unanswered_frames=seen.unanswered_frames,
        job_lag_ms=seen.job_lag_ms,
    )


def router(shop: ShopOfHealth) -> APIRouter:
    """Return the routes; they follow the log while the application runs."""

    def open_here() -> Log:
        return open_log(shop.settings, must_exist=False)

    watch = LogWatch(open_here, shop.metrics, shop.clock)

    @asynccontextmanager
    async def watched(_app: FastAPI) -> AsyncIterator[None]:
        watch.start()
        try:
            yield
        finally:
            watch.close()

    routes = APIRouter(tags=["health"], lifespan=watched)

    @routes.get("/health")
    async def health() -> Alive:
        """Answer while the process answers at all: for a supervisor that starts it again."""
        return Alive()

    @routes.get("/ready", responses={503: {"model": Readiness}})
    async def ready(response: Response) -> Readiness:
        """Say whether it can work: 200, or 503 with the reasons; for a load balancer."""
        found = readiness(watch.seen())
        response.status_code = 200 if found.ready else 503
        return found

    @routes.get("/metrics", response_class=Response, responses={200: {"content": _TEXT}})
    async def metrics() -> Response:
        """Return what was counted, for Prometheus; takes an owner's key off loopback."""
        watch.seen()
        return Response(shop.metrics.text(), media_type=CONTENT_TYPE)

    return routes


_TEXT: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
