"""Tickets: what opens a WebSocket, since a browser sends no key with one.

A page buys a ticket with its key and shows it at once. It is signed with the secret beside the
keys, so every gateway on the same keys takes it; what it is good for stands inside. It opens one
socket **at each gateway** within 30 s: which were used is known to the gateway that saw them.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256

import msgspec

from connectors.clocks import WallClock
from schemas.errors import RecordError
from serving.gateway.keys import Caller, KeyRing, Scope

LIFE_MS = 30_000
"""How long a ticket waits to be shown: a tablet on a bad network needs some seconds."""
# What a ticket says is some 150 characters; whatever is much longer is not looked at.
_LENGTH_MAX = 1_024


class TicketRefused(RecordError):
    """A ticket opens nothing: torn, altered, used, too old, or of a key that is gone."""


class Ticket(msgspec.Struct, frozen=True):
    """What a page gets for its key."""

    ticket: str
    """The ticket: letters, digits, ``-``, ``_`` and one dot, as a sub-protocol may hold."""
    expires_in_ms: int
    """How long it waits to be shown."""


class _Says(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    scope: Scope
    kiosk_id: str | None
    key_id: str | None
    expires_at_ms: int
    nonce: str


class Tickets:
    """Gives tickets, and takes each once.

    Parameters
    ----------
    keys : KeyRing
        Signs them; and who showed a key must still have it when the ticket is shown.
    clock : callable
        Returns ms since 1970 UTC.
    """

    def __init__(self, keys: KeyRing, clock: Callable[[], int] | None = None) -> None:
        self._keys = keys
        self._clock = clock or WallClock()
        self._guard = threading.Lock()
        self._used: dict[str, int] = {}

    def issue(self, caller: Caller, scope: Scope) -> Ticket:
        """Give a caller a ticket for one of the scopes they have.

        Raises
        ------
        TicketRefused
            They have it not.
        """
        if scope not in caller.scopes:
            problem = f"this key does not open {scope!r}"
            raise TicketRefused(problem, f"Make one that does: pho keys add --scope {scope}")
        says = _Says(
            scope,
            caller.kiosk_id,
            caller.key_id,
            self._clock() + LIFE_MS,
            secrets.token_urlsafe(16),
        )
        body = msgspec.json.encode(says)
        return Ticket(f"{_text(body)}.{_text(self._signed(body))}", LIFE_MS)

    def redeem(self, text: str, scope: Scope) -> Caller:
        """Take a ticket; return who bought it.

        Raises
        ------
        TicketRefused
            It opens nothing here.
        """
        says = self._read(text)
        now_ms = self._clock()
        if says.expires_at_ms <= now_ms:
            raise TicketRefused(*_TOO_OLD)
        if says.scope != scope:
            problem = f"the ticket is for {says.scope!r}"
            raise TicketRefused(problem, f"Ask for one for {scope!r}")
        self._check_key(says)
        with self._guard:
            for nonce in [name for name, until in self._used.items() if until <= now_ms]:
                del self._used[nonce]
            if says.nonce in self._used:
                problem = "the ticket was used"
                raise TicketRefused(problem, "Ask for a new one with each socket")
            self._used[says.nonce] = says.expires_at_ms
        return Caller(frozenset((scope,)), says.kiosk_id, says.key_id)

    def _check_key(self, says: _Says) -> None:
        """Refuse a ticket whose key was revoked, or that was free before the first key was made."""
        if says.key_id is None:
            if not self._keys.is_free():
                problem = "the ticket was given before keys were made"
                raise TicketRefused(problem, "Ask for a new one, with a key")
            return
        key = self._keys.get(says.key_id)
        if key is None or key.scope != says.scope or key.kiosk_id != says.kiosk_id:
            problem = "the key of this ticket was revoked"
            raise TicketRefused(problem, "Make a new one: pho keys add")

    def _read(self, text: str) -> _Says:
        problem = "the ticket is none of ours"
        if len(text) > _LENGTH_MAX or not text.isascii():
            raise TicketRefused(problem, _ASK)
        body_text, _, signature_text = text.partition(".")
        try:
            body, signature = _bytes(body_text), _bytes(signature_text)
        except ValueError as error:
            raise TicketRefused(problem, _ASK) from error
        # Signed by us or not read at all.
        if not hmac.compare_digest(signature, self._signed(body)):
            raise TicketRefused(problem, _ASK)
        try:
            return msgspec.json.decode(body, type=_Says)
        except msgspec.DecodeError as error:
            raise TicketRefused(problem, _ASK) from error

    def _signed(self, body: bytes) -> bytes:
        # The words in front keep a signature of tickets from ever being one of something else.
        return hmac.digest(self._keys.ticket_secret(), b"pho ticket 1\0" + body, sha256)


_ASK = "Ask for one at POST /api/tickets"
_TOO_OLD = ("the ticket is too old", f"Show it within {LIFE_MS // 1_000} s; ask for a new one")


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
