"""Runs the gateway's application until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from engines.job import StopFlag
from schemas.errors import ResourceError, SettingsError
from serving.gateway.app import make_app
from serving.gateway.certificates import (
    FOLDER,
    Certificate,
    check_files,
    own_certificate,
    own_names,
)
from serving.gateway.kiosk_hall import BRIDGE_S
from serving.gateway.kiosk_messages import MESSAGE_BYTES_MAX
from serving.gateway.renewing import Renewing
from serving.gateway.shop import Shop
from serving.settings import Settings
from serving.settings_gateway import GatewaySettings

_LOOK_EVERY_S = 0.05
# What a stopping gateway waits for answers on their way; sockets are closed before.
_LAST_WORDS_S = 3


def bound_socket(gateway: GatewaySettings) -> socket.socket:
    """Return a socket that listens where the settings say.

    Raises
    ------
    SettingsError
        The address is none of this machine.
    ResourceError
        The port is taken, or only root may have it.
    """
    host, port = gateway.host, gateway.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        problem = f"gateway.host is {host!r}, which is no address of this machine"
        raise SettingsError(problem, 'Give one it has; "127.0.0.1" is itself alone') from error
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(512)
    except OSError as error:
        listening.close()
        problem = f"{host} port {port} cannot be listened on: {error.strerror}"
        cure = "Give another with --port, or end the program that has it"
        raise ResourceError(problem, cure) from error
    return listening


def certificate_of(settings: Settings) -> tuple[Path, Path, Certificate | None] | None:
    """Return certificate file, key file, and the certificate where it is our own; None: no TLS.

    Raises
    ------
    SettingsError, ResourceError
        They cannot be used, or not be made.
    """
    gateway = settings.gateway
    if gateway.tls == "off":
        return None
    if gateway.tls == "files":
        files = Path(gateway.certificate_file), Path(gateway.key_file)
        check_files(*files)
        return (*files, None)
    own = _own(settings)
    return own.certificate_file, own.key_file, own


def _own(settings: Settings) -> Certificate:
    return own_certificate(settings.data / FOLDER, own_names(settings.gateway.hosts))


def serve(
    shop: Shop, stop: StopFlag, started: Callable[[], None], bridge_s: float = BRIDGE_S
) -> None:
    """Serve until `stop` is set.

    Parameters
    ----------
    shop : Shop
        What is served.
    stop : StopFlag
        Ends it.
    started : callable
        Told when it answers.
    bridge_s : float
        How long a visit waits for its page to come back, seconds.

    Raises
    ------
    SettingsError, ResourceError
        It cannot listen there, or has no certificate.
    """
    tls = certificate_of(shop.settings)
    own = tls[2] if tls is not None else None
    renewing = Renewing(own, lambda: _own(shop.settings)) if own is not None else None
    listening = bound_socket(shop.settings.gateway)
    try:
        app = make_app(shop, own, bridge_s)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            # Who asks is for the doors to say; a header that anybody can send must not.
            proxy_headers=False,
            server_header=False,
            ws="websockets-sansio",
            ws_max_size=MESSAGE_BYTES_MAX,
            ws_ping_interval=10.0,
            # A tablet may stand still for seconds while it loads a model.
            ws_ping_timeout=20.0,
            # Pictures do not get smaller, and deflating looks costs more than a local network.
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=_LAST_WORDS_S,
            ssl_certfile=tls[0] if tls is not None else None,
            ssl_keyfile=tls[1] if tls is not None else None,
        )
        asyncio.run(_serve(_Server(config), listening, stop, started, renewing))
    finally:
        listening.close()


class _Server(uvicorn.Server):
    """uvicorn's, without its signal handlers: ours set the flag that every part looks at."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def _serve(
    server: _Server,
    listening: socket.socket,
    stop: StopFlag,
    started: Callable[[], None],
    renewing: Renewing | None,
) -> None:
    serving = asyncio.create_task(server.serve([listening]))
    renewal: asyncio.Task[None] | None = None
    said = False
    while not serving.done():
        if server.started and not said:
            said = True
            started()
            if renewing is not None and server.config.ssl is not None:
                renewal = asyncio.create_task(renewing.run(server.config.ssl))
        if stop.is_set():
            server.should_exit = True
        await asyncio.sleep(_LOOK_EVERY_S)
    if renewal is not None:
        renewal.cancel()
    await serving
