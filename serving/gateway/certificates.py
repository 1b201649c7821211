"""A certificate of one's own (`--tls auto`): browsers give no camera to a page without HTTPS.

Two certificates: a small authority that is trusted once on each tablet, and the server's, which it
signs and which is made anew before it ends or when the machine got another address. The authority
may only speak for this shop: names and private addresses outside are excluded (RFC 5280, 4.2.1.10),
so that a stolen key of it forges no bank. Apple takes a server's certificate for at most 825 days.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from connectors.clocks import WallClock
from schemas.errors import ResourceError, SettingsError
from serving.gateway.own_addresses import own_addresses, own_host_names
from serving.gateway.private_files import only_writer, read_private, write_private
from serving.gateway.same_origin import LOOPBACK

FOLDER = "tls"
"""Its place in the data folder."""
AUTHORITY_DAYS, SERVER_DAYS = 3_650, 397
"""How long they hold; 397 days is what browsers allow public servers."""
RENEW_DAYS = 30
"""The server's is made anew so many days before it ends."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_PRIVATE: tuple[_Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)
# Ends of names that no public name has (RFC 6762, RFC 8375, ICANN's choice of 2024).
_PRIVATE_ENDS = ("localhost", "local", "home.arpa", "internal")


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a server needs for TLS, and a person to trust it."""

    certificate_file: Path
    """The server's certificate with its authority's, PEM."""
    key_file: Path
    """Its key, PEM, mode 0600."""
    authority_file: Path
    """What a tablet is told to trust, PEM."""
    fingerprint: str
    """SHA-256 of the authority's certificate, as browsers and phones show it: ``AB:CD:…``."""
    names: tuple[str, ...]
    """Names and addresses it holds for."""
    ends_at_ms: int
    """When the server's ends, ms since 1970 UTC."""


def own_names(hosts: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names and addresses under which this machine may be called.

    Parameters
    ----------
    hosts : iterable of str
        More of them, from the settings.
    """
    names = {*LOOPBACK, *own_addresses(), *own_host_names()}
    names |= {host.lower().strip("[]") for host in hosts}
    return tuple(sorted(names))


def own_certificate(
    folder: Path, names: Iterable[str], clock: Callable[[], int] | None = None
) -> Certificate:
    """Return a certificate for these names, made or renewed where needed.

    Parameters
    ----------
    folder : Path
        Where it is kept; made if it is not there.
    names : iterable of str
        Host names and IP addresses.
    clock : callable
        Returns ms since 1970 UTC.

    Raises
    ------
    SettingsError
        A name is none, or a key can be read by others.
    ResourceError
        The folder cannot be written.
    """
    now = _moment((clock or WallClock())())
    wanted = tuple(sorted({_checked(name) for name in names}))
    with only_writer(folder / "server.key"):
        authority = _authority(folder, wanted, now)
        server = _read_pair(folder, "server")
        if server is None or not _holds(server.certificate, authority.certificate, wanted, now):
            server = _make_server(folder, authority, wanted, now)
    ends = server.certificate.not_valid_after_utc
    return Certificate(
        certificate_file=folder / "server.crt",
        key_file=folder / "server.key",
        authority_file=folder / "authority.crt",
        fingerprint=fingerprint(authority.certificate),
        names=wanted,
        ends_at_ms=int(ends.timestamp() * 1_000),
    )


def fingerprint(certificate: x509.Certificate) -> str:
    """Return SHA-256 of a certificate, as phones show it: pairs of hex digits, colons between."""
    digest = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
    return ":".join(digest[i : i + 2] for i in range(0, 64, 2)).upper()


@dataclass(frozen=True, slots=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def _authority(folder: Path, names: tuple[str, ...], now: datetime.datetime) -> _Pair:
    pair = _read_pair(folder, "authority")
    if pair is not None:
        ends = pair.certificate.not_valid_after_utc
        # It must outlive what it signs.
        is_long = now + datetime.timedelta(days=SERVER_DAYS) < ends
        if is_long and _may_sign(pair.certificate, names):
            return pair
    key = ec.generate_private_key(ec.SECP256R1())
    host = socket.gethostname()[:30]
    subject = _subject(f"PHO of {host}, made {now:%Y-%m-%d}")
    builder = _builder(subject, subject, key, now, AUTHORITY_DAYS)
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(_constraints(names), critical=True)
    )
    made = _Pair(builder.sign(key, hashes.SHA256()), key)
    _write_pair(folder, "authority", made, [made.certificate])
    return made


def _make_server(
    folder: Path, authority: _Pair, names: tuple[str, ...], now: datetime.datetime
) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate.subject
    from_authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(_subject("PHO gateway"), issuer, key, now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(from_authority, critical=False)
        .add_extension(x509.SubjectAlternativeName(_general(names)), critical=False)
    )
    made = _Pair(builder.sign(authority.key, hashes.SHA256()), key)
    _write_pair(folder, "server", made, [made.certificate, authority.certificate])
    return made


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A tablet whose clock is a day behind would call it "not yet valid".
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days - 1))
        .add_extension(identifier, critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _constraints(names: tuple[str, ...]) -> x509.NameConstraints:
    permitted: list[x509.GeneralName] = [x509.DNSName(end) for end in _PRIVATE_ENDS]
    permitted += [x509.IPAddress(network) for network in _PRIVATE]
    for name in names:
        address = _address(name)
        if address is None:
            if not _below(name, _PRIVATE_ENDS):
                permitted.append(x509.DNSName(name))
        elif not any(address in network for network in _PRIVATE):
            permitted.append(x509.IPAddress(ipaddress.ip_network(name)))
    return x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None)


def _may_sign(authority: x509.Certificate, names: tuple[str, ...]) -> bool:
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    permitted = constraints.permitted_subtrees or []
    ends = tuple(each.value for each in permitted if isinstance(each, x509.DNSName))
    networks = [each.value for each in permitted if isinstance(each, x509.IPAddress)]
    return all(
        _below(name, ends)
        if (address := _address(name)) is None
        else any(address in network for network in networks)  # type: ignore[operator]
        for name in names
    )


def _holds(
    server: x509.Certificate,
    authority: x509.Certificate,
    names: tuple[str, ...],
    now: datetime.datetime,
) -> bool:
    try:
        server.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    found = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    soon = now + datetime.timedelta(days=RENEW_DAYS)
    return list(found) == _general(names) and soon < server.not_valid_after_utc


def _general(names: tuple[str, ...]) -> list[x509.GeneralName]:
    return [
        x509.DNSName(name) if (address := _address(name)) is None else x509.IPAddress(address)
        for name in names
    ]


def _address(name: str) -> _Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _below(name: str, ends: tuple[str, ...]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


def _is_dns_name(name: str) -> bool:
    labels = name.split(".")
    return len(name) <= 253 and all(
        0 < len(label) <= 63 and label.replace("-", "").isalnum() and label.isascii()
        for label in labels
    )


def _checked(name: str) -> str:
    address = _address(name.strip("[]"))
    if address is not None:
        return str(address)
    if not _is_dns_name(name):
        problem = f"{name!r} in gateway.hosts is no name of a machine"
        raise SettingsError(problem, "Use names such as shop.local, or IP addresses")
    return name.lower()


def _moment(at_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at_ms / 1_000, datetime.UTC)


def _read_pair(folder: Path, name: str) -> _Pair | None:
    """Return a certificate and its key; None: there are none, or they are not whole."""
    key_text = read_private(folder / f"{name}.key")
    try:
        text = (folder / f"{name}.crt").read_bytes()
        key = serialization.load_pem_private_key(key_text or b"", None)
        certificate = x509.load_pem_x509_certificates(text)[0]
    except (OSError, ValueError):
        # Between two renames a crash may leave an old one beside a new one: made anew.
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    return _Pair(certificate, key) if key.public_key() == certificate.public_key() else None


def _write_pair(folder: Path, name: str, pair: _Pair, chain: list[x509.Certificate]) -> None:
    key_text = pair.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_private(folder / f"{name}.key", key_text)
    text = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain)
    write_private(folder / f"{name}.crt", text)


def check_files(certificate_file: Path, key_file: Path) -> None:
    """Refuse files that cannot be a certificate and its key, before a server starts with them.

    Raises
    ------
    ResourceError
        One cannot be read.
    SettingsError
        They do not belong together, or the certificate has ended.
    """
    try:
        chain = x509.load_pem_x509_certificates(certificate_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except OSError as error:
        problem = f"{error.filename} cannot be read: {error.strerror}"
        raise ResourceError(problem, "Name files that PHO's user may read") from error
    except (TypeError, ValueError) as error:
        problem = f"{certificate_file} or {key_file} is no PEM file, or asks for a password"
        raise SettingsError(problem, "Give the certificate and its key as PEM") from error
    if key.public_key() != chain[0].public_key():
        problem = f"{key_file} is not the key of {certificate_file}"
        raise SettingsError(problem, "Name the two files that were made together")
    if chain[0].not_valid_after_utc < datetime.datetime.now(datetime.UTC):
        problem = f"{certificate_file} ended on {chain[0].not_valid_after_utc:%Y-%m-%d}"
        raise SettingsError(problem, "Renew it, then start again")
