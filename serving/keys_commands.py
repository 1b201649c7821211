"""The keys of the doors: `pho keys add`, `ls` and `revoke`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from schemas.errors import UsageError
from serving.console import AsJson, Config, Data, as_flag, err, out, print_json
from serving.gateway.keys import FILE_NAME, SCOPES, Key, KeyRing
from serving.settings import load

_ScopeOf = Annotated[str, typer.Option("--scope", help="kiosk or owner.")]
_KioskOf = Annotated[
    str | None, typer.Option("--kiosk", help="The one kiosk that it is for.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    about = """Make, list and revoke the keys of the doors.

    Example: pho keys add --scope owner
    """
    keys = typer.Typer(no_args_is_help=True, help=about)
    keys.command()(add)
    keys.command("ls")(list_keys)
    keys.command()(revoke)
    app.add_typer(keys, name="keys")


def add(
    scope: _ScopeOf,
    kiosk: _KioskOf = None,
    data: Data = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it, this once: only its hash is kept.

    With the first key this machine needs one too.

    Example: pho keys add --scope kiosk --kiosk door-1
    """
    if scope not in SCOPES:
        problem = f"--scope {scope} is none of ours"
        raise UsageError(problem, f"Use {' or '.join(SCOPES)}")
    ring = _ring(data, config)
    key, text = ring.add(scope, kiosk)
    if as_json:
        print_json({**_document(key), "key": text})
        return
    what = f"kiosk {key.kiosk_id}" if key.kiosk_id else "the owner"
    # Alone on its line: `pho keys add … | head -1` is the key.
    out.print(text, highlight=False, soft_wrap=True, markup=False)
    told = f"key {key.id} for {what}; it is not shown again, and only its hash is kept"
    err.print(escape(told), highlight=False, soft_wrap=True)


def list_keys(data: Data = None, config: Config = None, as_json: AsJson = False) -> None:
    """List the keys: who may come in, and when each last did.

    Example: pho keys ls
    """
    ring = _ring(data, config)
    keys = ring.keys()
    if as_json:
        print_json([_document(key) for key in keys])
        return
    if not keys:
        free = "on loopback none is needed, elsewhere nobody comes in"
        what = free if ring.is_free() else "the last was revoked, and nobody comes in"
        err.print(escape(f"no keys in {ring.path}: {what}"), highlight=False, soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "scope", "kiosk", "made", "last used"):
        table.add_column(heading, no_wrap=heading != "kiosk")
    for key in keys:
        made, used = _time(key.created_at_ms), _time(key.last_used_at_ms)
        kiosk = escape(key.kiosk_id or "")
        table.add_row(key.id, key.scope, kiosk, made or "", used or "never")
    out.print(table, highlight=False)


def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, as `pho keys ls` shows it.")],
    data: Data = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key: every gateway on this file refuses it from now on, and closes its socket.

    Example: pho keys revoke 3f9c2b71
    """
    gone = _ring(data, config).revoke(key_id)
    if as_json:
        print_json(_document(gone))
        return
    what = f"kiosk {gone.kiosk_id}" if gone.kiosk_id else "the owner"
    out.print(escape(f"key {gone.id} of {what} opens nothing any more"), highlight=False)


def _ring(data: Any, config: Any) -> KeyRing:
    settings = load(config, {"data": as_flag(data)})
    return KeyRing(settings.data / FILE_NAME)


def _document(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "scope": key.scope,
        "kiosk_id": key.kiosk_id,
        "created_at": _time(key.created_at_ms),
        "last_used_at": _time(key.last_used_at_ms),
    }


def _time(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
