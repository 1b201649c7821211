"""The names and IP addresses of this machine."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
import sys
from pathlib import Path

# linux/sockios.h; a request is a name of 16 bytes and a socket address (netdevice(7)).
_SIOCGIFADDR = 0x8915
_IF_INET6 = Path("/proc/net/if_inet6")


def own_host_names() -> tuple[str, ...]:
    """Return the name of this machine, and its name by multicast DNS (RFC 6762)."""
    name = socket.gethostname().lower().rstrip(".")
    labels = name.split(".")
    if not all(label and label.isascii() and label.replace("-", "").isalnum() for label in labels):
        return ()
    return (name,) if name.endswith(".local") else (name, f"{labels[0]}.local")


def own_addresses() -> tuple[str, ...]:
    """Return them, sorted; IPv6 of one link alone aside, since a browser cannot ask for those."""
    if sys.platform == "linux":
        found = _of_interfaces() | _of_if_inet6()
    else:
        found = _of_routes()
    addresses = (ipaddress.ip_address(text) for text in found)
    return tuple(sorted(str(address) for address in addresses if not _is_of_a_link(address)))


def _is_of_a_link(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.version == 6 and address.is_link_local


def _of_interfaces() -> set[str]:
    found = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(asked.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue  # it has none
            found.add(socket.inet_ntoa(answer[20:24]))
    return found


def _of_if_inet6() -> set[str]:
    try:
        lines = _IF_INET6.read_text(encoding="ascii").splitlines()
    except OSError:
        return set()  # no IPv6 here
    return {socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0])) for line in lines}


def _of_routes() -> set[str]:
    """Return the addresses that would be used to talk to anybody; nothing is sent."""
    found = set()
    # Both are kept for documentation (RFC 5737, RFC 3849).
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                found.add(str(probe.getsockname()[0]).partition("%")[0])
        except OSError:
            continue
    return found
