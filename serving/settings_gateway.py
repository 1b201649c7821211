"""The table [gateway] of the settings, and what it may say."""

from __future__ import annotations

import ipaddress
from typing import Literal

import msgspec

from schemas.errors import SettingsError

MAX_KIOSKS = 10_000
_SHOT_WIDTHS = (160, 1_280)


class GatewaySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [gateway]."""

    host: str
    """Address to listen on; beyond loopback keys are needed."""
    port: int
    """Port to listen on, 1..65535."""
    tls: Literal["off", "auto", "files"]
    """``auto``: a certificate of our own; ``files``: the two below."""
    certificate_file: str
    """PEM file of the certificate."""
    key_file: str
    """PEM file of its private key."""
    hosts: tuple[str, ...]
    """Further names under which browsers may ask for it."""
    shots_per_second: float
    """How often a kiosk page sends a picture, or a look of its own."""
    shot_width: int
    """Width of the pictures it sends, pixels."""
    max_kiosks: int
    """Kiosks at once; one more is refused."""

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return "http" if self.tls == "off" else "https"


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_gateway(table: GatewaySettings) -> None:
    """Refuse what would fail later, at the first kiosk.

    Raises
    ------
    SettingsError
        Names the setting.
    """
    _between("gateway.port", table.port, 1, 65_535)
    _between("gateway.shots_per_second", table.shots_per_second, 0.5, 30.0)
    _between("gateway.shot_width", table.shot_width, *_SHOT_WIDTHS)
    _between("gateway.max_kiosks", table.max_kiosks, 1, MAX_KIOSKS)
    if not table.host:
        problem = "gateway.host is empty"
        raise SettingsError(problem, 'Give an address of this machine; "0.0.0.0" is all of them')
    if (table.tls == "files") != bool(table.certificate_file and table.key_file):
        problem = f"gateway.tls is {table.tls!r}, and its two files are not given so"
        cure = 'certificate_file and key_file belong to tls = "files"; "auto" makes its own'
        raise SettingsError(problem, cure)


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        problem = f"{name} is {value!r}"
        raise SettingsError(problem, f"It must lie in {low!r} to {high!r}")
