"""A gateway that does what a test tells it: for states of the kiosk page that no real one is in
just when a picture of them is wanted.

It speaks version 1 of the kiosk's protocol and serves the real pages under the real headers. What
it answers of itself: welcome, clock, seen and shown.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocketDisconnect

from serving.gateway import speech, vendor
from serving.gateway.app import PAGES
from serving.gateway.kiosk_page import page_settings
from serving.gateway.security_headers import SecurityHeaders
from serving.settings import Settings, load
from waiting import wait_until

VISIT = "kiosk-1-0a1b2c3d-1"


class ScriptedGateway:
    """Serves the kiosk page on a port of its own. Use as a context.

    Parameters
    ----------
    key : str or None
        The key it asks for; None: everybody may come in.
    settings : Settings or None
        Of its pages and of its voice; None: those that are shipped.
    page : dict
        What differs of ``/kiosk/settings.json``.
    """

    def __init__(
        self, key: str | None = None, settings: Settings | None = None, **page: Any
    ) -> None:
        self.key = key
        self.settings = settings or load(None, {}, {})
        self.page = {**page_settings(self.settings), **page}
        self.heard: list[dict[str, Any]] = []
        self.pictures = 0
        self.presence: dict[str, Any] = {"box": None, "stage": "nobody"}
        self.acknowledges = True
        self.answers_shots = True
        self.silent = False
        self.port = 0
        self._socket: WebSocket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def address(self) -> str:
        """The kiosk page's address."""
        return f"http://localhost:{self.port}/kiosk/"

    def __enter__(self) -> ScriptedGateway:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the port of before if there was one."""
        config = uvicorn.Config(
            self._app(),
            host="127.0.0.1",
            port=self.port,
            lifespan="off",
            log_level="critical",
            timeout_graceful_shutdown=1,
            ws="websockets-sansio",
        )
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        wait_until(lambda: server.started)
        self.port = server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Go away, as a gateway does that was killed."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(10)
        self._server = self._socket = None

    def send(self, kind: str, **message: Any) -> None:
        """Say something to the page that is connected."""
        wait_until(lambda: self._socket is not None)
        assert self._loop is not None
        told = self._tell({"type": kind, **message})
        asyncio.run_coroutine_threadsafe(told, self._loop).result(5)

    def somebody(self, stage: str = "present", left: float = 0.3) -> None:
        """Let a visitor stand there from now on."""
        box = {"left": left, "top": 0.2, "width": 0.3, "height": 0.5}
        self.presence = {"box": box, "stage": stage}

    def nobody(self) -> None:
        """Let nobody stand there."""
        self.presence = {"box": None, "stage": "nobody"}

    def begin(self, visit_id: str = VISIT) -> None:
        """Let a visit begin."""
        resume = {
            "visit_id": visit_id,
            "sequence": 0,
            "shown_at_ms": None,
            "post_frame_ids": [],
            "started_at_ms": 1,
        }
        self.somebody()
        self.send("visit", state="started", visit_id=visit_id, resume=resume)

    def greet(self, text: str, mood: str = "warm", visit_id: str = VISIT, **more: Any) -> None:
        """Send a greeting."""
        greeting = {
            "decision_id": visit_id,
            "visit_id": visit_id,
            "loop_id": "greeting",
            "action_id": mood,
            "text": text,
            "language": "en",
            "voice": "",
            "mood": mood,
            "expires_at_ms": round(time.time() * 1000) + 5_000,
            "expires_in_ms": 5_000,
        }
        self.send("greeting", **{**greeting, **more})

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return what the page said of one kind."""
        return [message for message in self.heard if message["type"] == kind]

    def wait_for(self, kind: str, count: int = 1, seconds: float = 30.0) -> list[dict[str, Any]]:
        """Wait until the page said so many of one kind; return them."""
        wait_until(lambda: len(self.of(kind)) >= count, seconds)
        return self.of(kind)

    def _app(self) -> FastAPI:
        app = FastAPI()
        app.add_middleware(SecurityHeaders)
        app.include_router(vendor.router(None))
        app.include_router(speech.router(self.settings))
        app.add_api_route("/kiosk/settings.json", lambda: self.page)
        app.add_api_route("/api/kiosk/me", lambda: {"kiosk_id": "door-7"})
        app.add_api_route("/api/tickets", self._ticket, methods=["POST"], response_model=None)
        app.add_api_websocket_route("/kiosk/socket", self._serve)
        app.mount("/kiosk", StaticFiles(directory=PAGES / "kiosk", html=True))
        return app

    def _ticket(self, request: Request) -> Response:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            told = {"problem": "there is no key", "cure": "Make one with `pho keys`"}
            return JSONResponse(told, 401)
        return JSONResponse({"ticket": "once", "expires_in_ms": 30_000})

    async def _serve(self, socket: WebSocket) -> None:
        self._loop = asyncio.get_running_loop()
        assert socket.scope["subprotocols"] == ["pho.kiosk.v1", "ticket.once"]
        await socket.accept("pho.kiosk.v1")
        self._socket = socket
        try:
            while True:
                await self._answer(await socket.receive())
        except (WebSocketDisconnect, RuntimeError):
            if self._socket is socket:
                self._socket = None

    async def _answer(self, frame: Any) -> None:
        if frame["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        data = frame.get("bytes")
        if data is not None:
            length = int.from_bytes(data[:4], "big")
            message = json.loads(data[4 : 4 + length])
            assert data[4 + length : 6 + length] == b"\xff\xd8"  # how a JPEG begins
            self.pictures += 1
        else:
            message = json.loads(frame["text"])
        self.heard.append(message)
        match message["type"]:
            case "hello":
                await self._welcome(message)
            case "shot" | "look" if self.answers_shots:
                faces = int(self.presence["box"] is not None)
                seen = {"at_ms": message["at_ms"], "faces": faces, "visit_id": None}
                await self._tell({"type": "seen", **seen, **self.presence})
            case "clock":
                sent = message["sent_at_ms"]
                await self._tell({"type": "clock", "sent_at_ms": sent, "server_ms": sent})
            case "shown" if self.acknowledges:
                await self._tell({"type": "shown", "decision_id": message["decision_id"]})

    async def _welcome(self, hello: dict[str, Any]) -> None:
        welcome = {
            "type": "welcome",
            "protocol": 1,
            "kiosk_id": hello["kiosk_id"],
            "loop_id": "greeting",
            "loop_name": "greeting",
            "baseline": self.page["baseline"],
            "shots_per_second": 4.0,
            "shot_width": 480,
            "server_ms": hello["sent_at_ms"],
            "sent_at_ms": hello["sent_at_ms"],
            "speech": msgspec.to_builtins(speech.offered(self.settings)),
        }
        await self._tell(welcome)

    async def _tell(self, message: dict[str, Any]) -> None:
        if self._socket is not None and not self.silent:
            await self._socket.send_text(json.dumps(message))
