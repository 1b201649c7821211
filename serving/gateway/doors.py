"""The doors: before any page, API or socket, who asks and whether they may.

What is open is a list; everything else, also a route that is added later, is the owner's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil
from typing import Any

import msgspec

from schemas.errors import PhoError
from serving.gateway.failed_keys import FailedKeys
from serving.gateway.keys import EVERYBODY, THIS_MACHINE, Caller, KeyRing, Scope
from serving.gateway.same_origin import LOOPBACK, Authority, DoorRules, is_loopback, is_same_origin
from serving.gateway.security_headers import security_headers
from serving.gateway.tickets import TicketRefused, Tickets

__all__ = ["SUBPROTOCOL", "Caller", "DoorRules", "Doors", "caller_of", "is_open"]

Scoped = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scoped, Receive, Send], Awaitable[None]]

_logger = logging.getLogger(__name__)

KIOSK_SOCKET = "/kiosk/socket"
SUBPROTOCOL = "ticket."
"""What stands before a ticket among a WebSocket's sub-protocols: a browser sends nothing else."""

# Pages and files, that a browser must get before anybody could show a key; they hold no data.
_OPEN = frozenset({"/", "/kiosk", "/owner", "/trust", "/health", "/ready", "/favicon.ico"})
_OPEN_BELOW = ("/kiosk/", "/owner/", "/trust/", "/static/")
_TICKETS = "/api/tickets"
_KIOSK_API = "/api/kiosk/"
_READING = ("GET", "HEAD")
# Who comes through a proxy is not of this machine, though the proxy is.
_FORWARDED = (b"forwarded", b"via", b"x-forwarded-for", b"x-real-ip")

_MAKE_KEY = "Make a key with `pho keys add`, and send it: Authorization: Bearer pho_..."


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why somebody is not let in."""

    status: int
    """401 no key or a wrong one, 403 not theirs, 421 not our name, 429 too often, 503 no keys."""
    reason: str
    """For the metric: one of `REASONS`."""
    problem: str
    """For a person."""
    cure: str
    """What to do."""
    retry_after_s: int = 0
    """With 429: how long to wait."""


REASONS = {
    "host": "called by a name that is none of ours, as in DNS rebinding",
    "origin": "sent by a foreign web page",
    "no_key": "without a key",
    "wrong_key": "with a key that is none of ours, or was revoked",
    "too_often": "wrong keys too often",
    "scope": "with a key that does not open this",
    "ticket": "a WebSocket without a ticket, or with one that opens nothing",
    "keys_file": "the file of keys cannot be used",
}
"""Every reason for which the doors refuse."""


class Doors:
    """ASGI middleware for HTTP and WebSockets; stands before everything else.

    What it lets through has ``scope["state"]["caller"]``.

    Parameters
    ----------
    app : ASGI application
        What stands behind.
    rules : DoorRules
        Where we listen, and our names.
    keys : KeyRing
        Who may come in.
    tickets : Tickets
        What opens a WebSocket.
    refused : callable, optional
        Told the reason of each refusal: `serving.gateway.metrics.Metrics.request_refused`.
    failures : FailedKeys, optional
        How often wrong keys may be shown.
    """

    def __init__(
        self,
        app: App,
        rules: DoorRules,
        keys: KeyRing,
        tickets: Tickets,
        *,
        refused: Callable[[str], None] | None = None,
        failures: FailedKeys | None = None,
    ) -> None:
        self._app = app
        self._rules = rules
        self._keys = keys
        self._tickets = tickets
        self._refused = refused or (lambda _reason: None)
        self._failures = failures or FailedKeys()

    async def __call__(self, scope: Scoped, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            found = self._look(scope)
        except PhoError:
            # Without the file nobody can be told from anybody: nothing opens but the pages. What
            # is wrong holds paths of this machine, so it is told there and not to whoever asks.
            problem = "the file of keys cannot be used"
            found = Refusal(503, "keys_file", problem, "See `pho keys ls` on the gateway's machine")
        if isinstance(found, Refusal):
            self._refused(found.reason)
            await _answer(found, scope, receive, send)
            return
        scope["state"] = {**scope.get("state", {}), "caller": found}
        if scope["type"] == "websocket":
            receive, send = self._while_welcome(found, receive, send)
        await self._app(scope, receive, send)

    def _while_welcome(self, caller: Caller, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """Close a socket at its next message once its key is revoked: it may be open for days."""
        closed = False

        async def receive_while_welcome() -> MutableMapping[str, Any]:
            nonlocal closed
            message = await receive()
            if message["type"] == "websocket.receive" and not self._is_welcome(caller):
                closed = True
                self._refused("wrong_key")
                await send({"type": "websocket.close", "code": 1008, "reason": "key revoked"})
                return {"type": "websocket.disconnect", "code": 1008, "reason": "key revoked"}
            return message

        async def send_while_open(message: MutableMapping[str, Any]) -> None:
            # The application may not have heard of it yet.
            if not closed:
                await send(message)

        return receive_while_welcome, send_while_open

    def _is_welcome(self, caller: Caller) -> bool:
        try:
            if caller.key_id is None:
                return self._keys.is_free()
            return self._keys.get(caller.key_id) is not None
        except PhoError:
            # Nobody new comes in without the file; whoever greets visitors goes on.
            return True

    def _look(self, scope: Scoped) -> Caller | Refusal:
        headers = _Headers(scope)
        host = Authority.parse(headers.one(b"host"))
        if host is None or not self._rules.is_ours(host):
            problem = f"the gateway is not called {headers.one(b'host')[:80]!r}"
            cure = "Call it by its own name, or add the name to gateway.hosts"
            return Refusal(421, "host", problem, cure)
        wanted = _wanted(scope)
        if foreign := _foreign(scope, headers, host, is_page=wanted is None):
            return foreign
        if wanted is None:
            return EVERYBODY
        if self._is_of_this_machine(scope, headers, host):
            return THIS_MACHINE
        if scope["type"] == "websocket":
            return self._by_ticket(headers, wanted)
        return self._by_key(scope, headers, wanted)

    def _is_of_this_machine(self, scope: Scoped, headers: _Headers, host: Authority) -> bool:
        """Whether nobody else can have sent it: then no key is asked for, until one is made."""
        client = scope.get("client")
        return (
            self._rules.loopback
            and host.host in LOOPBACK
            and (client is None or is_loopback(client[0]))
            and not any(headers.has(name) for name in _FORWARDED)
            and self._keys.is_free()
        )

    def _by_ticket(self, headers: _Headers, wanted: frozenset[Scope]) -> Caller | Refusal:
        offered = [part.strip() for part in headers.one(b"sec-websocket-protocol").split(",")]
        shown = [part for part in offered if part.startswith(SUBPROTOCOL)]
        if len(shown) != 1:
            problem = f"a WebSocket needs a ticket, and {len(shown)} are offered"
            cure = f"Offer the sub-protocol {SUBPROTOCOL}TICKET; a ticket: POST {_TICKETS}"
            return Refusal(403, "ticket", problem, cure)
        (scope,) = wanted
        try:
            return self._tickets.redeem(shown[0].removeprefix(SUBPROTOCOL), scope)
        except TicketRefused as error:
            return Refusal(403, "ticket", error.problem, error.cure)

    def _by_key(
        self, scope: Scoped, headers: _Headers, wanted: frozenset[Scope]
    ) -> Caller | Refusal:
        kind, _, text = headers.one(b"authorization").partition(" ")
        text = text.strip()
        if kind.lower() != "bearer" or not text:
            return Refusal(401, "no_key", "this needs a key", _MAKE_KEY)
        address = (scope.get("client") or ("", 0))[0]
        meant = self._meant(text)
        if wait_s := self._failures.wait_s(address, meant):
            problem, cure = "too many wrong keys came from here", f"Wait {ceil(wait_s)} s"
            return Refusal(429, "too_often", problem, cure, ceil(wait_s))
        key = self._keys.find(text)
        if key is None:
            self._failures.failed(address, meant)
            return Refusal(401, "wrong_key", "this key is none of ours, or was revoked", _MAKE_KEY)
        self._failures.passed(address, key.id)
        if key.scope not in wanted:
            problem = f"a key of scope {key.scope!r} does not open {scope['path'][:80]}"
            cure = f"Make one that does: pho keys add --scope {min(wanted)}"
            return Refusal(403, "scope", problem, cure)
        if self._keys.wants_note(key):
            # In a thread: fifty kiosks that come back at once are fifty fsyncs.
            asyncio.get_running_loop().run_in_executor(None, self._note, key.id)
        return key.caller

    def _note(self, key_id: str) -> None:
        try:
            self._keys.used(key_id)
        except PhoError as error:
            # A folder that cannot be written now is no reason to send a kiosk away.
            _logger.info("the use of key %s is not noted: %s", key_id, error)

    def _meant(self, text: str) -> str | None:
        """Return the id of the key that this was meant to be, where there is such a key."""
        parts = text.split("_", 3)
        key = self._keys.get(parts[2]) if len(parts) == 4 else None
        return None if key is None else key.id


def caller_of(scope: Scoped) -> Caller:
    """Return who sent a request that the doors let through; without doors, nobody."""
    caller = scope.get("state", {}).get("caller")
    return caller if isinstance(caller, Caller) else EVERYBODY


def is_open(path: str, method: str) -> bool:
    """Whether anybody may ask this, without a key: pages and their files, for reading."""
    return method in _READING and (path in _OPEN or path.startswith(_OPEN_BELOW))


def _wanted(scope: Scoped) -> frozenset[Scope] | None:
    """Return the scopes of which a caller needs one; None: it is open."""
    path = scope["path"]
    if scope["type"] == "websocket":
        return frozenset(("kiosk",) if path == KIOSK_SOCKET else ("owner",))
    if path == _TICKETS:
        return frozenset(("kiosk", "owner"))
    if path.startswith(_KIOSK_API):
        return frozenset(("kiosk",))
    return None if is_open(path, scope["method"]) else frozenset(("owner",))


def _foreign(scope: Scoped, headers: _Headers, host: Authority, *, is_page: bool) -> Refusal | None:
    """Return the refusal of what a foreign web page sends; None: it is none."""
    cure = "Open the gateway's own page; no other page may talk to it"
    if headers.has(b"origin"):
        origin = headers.one(b"origin")
        if not is_same_origin(origin, scope.get("scheme", "http"), host):
            return Refusal(403, "origin", f"a page of {origin[:80]!r} asks", cure)
    # An image or a script of a foreign page comes without Origin. Following a link to a page of
    # ours is cross-site too, and welcome.
    site = headers.one(b"sec-fetch-site") if headers.has(b"sec-fetch-site") else "none"
    if not is_page and site not in ("same-origin", "none"):
        return Refusal(403, "origin", f"a page elsewhere ({site[:40]}) asks", cure)
    return None


class _Headers:
    """The headers of a request, by name in small letters."""

    def __init__(self, scope: Scoped) -> None:
        self._found: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            self._found.setdefault(name.lower(), []).append(value)

    def has(self, name: bytes) -> bool:
        return name in self._found

    def one(self, name: bytes) -> str:
        # Several lines of sub-protocols are one list (RFC 6455, 11.3.4); two of anything else make
        # a value with a comma, which is no host, no origin and no key.
        return b",".join(self._found.get(name, [])).decode("latin-1")


async def _answer(refusal: Refusal, scope: Scoped, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        # Closed before it is accepted, the server answers 403; no page could read a reason.
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    body = msgspec.json.encode({"problem": refusal.problem, "cure": refusal.cure})
    headers = security_headers(scope["path"])
    headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b'Bearer realm="pho"'))
    if refusal.retry_after_s:
        headers.append((b"retry-after", b"%d" % refusal.retry_after_s))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    sent = b"" if scope["method"] == "HEAD" else body
    await send({"type": "http.response.body", "body": sent, "more_body": False})
