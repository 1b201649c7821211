"""Whether a request is meant for us, and comes from a page of ours: Host, Origin, Sec-Fetch-Site.

A web page anywhere may send requests to addresses of the visitor's own network, its loopback too,
and open WebSockets there; a browser only says whose page it is (RFC 6454; Fetch, "Origin header").
By DNS rebinding a foreign name may come to lead here: then Origin and Host agree, and only the
name in Host tells.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from serving.gateway.own_addresses import own_host_names

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""The names of this machine for itself."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
# RFC 3986, section 3.2.2, without what no browser sends: user names, IPv6 zones, percent signs.
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::(\d{1,5}))?")
_ORIGIN = re.compile(r"(https?)://(.+)")


@dataclass(frozen=True, slots=True)
class Authority:
    """A host with or without a port, as `Host` and `Origin` hold it."""

    host: str
    """In small letters; an IPv6 address without brackets, in its shortest form."""
    port: int | None
    """None: none is written, so it is that of the scheme."""

    @classmethod
    def parse(cls, text: str) -> Authority | None:
        """Read one; None: it is none."""
        match = _AUTHORITY.fullmatch(text)
        if match is None:
            return None
        host = match[1].lower().rstrip(".")
        if host.startswith("["):
            try:
                host = str(ipaddress.IPv6Address(host[1:-1]))
            except ValueError:
                return None
        return cls(host, int(match[2]) if match[2] else None) if host else None

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address, which no foreign name can be."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


def is_loopback(host: str) -> bool:
    """Whether a server bound to this host, or a client of this address, is this machine alone."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


@dataclass(frozen=True, slots=True)
class DoorRules:
    """Where the gateway listens, and under which names it may be called."""

    loopback: bool
    """Bound to this machine alone."""
    port: int | None = None
    """The port it is called at; None: any (tests, and where the system chooses)."""
    hosts: frozenset[str] = field(default=frozenset())
    """Names it is called by beside those of loopback."""

    @classmethod
    def of(cls, host: str, port: int | None, hosts: Iterable[str] = ()) -> DoorRules:
        """Make the rules of a server.

        Parameters
        ----------
        host : str
            What it is bound to: ``127.0.0.1``, ``0.0.0.0``, a name.
        port : int or None
            Its port.
        hosts : iterable of str
            More names: ``pho.shop.example``.
        """
        names = {name.lower().rstrip(".").strip("[]") for name in hosts}
        loopback = is_loopback(host)
        if not loopback:
            # What tablets call it by without anybody having configured it.
            names |= {host.lower().strip("[]"), *own_host_names()}
        return cls(loopback, port or None, frozenset(names))

    def is_ours(self, authority: Authority) -> bool:
        """Whether a `Host` is one of our names, with our port or none.

        Off loopback any IP address passes: who rebinds a name has that name in `Host`, and tablets
        call by an address that the router gave today.
        """
        if authority.port is not None and self.port is not None:
            # Behind a proxy at a port of its own the name says enough.
            if authority.port != self.port and authority.host not in self.hosts:
                return False
        if authority.host in LOOPBACK or authority.host in self.hosts:
            return True
        return not self.loopback and authority.is_address


def is_same_origin(origin: str, scheme: str, host: Authority) -> bool:
    """Whether a page of this origin is a page of ours.

    Parameters
    ----------
    origin : str
        The header; ``null`` (a sandbox, a file) is nobody's.
    scheme : str
        That of the request: ``http``, ``https``, ``ws``, ``wss``.
    host : Authority
        The `Host` of the request.
    """
    match = _ORIGIN.fullmatch(origin)
    its = Authority.parse(match[2]) if match else None
    if match is None or its is None:
        return False
    own = {"ws": "http", "wss": "https"}.get(scheme, scheme)
    # Behind a proxy that ends TLS the page is https and we see http; never the other way round.
    if match[1] not in (own, "https"):
        return False
    default = _DEFAULT_PORTS[match[1]]
    return (its.host, its.port or default) == (host.host, host.port or default)
