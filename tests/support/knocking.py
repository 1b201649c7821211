"""Knocks at the doors as a browser, a program or a foreign page does, without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.gateway.doors import Caller, DoorRules, Doors, Scoped, caller_of
from serving.gateway.failed_keys import FailedKeys
from serving.gateway.keys import KeyRing
from serving.gateway.tickets import Tickets

HOST = "127.0.0.1:8750"
HERE = ("127.0.0.1", 50_000)
ELSEWHERE = ("192.168.1.44", 50_000)
LOOPBACK = DoorRules.of("127.0.0.1", 8750)
NETWORK = DoorRules.of("192.168.1.10", 8750, ["shop.example"])


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    """0: a WebSocket was accepted."""
    caller: Caller | None
    """Whom the application behind the doors saw; None: nobody came through."""
    headers: dict[str, str]
    body: Any


class Behind:
    """An application that answers everything and notes who came."""

    def __init__(self) -> None:
        self.caller: Caller | None = None

    async def __call__(self, scope: Scoped, receive: Any, send: Any) -> None:
        self.caller = caller_of(scope)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


class House:
    """Doors with an application behind them."""

    def __init__(
        self,
        rules: DoorRules,
        keys: KeyRing,
        clock: Callable[[], int] | None = None,
        failures: FailedKeys | None = None,
        app: Any = None,
    ) -> None:
        self.behind = Behind()
        self.keys = keys
        self.tickets = Tickets(keys, clock)
        self.refused: list[str] = []
        self.doors = Doors(
            app or self.behind,
            rules,
            keys,
            self.tickets,
            refused=self.refused.append,
            failures=failures,
        )

    def get(self, path: str, **how: Any) -> Answer:
        """Knock with GET."""
        return self.knock("http", path, **how)

    def open(self, path: str = "/kiosk/socket", ticket: str | None = None, **how: Any) -> Answer:
        """Knock with a WebSocket."""
        headers = dict(how.pop("headers", {}))
        if ticket is not None:
            headers["sec-websocket-protocol"] = f"pho.kiosk.v1, ticket.{ticket}"
        return self.knock("websocket", path, headers=headers, **how)

    def knock(
        self,
        kind: str,
        path: str,
        *,
        method: str = "GET",
        host: str | None = HOST,
        key: str | None = None,
        client: tuple[str, int] | None = HERE,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        scheme: str = "",
    ) -> Answer:
        """Knock; see `Answer`."""
        pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        if host is not None:
            pairs.append(("host", host))
        if key is not None:
            pairs.append(("authorization", f"Bearer {key}"))
        scope = {
            "type": kind,
            "path": path,
            "scheme": scheme or {"http": "http", "websocket": "ws"}[kind],
            "headers": [(name.encode(), value.encode()) for name, value in pairs],
            "client": client,
        }
        if kind == "http":
            scope["method"] = method
        self.behind.caller = None
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "websocket.connect" if kind == "websocket" else "http.request"}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        asyncio.run(self.doors(scope, receive, send))
        return _answer(sent, self.behind.caller)


def _answer(sent: list[MutableMapping[str, Any]], caller: Caller | None) -> Answer:
    first = sent[0]
    if first["type"] == "websocket.accept":
        return Answer(0, caller, {}, None)
    if first["type"] == "websocket.close":
        return Answer(403, caller, {}, None)
    headers = {name.decode(): value.decode() for name, value in first["headers"]}
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(first["status"], caller, headers, json.loads(body) if body else None)
