"""The keys of a shop: who may come in, and as what.

A key is 256 random bits, shown once when it is made. The file keeps its SHA-256 only; of so many
random bits nothing can be guessed, so a slow hash (as for passwords) would only slow us down.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from connectors.clocks import WallClock
from schemas.checks import check_id
from schemas.errors import InvalidRecord, SettingsError, UsageError
from serving.gateway.private_files import only_writer, read_private, write_private

FILE_NAME = "keys.json"
"""Its name in the data folder."""
Scope = Literal["kiosk", "owner"]
SCOPES: tuple[Scope, ...] = ("kiosk", "owner")
"""What a key may open: one kiosk's socket; or the owner's page, its API and the metrics."""

_FORMAT = 1
_SECRET_BYTES = 32
# A write for each request would be 600 fsyncs a minute at 10 requests a second; "used today" is
# what is asked of it.
_USED_EVERY_MS = 60_000
_KEY = re.compile(r"pho_(kiosk|owner)_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_NOBODY = bytes(32).hex()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, as far as the doors found out."""

    scopes: frozenset[Scope]
    """What they may open; empty: open pages only."""
    kiosk_id: str | None = None
    """The kiosk that a kiosk's key is for; None: any (no key was needed)."""
    key_id: str | None = None
    """The key they showed, by its id; None: none was needed, or none shown."""


EVERYBODY = Caller(frozenset())
"""Somebody without a key."""
THIS_MACHINE = Caller(frozenset(SCOPES))
"""Somebody on this machine, where the gateway listens to it alone and no key was ever made."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key, as the file keeps it: not the key itself."""

    id: str
    """8 hex digits; part of the key, and what `pho keys revoke` takes."""
    scope: Scope
    """What it opens."""
    sha256: str
    """SHA-256 of the whole key, 64 hex digits."""
    created_at_ms: int
    """When it was made, ms since 1970 UTC."""
    kiosk_id: str | None = None
    """The one kiosk that it is for; None: an owner's."""
    last_used_at_ms: int | None = None
    """When it last opened something, to the minute; None: never."""

    @property
    def caller(self) -> Caller:
        """Whoever shows it."""
        return Caller(frozenset((self.scope,)), self.kiosk_id, self.id)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    ticket_secret: str
    # How many keys there ever were: to revoke the last one must not open the doors.
    made: int = 0
    keys: tuple[Key, ...] = ()


class KeyRing:
    """The keys in a file, read again whenever the file changed.

    Parameters
    ----------
    path : Path
        The file, made with the first key or the first ticket. Several gateways side by side need
        the same one.
    clock : callable
        Returns ms since 1970 UTC.

    Raises
    ------
    SettingsError
        From every method: the file can be read by others, or is none of ours. Then no key opens
        anything.
    ResourceError
        From every method: it cannot be read or written.
    """

    def __init__(self, path: Path, clock: Callable[[], int] | None = None) -> None:
        self.path = path
        self._clock = clock or WallClock()
        self._guard = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._file: _File | None = None

    def keys(self) -> tuple[Key, ...]:
        """Return all keys, oldest first."""
        file = self._read()
        return () if file is None else file.keys

    def is_free(self) -> bool:
        """Whether no key was ever made; to be free again, move the file away."""
        file = self._read()
        return file is None or (file.made == 0 and not file.keys)

    def get(self, key_id: str) -> Key | None:
        """Return the key of an id; None: there is none, or it was revoked."""
        return next((key for key in self.keys() if key.id == key_id), None)

    def find(self, text: str) -> Key | None:
        """Return the key that a caller shows; None: it is none of ours.

        Takes the same time for every wrong key: the hash of each is compared to its end.
        """
        match = _KEY.fullmatch(text)
        known = self.get(match[2]) if match else None
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        is_it = hmac.compare_digest(digest, known.sha256 if known else _NOBODY)
        return known if known is not None and is_it else None

    def ticket_secret(self) -> bytes:
        """Return what tickets are signed with, 32 bytes, made now where there is none."""
        file = self._read() or self._change(lambda keys: keys)
        return bytes.fromhex(file.ticket_secret)

    def add(self, scope: Scope, kiosk_id: str | None = None) -> tuple[Key, str]:
        """Make a key.

        Parameters
        ----------
        scope : str
            ``kiosk`` or ``owner``.
        kiosk_id : str, optional
            The kiosk that a kiosk's key is for.

        Returns
        -------
        key : Key
            What is kept of it.
        text : str
            The key itself. Nobody can tell it again.

        Raises
        ------
        UsageError
            A kiosk's key without a kiosk, or an owner's key with one.
        """
        if (scope == "kiosk") != (kiosk_id is not None):
            problem = f"a key of scope {scope} " + ("with" if kiosk_id else "without") + " a kiosk"
            raise UsageError(problem, "Give --kiosk ID with --scope kiosk, and only there")
        if kiosk_id is not None:
            try:
                check_id("--kiosk", kiosk_id)
            except InvalidRecord as error:
                raise UsageError(error.problem, error.cure) from error
        made: list[tuple[Key, str]] = []

        def with_one_more(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            taken = {key.id for key in keys}
            key_id = next(
                name for name in iter(lambda: secrets.token_hex(4), "") if name not in taken
            )
            text = f"pho_{scope}_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
            digest = hashlib.sha256(text.encode()).hexdigest()
            made.append((Key(key_id, scope, digest, self._clock(), kiosk_id), text))
            return (*keys, made[0][0])

        self._change(with_one_more)
        return made[0]

    def revoke(self, key_id: str) -> Key:
        """Take a key out; every gateway refuses it from its next request on.

        Raises
        ------
        UsageError
            There is no such key.
        """
        gone = self.get(key_id)
        if gone is None:
            problem = f"there is no key {key_id!r}"
            raise UsageError(problem, "See them: pho keys ls")
        self._change(lambda keys: tuple(key for key in keys if key.id != key_id))
        return gone

    def wants_note(self, key: Key) -> bool:
        """Whether the use of a key is to be noted: it was not within this minute."""
        last_ms = key.last_used_at_ms
        return last_ms is None or self._clock() - last_ms >= _USED_EVERY_MS

    def used(self, key_id: str) -> None:
        """Note that a key opened something, to the minute; it writes a file, which takes time."""
        key = self.get(key_id)
        if key is None or not self.wants_note(key):
            return
        now_ms = self._clock()
        self._change(
            lambda keys: tuple(
                msgspec.structs.replace(each, last_used_at_ms=now_ms) if each.id == key_id else each
                for each in keys
            )
        )

    def _read(self) -> _File | None:
        try:
            found = self.path.stat()
            # It is never written in place: another file has another number, or another time.
            seen = (found.st_ino, found.st_mtime_ns, found.st_mode)
        except OSError:
            seen = None
        with self._guard:
            if seen is None or seen != self._seen:
                self._file = self._decoded(read_private(self.path))
                self._seen = seen
            return self._file

    def _decoded(self, content: bytes | None) -> _File | None:
        if content is None:
            return None
        try:
            file = msgspec.json.decode(content, type=_File)
            is_ours = file.format == _FORMAT and len(bytes.fromhex(file.ticket_secret)) == 32
        except (msgspec.DecodeError, ValueError) as error:
            problem = f"{self.path} is no file of keys: {error}"
            raise SettingsError(problem, _CURE) from error
        if not is_ours:
            problem = f"{self.path} has format {file.format}, or half a secret"
            raise SettingsError(problem, _CURE)
        return file

    def _change(self, change: Callable[[tuple[Key, ...]], tuple[Key, ...]]) -> _File:
        with only_writer(self.path):
            file = self._decoded(read_private(self.path))
            if file is None:
                file = _File(_FORMAT, secrets.token_hex(_SECRET_BYTES))
            keys = change(file.keys)
            made = file.made + max(0, len(keys) - len(file.keys))
            changed = msgspec.structs.replace(file, keys=keys, made=made)
            write_private(self.path, msgspec.json.format(msgspec.json.encode(changed)) + b"\n")
        return changed


_CURE = "Bring it back from a copy; or move it away, and make every key anew: pho keys add"
