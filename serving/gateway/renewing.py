"""Keeps the certificate of a running gateway fresh: before it ends, and when the machine moves.

A router may give the machine another address tomorrow, and a tablet that calls it there would be
told that the certificate is another's, until somebody starts the gateway again.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable

from schemas.errors import PhoError
from serving.gateway.certificates import Certificate

_logger = logging.getLogger(__name__)

EVERY_S = 60.0
"""How often it is looked; a look reads four files."""


class Renewing:
    """Loads a new certificate into a server's context; open connections keep theirs.

    Parameters
    ----------
    current : Certificate
        What the server was started with.
    make : callable
        Returns the certificate that it should have by now, made anew where needed.
    """

    def __init__(self, current: Certificate, make: Callable[[], Certificate]) -> None:
        self.current = current
        self._make = make

    async def run(self, context: ssl.SSLContext, every_s: float = EVERY_S) -> None:
        """Look again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(every_s)
            try:
                # In a thread: a new key takes milliseconds, a disk that hangs takes seconds.
                await asyncio.to_thread(self.look, context)
            except (PhoError, OSError) as error:
                # The old one holds for 30 days more, or the next look succeeds.
                _logger.warning("the certificate is not renewed: %s", error)

    def look(self, context: ssl.SSLContext) -> bool:
        """Load the certificate where it is another by now; return whether it was.

        Raises
        ------
        SettingsError, ResourceError
            It cannot be made; the server keeps its own.
        """
        fresh = self._make()
        if fresh == self.current:
            return False
        context.load_cert_chain(fresh.certificate_file, fresh.key_file)
        self.current = fresh
        _logger.info("the gateway has a new certificate, for %s", ", ".join(fresh.names))
        return True
