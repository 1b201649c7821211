"""The gateway's own certificate: a client that trusts its authority takes it, and only for us."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from connectors.clocks import SetClock, WallClock
from running_gateways import running_gateway
from schemas.errors import ResourceError, SettingsError
from serving.gateway.certificates import (
    AUTHORITY_DAYS,
    RENEW_DAYS,
    SERVER_DAYS,
    Certificate,
    check_files,
    fingerprint,
    own_certificate,
    own_names,
)

DAY_MS = 86_400_000
NAMES = ("localhost", "127.0.0.1", "::1", "shop.local", "192.168.1.10", "pho.shop.example")


def served_name(own: Certificate, name: str, trusted: Path | None = None) -> str:
    """Shake hands with a server that has this certificate, as a client that asks for a name."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(own.certificate_file, own.key_file)
    client = ssl.create_default_context(cafile=trusted or own.authority_file)
    here, there = socket.socketpair()

    def answer() -> None:
        try:
            with server.wrap_socket(there, server_side=True):
                pass
        except OSError:
            pass  # the client says why
        finally:
            there.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with client.wrap_socket(here, server_hostname=name) as secure:
            return secure.version() or ""
    finally:
        here.close()
        thread.join()


@pytest.mark.parametrize("name", NAMES)
def test_who_trusts_the_authority_takes_the_server_by_each_name(tmp_path: Path, name: str) -> None:
    assert served_name(own_certificate(tmp_path, NAMES), name) == "TLSv1.3"


def test_another_name_and_another_shops_authority_are_refused(tmp_path: Path) -> None:
    own = own_certificate(tmp_path / "a", NAMES)
    other = own_certificate(tmp_path / "b", NAMES)
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        served_name(own, "bank.example")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|issuer|signature"):
        served_name(own, "localhost", trusted=other.authority_file)


def test_a_stolen_authority_forges_no_other_site(tmp_path: Path) -> None:
    own = own_certificate(tmp_path, NAMES)
    authority = x509.load_pem_x509_certificate(own.authority_file.read_bytes())
    stolen = serialization.load_pem_private_key((tmp_path / "authority.key").read_bytes(), None)
    assert isinstance(stolen, ec.EllipticCurvePrivateKey)
    now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName(
        [x509.DNSName("bank.example"), x509.IPAddress(ipaddress.ip_address("192.0.2.7"))]
    )
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bank")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(stolen, hashes.SHA256())
    )
    own.certificate_file.write_bytes(forged.public_bytes(serialization.Encoding.PEM))
    own.key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    for name in ("bank.example", "192.0.2.7"):
        with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
            served_name(own, name)


def test_the_keys_are_for_nobody_elses_eyes(tmp_path: Path) -> None:
    own = own_certificate(tmp_path, NAMES)
    for path in (own.key_file, tmp_path / "authority.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    own.key_file.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        own_certificate(tmp_path, NAMES)


def test_it_stays_until_it_must_be_renewed_and_the_authority_stays_longer(tmp_path: Path) -> None:
    clock = SetClock(WallClock()())
    first = own_certificate(tmp_path, NAMES, clock)
    content = first.certificate_file.read_bytes()
    clock.set(clock() + (SERVER_DAYS - RENEW_DAYS - 2) * DAY_MS)
    assert own_certificate(tmp_path, NAMES, clock) == first
    assert first.certificate_file.read_bytes() == content
    clock.set(clock() + 2 * DAY_MS)
    second = own_certificate(tmp_path, NAMES, clock)
    assert second.ends_at_ms > first.ends_at_ms
    assert second.fingerprint == first.fingerprint, "trusted once, trusted still"
    clock.set(clock() + (AUTHORITY_DAYS - SERVER_DAYS) * DAY_MS)
    assert own_certificate(tmp_path, NAMES, clock).fingerprint != first.fingerprint


def test_another_address_of_the_shop_asks_no_tablet_again(tmp_path: Path) -> None:
    first = own_certificate(tmp_path, NAMES)
    moved = own_certificate(tmp_path, [*NAMES, "10.1.2.3", "till.local"])
    assert moved.fingerprint == first.fingerprint
    assert served_name(moved, "10.1.2.3")
    # A public name is not one that the authority could speak for.
    public = own_certificate(tmp_path, [*NAMES, "other.example"])
    assert public.fingerprint != first.fingerprint
    assert served_name(public, "other.example")


@pytest.mark.parametrize("file", ["server.crt", "server.key", "authority.crt", "authority.key"])
@pytest.mark.parametrize("content", [b"", b"no PEM"])
def test_what_a_crash_left_half_is_made_anew(tmp_path: Path, file: str, content: bytes) -> None:
    own_certificate(tmp_path, NAMES)
    (tmp_path / file).write_bytes(content)
    assert served_name(own_certificate(tmp_path, NAMES), "localhost")


def test_two_that_start_at_once_have_one_certificate(tmp_path: Path) -> None:
    made: list[Certificate] = []
    threads = [
        threading.Thread(target=lambda: made.append(own_certificate(tmp_path, NAMES)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert len({own.fingerprint for own in made}) == 1
    assert served_name(made[0], "localhost")


def test_the_fingerprint_is_the_one_that_openssl_shows(tmp_path: Path) -> None:
    own = own_certificate(tmp_path, NAMES)
    der = ssl.PEM_cert_to_DER_cert(own.authority_file.read_text())
    assert own.fingerprint == fingerprint(x509.load_der_x509_certificate(der))
    assert len(own.fingerprint) == 95
    assert own.fingerprint.count(":") == 31


def test_this_machines_names_are_found_and_can_be_certified(tmp_path: Path) -> None:
    names = own_names(["shop.example", "[fd00::5]"])
    assert {"localhost", "127.0.0.1", "::1", "shop.example", "fd00::5"} <= set(names)
    assert not any("%" in name for name in names)
    assert own_certificate(tmp_path, names).names


@pytest.mark.parametrize("name", ["", "a b", "shop_1.local", "*.local", "a..b", "https://a"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"gateway\.hosts"):
        own_certificate(tmp_path, [name])


def test_files_of_others_are_looked_at_before_a_server_starts(tmp_path: Path) -> None:
    own = own_certificate(tmp_path, NAMES)
    check_files(own.certificate_file, own.key_file)
    with pytest.raises(SettingsError, match="is not the key of"):
        check_files(own.certificate_file, tmp_path / "authority.key")
    with pytest.raises(SettingsError, match="no PEM file"):
        check_files(own.key_file, own.key_file)
    with pytest.raises(ResourceError, match="cannot be read"):
        check_files(tmp_path / "none.crt", own.key_file)
    old = own_certificate(tmp_path / "old", NAMES, SetClock(1_000_000_000_000))
    with pytest.raises(SettingsError, match="ended on 2002"):
        check_files(old.certificate_file, old.key_file)


def test_a_gateway_with_its_own_certificate_says_how_to_trust_it(tmp_path: Path) -> None:
    with running_gateway(tmp_path, tls="auto") as shop:
        base = f"https://localhost:{shop.settings.gateway.port}"
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(f"{base}/health")
        trusting = ssl.create_default_context(cafile=tmp_path / "tls" / "authority.crt")
        with httpx.Client(base_url=base, verify=trusting) as client:
            page = client.get("/trust")
            given = client.get("/trust/pho.crt")
            assert client.get("/trust/../tls/authority.key").status_code == 404
            foreign = client.get("/health", headers={"origin": base.replace("https", "http")})
    assert given.headers["content-type"] == "application/x-x509-ca-cert"
    authority = x509.load_pem_x509_certificate(given.content)
    assert b"PRIVATE" not in given.content
    assert fingerprint(authority) in page.text.replace("<wbr>", "")
    assert '<body class="own">' in page.text
    assert foreign.status_code == 403, "a page of plain HTTP is none of ours"


def test_a_gateway_without_one_says_that_there_is_nothing_to_trust(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as shop:
        base = f"http://127.0.0.1:{shop.settings.gateway.port}"
        assert '<body class="none">' in httpx.get(f"{base}/trust").text
        answer = httpx.get(f"{base}/trust/pho.crt")
    assert answer.status_code == 404
    assert set(answer.json()) == {"problem", "cure"}
