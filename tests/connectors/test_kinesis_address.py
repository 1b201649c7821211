"""Addresses of logs on Kinesis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.aws_clients import AwsAccess
from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_streams import KINESIS_STREAMS
from schemas.errors import UsageError


@given(st.from_regex(r"[a-z]{2}-[a-z]{4,9}-[1-9]", fullmatch=True), st.text("aZ0_.-", min_size=1))
def test_what_is_written_is_read_again(region: str, prefix: str) -> None:
    for endpoint in ("", "http://127.0.0.1:4568"):
        address = KinesisAddress(region, prefix[:100], endpoint)
        assert KinesisAddress.parse(str(address)) == address
        assert all(len(address.stream_name(stream)) <= 128 for stream in KINESIS_STREAMS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kafka://host/shop", "no address of a log on Kinesis"),
        ("kinesis:///shop", "no region"),
        ("kinesis://EU/shop", "no region"),
        ("kinesis://eu-central-1", "cannot be the start"),
        ("kinesis://eu-central-1/a/b", "cannot be the start"),
        ("kinesis://eu-central-1/" + "a" * 101, "cannot be the start"),
        ("kinesis://eu-central-1/shop?port=1", "no option 'port'"),
        ("kinesis://eu-central-1/shop#x", "no option 'x'"),
        ("kinesis://eu-central-1/shop?endpoint=host:1", "no endpoint"),
        ("kinesis://key:secret@eu-central-1/shop", "holds no keys"),
    ],
)
def test_what_is_none_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        KinesisAddress.parse(text)
    assert "secret" not in str(caught.value)


def test_its_region_and_server_go_before_the_settings() -> None:
    settings = AwsAccess("us-east-1", endpoints={"kinesis": "http://a:1", "s3": "http://b:1"})
    address = KinesisAddress("eu-central-1", "shop", "http://c:1")
    access = address.access(settings)
    assert access.region == "eu-central-1"
    assert access.endpoint_of("kinesis") == "http://c:1"
    assert access.endpoint_of("s3") == "http://b:1"
    plain = KinesisAddress("eu-central-1", "shop").access(settings)
    assert plain.endpoint_of("kinesis") == "http://a:1"
