"""Every route of the application, found by looking into it: who gets an answer from which."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Mount

from running_gateways import shop_at
from serving.gateway.app import make_app
from serving.gateway.shop import Shop

BASE = "http://192.168.1.10:8750"
ELSEWHERE = ("192.168.1.44", 50_000)
OPEN = {
    "/",
    "/health",
    "/ready",
    "/trust",
    "/trust/trust.css",
    "/trust/pho.crt",
    "/static/vendor/x/x",
    "/kiosk/settings.json",
    "/kiosk/x",
    "/owner/x",
}
"""What answers whoever asks: pages, and what a load balancer asks. A new one is a decision."""
ENDLESS = "/api/owner/live"
FOR_KIOSKS = {
    "/api/tickets",
    "/api/kiosk/me",
    "/api/kiosk/speech/x/x/x",
    "/api/kiosk/speech/x/x/x/marks",
}
"""What a kiosk's key opens beside that."""


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Yield method and path of every route, at any depth; ``WS`` for a WebSocket."""
    yield from _below(app.routes, "")


def _below(found: list[Any], prefix: str) -> Iterator[tuple[str, str]]:
    for route in found:
        if (included := getattr(route, "original_router", None)) is not None:
            yield from _below(included.routes, prefix)
        elif isinstance(route, Mount):
            yield "GET", f"{prefix}{route.path}/x"
        else:
            path = "/".join("x" if part.startswith("{") else part for part in route.path.split("/"))
            for method in getattr(route, "methods", None) or ("WS",):
                yield method, prefix + path


def status(app: FastAPI, method: str, path: str, key: str | None = None) -> int:
    """Return what a machine of the shop's network is answered; 0: a WebSocket was accepted."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    if method == "WS":
        return asyncio.run(_socket_status(app, path, headers))
    return request(app, method, path, headers).status_code


def request(
    app: FastAPI, method: str, path: str, headers: dict[str, str] | None = None
) -> httpx.Response:
    """Ask once, as a machine of the shop's network."""

    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app, False, client=ELSEWHERE)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.request(method, BASE + path, headers=headers)

    return asyncio.run(asked())


async def _socket_status(app: FastAPI, path: str, headers: dict[str, str]) -> int:
    offered = {"host": "192.168.1.10:8750", "sec-websocket-protocol": "pho.kiosk.v1, ticket.x"}
    sent: list[str] = []
    came: Iterator[dict[str, Any]] = iter(
        [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1001}]
    )

    async def receive() -> dict[str, Any]:
        return next(came)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {
        "type": "websocket",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in (offered | headers).items()],
        "subprotocols": ["pho.kiosk.v1", "ticket.x"],
        "client": ELSEWHERE,
        "state": {},
    }
    await app(scope, receive, send)
    return 0 if sent[0] == "websocket.accept" else 403


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = shop_at(tmp_path, host="192.168.1.10", port=8750)
    yield shop
    shop.close()


@pytest.fixture
def app(shop: Shop) -> FastAPI:
    return make_app(shop)


def answering(app: FastAPI, key: str | None = None) -> set[str]:
    """Return the paths that do not refuse: by a key, a scope or a name."""
    return {
        path
        for method, path in routes(app)
        # Whom it lets in it tells for as long as they listen.
        if not (path == ENDLESS and key is not None and key.startswith("pho_owner"))
        if status(app, method, path, key) not in (401, 403, 421, 429)
    }


def test_off_loopback_only_the_open_paths_answer_without_a_key(app: FastAPI) -> None:
    found = list(routes(app))
    assert ("WS", "/kiosk/socket") in found
    assert ("POST", "/api/tickets") in found
    assert ("GET", "/metrics") in found
    assert answering(app) == OPEN


def test_a_kiosks_key_opens_its_ticket_and_nothing_else(app: FastAPI, shop: Shop) -> None:
    _, key = shop.keys.add("kiosk", "door-1")
    assert answering(app, key) == OPEN | FOR_KIOSKS


def test_an_owners_key_opens_no_kiosk(app: FastAPI, shop: Shop) -> None:
    _, key = shop.keys.add("owner")
    everything = {path for _, path in routes(app)}
    owners = {path for path in everything if path.startswith("/api/owner")} - {ENDLESS}
    found = answering(app, key)
    assert len(owners) > 4
    assert found >= {*owners, "/metrics", "/api/openapi.json", "/api/tickets", *OPEN}
    assert found & (FOR_KIOSKS - {"/api/tickets"} | {"/kiosk/socket"}) == set()


@pytest.mark.parametrize("path", ["/tomorrow", "/api/tomorrow", "/healthy", "/trusted", "/static"])
def test_a_route_of_tomorrow_is_refused_until_somebody_opens_it(app: FastAPI, path: str) -> None:
    @app.get(path)
    @app.post(path)
    def tomorrow() -> str:
        return "secret"

    assert {status(app, method, path) for method in ("GET", "POST")} == {401}


def test_a_socket_of_tomorrow_is_refused(app: FastAPI, shop: Shop) -> None:
    @app.websocket("/kiosk/tomorrow")
    async def tomorrow(socket: Any) -> None:
        await socket.accept()

    _, key = shop.keys.add("kiosk", "door-1")
    assert status(app, "WS", "/kiosk/tomorrow") == 403
    assert status(app, "WS", "/kiosk/tomorrow", key) == 403


@pytest.mark.parametrize(
    "path",
    [
        "/kiosk/../api/tickets",
        "/kiosk/..%2f..%2fserver.key",
        "/owner/%2e%2e/%2e%2e/keys.json",
        "/static/vendor/..%2f/x",
        "//metrics",
        "/metrics/",
        "/%6detrics",
        "/trust/..%2fmetrics",
    ],
)
def test_no_spelling_of_a_path_leads_around_the_doors(app: FastAPI, path: str) -> None:
    assert status(app, "GET", path) in (401, 404)


def test_every_answer_carries_the_headers_of_security(app: FastAPI) -> None:
    for path in ("/", "/health", "/trust", "/kiosk/nothing", "/metrics", "/static/vendor/x/x"):
        headers = request(app, "GET", path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path
        assert "unsafe-inline" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "camera=(self)" in headers["permissions-policy"]
    assert request(app, "GET", "/metrics").headers["cache-control"] == "no-store"
