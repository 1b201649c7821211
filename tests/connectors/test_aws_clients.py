"""Clients of AWS: one place makes them, and no secret ever passes through."""

from __future__ import annotations

import sys
import threading

import pytest

from connectors.aws_clients import AwsAccess, AwsClients, is_local
from schemas.errors import ResourceError, UsageError

LOCAL = "http://127.0.0.1:4568"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give boto3 some, else it asks the machine's metadata service, which is not here."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREAL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very secret")


def test_a_client_has_our_region_limits_and_tries() -> None:
    access = AwsAccess(
        "eu-central-1",
        endpoint="https://all.example",
        endpoints={"kinesis": LOCAL},
        connect_timeout_ms=1_500,
        read_timeout_ms=2_500,
        tries=4,
    )
    clients = AwsClients(access)
    kinesis, other = clients.client("kinesis"), clients.client("sqs")
    config = kinesis.meta.config
    assert kinesis.meta.region_name == "eu-central-1"
    assert kinesis.meta.endpoint_url == LOCAL
    assert other.meta.endpoint_url == "https://all.example"
    assert (config.connect_timeout, config.read_timeout) == (1.5, 2.5)
    assert config.retries == {"mode": "standard", "total_max_attempts": 4}
    assert clients.fresh("kinesis", read_timeout=9.0).meta.config.read_timeout == 9.0
    clients.close()


def test_all_threads_share_one_client_of_a_service() -> None:
    clients = AwsClients(AwsAccess("eu-central-1", LOCAL))
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(clients.client("kinesis"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert clients.fresh("kinesis") is not found[0]
    clients.close()


def test_real_credentials_never_go_to_a_server_of_this_machine() -> None:
    local = AwsClients(AwsAccess("eu-central-1", LOCAL)).client("kinesis")
    real = AwsClients(AwsAccess("eu-central-1")).client("kinesis")
    assert local._request_signer._credentials.access_key == "local"
    assert real._request_signer._credentials.access_key == "AKIAREAL"
    assert "secret" not in repr(AwsClients(AwsAccess("eu-central-1")).access)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        (LOCAL, True),
        ("http://localhost:1", True),
        ("http://[::1]:1", True),
        ("https://kinesis.eu-central-1.amazonaws.com", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://10.0.0.1", False),
    ],
)
def test_only_loopback_is_local(address: str, local: bool) -> None:
    assert is_local(address) is local


def test_what_cannot_be_is_refused_with_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(UsageError, match=r"aws\.region"):
        AwsClients(AwsAccess()).client("kinesis")
    with pytest.raises(UsageError, match="profile"):
        AwsClients(AwsAccess("eu-central-1", profile="nobody")).client("kinesis")
    with pytest.raises(UsageError, match="no endpoint of AWS"):
        AwsAccess(endpoint="127.0.0.1:4568")
    with pytest.raises(UsageError) as caught:
        AwsAccess(endpoint="http://me:hidden@host")
    assert "hidden" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ResourceError, match=r"pho\[aws\]"):
        AwsClients(AwsAccess("eu-central-1"))
