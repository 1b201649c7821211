"""A gateway as it is served, on a port of its own, in a thread of the test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving.gateway.server import serve
from serving.gateway.shop import Shop, open_shop
from serving.settings import load


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def shop_at(folder: Path, **flags: Any) -> Shop:
    """Open a shop; flags are settings of [gateway]."""
    told = {f"gateway.{name}": value for name, value in flags.items()}
    settings = load(None, {"data": str(folder), **told}, {})
    shop = open_shop(settings, threading.Event(), lambda _line: None)
    assert shop is not None
    return shop


@contextmanager
def running_gateway(folder: Path, **flags: Any) -> Iterator[Shop]:
    """Serve one until the block ends; it listens at ``shop.settings.gateway.port``."""
    shop = shop_at(folder, **{"port": free_port(), **flags})
    stop, started = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            serve(shop, stop, started.set)
        except BaseException as error:  # noqa: BLE001 - told to the test, which raises it
            failed.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="gateway")
    thread.start()
    try:
        assert started.wait(30.0)
        if failed:
            raise failed[0]
        yield shop
    finally:
        stop.set()
        thread.join(timeout=30.0)
        shop.close()
    assert not thread.is_alive()
    assert not failed
