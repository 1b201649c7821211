"""What a browser is told with each answer: what a page may load, who may frame it, what to keep.

After OWASP's Secure Headers; https://www.w3.org/TR/CSP3/. No HSTS: with a certificate of one's own
it would forbid the very click by which a tablet first sees the page that explains it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_POLICY = {
    "default-src": "'none'",
    # Only files of ours, no script in a page; a greeting's text can then never run.
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' blob:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "worker-src": "'self' blob:",
    "manifest-src": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
}
# The models of edge analysis are WebAssembly, compiled in the page.
_KIOSK_SCRIPTS = "'self' 'wasm-unsafe-eval'"

_FEATURES = (
    "accelerometer=(), autoplay=(self), camera=(self), display-capture=(), fullscreen=(self), "
    "geolocation=(), gyroscope=(), magnetometer=(), microphone=(), payment=(), "
    "screen-wake-lock=(self), usb=()"
)


def security_headers(path: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer, as ASGI takes them.

    Parameters
    ----------
    path : str
        The request's path: pages may be kept and asked about, what the API says may not be kept.
    """
    is_kiosk = path == "/kiosk" or path.startswith("/kiosk/")
    policy = {**_POLICY, "script-src": _KIOSK_SCRIPTS} if is_kiosk else _POLICY
    is_static = path.startswith(("/static/", "/kiosk", "/owner", "/trust")) or path == "/"
    headers = {
        "content-security-policy": "; ".join(f"{name} {what}" for name, what in policy.items()),
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        # Not `no-referrer`: browsers would then send `Origin: null` with forms of our own pages.
        "referrer-policy": "same-origin",
        "permissions-policy": _FEATURES,
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        # Kept, but asked about each time: after an upgrade no old script talks to a new gateway.
        "cache-control": "no-cache" if is_static else "no-store",
    }
    return [(name.encode(), value.encode()) for name, value in headers.items()]


Message = MutableMapping[str, Any]


class SecurityHeaders:
    """ASGI middleware that adds them to every answer; what the application set itself stays.

    Parameters
    ----------
    app : ASGI application
        What answers.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer with them."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                names = {name.lower() for name, _ in own}
                own += [pair for pair in security_headers(scope["path"]) if pair[0] not in names]
                message["headers"] = own
            await send(message)

        await self._app(scope, receive, with_headers)
