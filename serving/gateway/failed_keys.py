"""How often wrong keys may be shown: ten at once, then one in six seconds."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

BURST = 10
"""Wrong keys that an address may show at once; so many against one key, whoever shows them."""
EVERY_S = 6.0
"""Then one in so many seconds."""
# A table of 4,096 addresses is 0.5 MB; whoever has more addresses than that is not held by a table.
_MOST = 4_096


class FailedKeys:
    """Counts wrong keys by address, and by the key they were meant to be.

    Who showed the right key here before is let in whatever others do: else whoever shares a router
    with a kiosk, or knows the id of its key, could lock it out.

    Parameters
    ----------
    seconds : callable
        Returns seconds that never go back.
    """

    def __init__(self, seconds: Callable[[], float] = monotonic) -> None:
        self._seconds = seconds
        # The time at which all of it is forgiven; each failure moves it by EVERY_S.
        self._forgiven_s: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def wait_s(self, address: str, key_id: str | None) -> float:
        """Return how long this caller has to wait before a key is looked at; 0.0: not at all."""
        if key_id is not None and (_net(address), key_id) in self._known:
            return 0.0
        return max(self._left_s(name) for name in _names(address, key_id))

    def failed(self, address: str, key_id: str | None) -> None:
        """Count a wrong key.

        Parameters
        ----------
        address : str
            Where it came from.
        key_id : str or None
            The key that it was meant to be, if there is one.
        """
        now_s = self._seconds()
        for name in _names(address, key_id):
            start_s = max(now_s, self._forgiven_s.pop(name, now_s))
            self._forgiven_s[name] = min(start_s + EVERY_S, now_s + (BURST + 1) * EVERY_S)
        while len(self._forgiven_s) > _MOST:
            self._forgiven_s.popitem(last=False)

    def passed(self, address: str, key_id: str) -> None:
        """Remember who showed the right key from where."""
        self._known[_net(address), key_id] = None
        self._known.move_to_end((_net(address), key_id))
        while len(self._known) > _MOST:
            self._known.popitem(last=False)

    def _left_s(self, name: tuple[str, str]) -> float:
        owed_s = self._forgiven_s.get(name, 0.0) - self._seconds()
        return max(0.0, owed_s - (BURST - 1) * EVERY_S)


def _names(address: str, key_id: str | None) -> list[tuple[str, str]]:
    names = [("address", _net(address))]
    return names if key_id is None else [*names, ("key", key_id)]


def _net(address: str) -> str:
    """Return what one household has: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
