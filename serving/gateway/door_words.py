"""What a gateway says of its doors when it starts, for whoever stands at its terminal."""

from __future__ import annotations

from serving.gateway.certificates import FOLDER, own_certificate, own_names
from serving.gateway.keys import FILE_NAME, KeyRing
from serving.gateway.own_addresses import own_addresses
from serving.gateway.same_origin import is_loopback
from serving.settings import Settings


def door_words(settings: Settings) -> list[str]:
    """Return what must be known before a tablet is set up; on loopback nothing but TLS.

    Raises
    ------
    SettingsError, ResourceError
        The keys or the certificate cannot be used.
    """
    gateway = settings.gateway
    beyond = not is_loopback(gateway.host)
    words = []
    if gateway.tls == "auto":
        # Made before it was served; this reads it again.
        own = own_certificate(settings.data / FOLDER, own_names(gateway.hosts))
        place = _place(gateway.host, gateway.port)
        words.append(f"how to trust its certificate: https://{place}/trust")
        words.append(f"its fingerprint (SHA-256): {own.fingerprint}")
    if beyond and gateway.tls == "off":
        cure = "--tls auto, or a proxy that has TLS"
        words.append(f"no TLS: keys and pictures can be read on their way: {cure}")
    if beyond and not KeyRing(settings.data / FILE_NAME).keys():
        cure = "pho keys add --scope kiosk --kiosk door-1"
        words.append(f"there is no key: nobody comes in from anywhere, this machine too: {cure}")
    return words


def _place(host: str, port: int) -> str:
    """Return an address that another machine can call, where there is one."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared only
        ours = (each for each in own_addresses() if not is_loopback(each))
        host = next(ours, "localhost")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
