"""Pictures in a bucket are as private, opaque and short-lived as those in a folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.aws_clients import AwsClients
from connectors.s3_pictures import S3Pictures, check_prefix, ensure_bucket
from local_aws_fixture import local_clients
from pipelines.analyze import PictureTags
from schemas.errors import CloudError, InvalidRecord, PictureMissing, SettingsError

ID = "0123456789abcdef0123456789abcdef"
NO_IDS = (
    "",
    "a",
    ID[:-1],
    ID.upper(),
    ID + "\n",
    "../" + ID[3:],
    "/etc/passwd",
    "s3://others/" + ID,
    "https://example.com/" + ID,
    "pictures/" + ID,
    f"{ID}/../{ID}",
)
BUCKET, OTHER = "shop-pictures", "other-pictures"


@pytest.fixture(scope="module")
def clients() -> Iterator[AwsClients]:
    with local_clients() as (_, made):
        yield made


@pytest.fixture
def client(clients: AwsClients) -> Any:
    s3 = clients.client("s3")
    for bucket in (BUCKET, OTHER):
        ensure_bucket(s3, bucket, clients.access.region, ("pictures/", "uploads/"))
        for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
            s3.delete_object(Bucket=bucket, Key=each["Key"])
    return s3


@pytest.fixture
def store(client: Any) -> S3Pictures:
    return S3Pictures(client, BUCKET)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def keys(client: Any, bucket: str) -> list[str]:
    return [each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", ())]


def test_what_was_put_comes_back_and_goes(store: S3Pictures, client: Any) -> None:
    picture_id = store.put(b"\xff\xd8 pixels")
    assert len(picture_id) == 32
    assert keys(client, BUCKET) == [f"pictures/{picture_id}"]
    assert store.get(picture_id) == b"\xff\xd8 pixels"
    store.delete(picture_id)
    assert store.flush()
    assert keys(client, BUCKET) == []
    with pytest.raises(PictureMissing):
        store.get(picture_id)
    store.delete(picture_id)
    assert store.flush()
    assert store.left_behind == 0


def test_a_given_id_replaces(store: S3Pictures) -> None:
    assert store.put(b"first, longer", ID) == ID
    assert store.put(b"second", ID) == ID
    assert store.get(ID) == b"second"
    assert store.ids() == [ID]


def test_session_sequence_and_phase_are_tags(store: S3Pictures, client: Any) -> None:
    picture_id = store.put(b"pixels", None, PictureTags("door-1.x?y&z=1", 3, "post"))
    answer = client.get_object_tagging(Bucket=BUCKET, Key=f"pictures/{picture_id}")
    told = {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}
    assert told == {"session": "door-1.x_y_z=1", "sequence": "3", "phase": "post"}


@pytest.mark.parametrize("picture_id", NO_IDS)
def test_what_is_no_id_touches_nothing(store: S3Pictures, client: Any, picture_id: str) -> None:
    theirs = [(OTHER, ID), (BUCKET, ID), (BUCKET, "pictures/" + ID[3:]), (OTHER, "pictures/" + ID)]
    for bucket, key in theirs:
        client.put_object(Bucket=bucket, Key=key, Body=b"secret")
    asked: list[str] = []
    client.meta.events.register("before-call.s3", lambda model, **_: asked.append(model.name))
    with pytest.raises(InvalidRecord, match="32 lower-case hex digits"):
        store.put(b"pixels", picture_id)
    with pytest.raises(PictureMissing):
        store.get(picture_id)
    store.delete(picture_id)
    assert store.flush()
    assert asked == []
    for bucket, key in theirs:
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == b"secret"


def test_a_sweep_takes_strays_and_what_is_too_old(store: S3Pictures, client: Any) -> None:
    waiting, stray = store.put(b"1"), store.put(b"2")
    client.put_object(Bucket=BUCKET, Key="pictures/not-ours", Body=b"x")
    client.put_object(Bucket=BUCKET, Key=stray, Body=b"outside the prefix")
    assert store.sweep(now_ms(), {waiting}) == ()
    assert store.sweep(now_ms() + 11_500, {waiting}) == (stray,)
    assert store.ids() == [waiting]
    assert store.sweep(now_ms() + 62_000, {waiting}) == (waiting,)
    assert sorted(keys(client, BUCKET)) == sorted(["pictures/not-ours", stray])


def test_more_than_one_page_is_swept(store: S3Pictures, client: Any) -> None:
    ids = [store.put(b"x") for _ in range(7)]

    def two_a_page(params: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**params, "MaxKeys": 2}

    client.meta.events.register("provide-client-params.s3.ListObjectsV2", two_a_page)
    try:
        assert store.ids() == sorted(ids)
        assert len(store.sweep(0, ())) == 7
    finally:
        client.meta.events.unregister("provide-client-params.s3.ListObjectsV2", two_a_page)
    assert store.ids() == []


def test_the_bucket_is_private_and_forgets_after_a_day(client: Any) -> None:
    rules = client.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    told = {rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in rules}
    assert told == {"pictures/": 1, "uploads/": 1}
    closed = client.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    assert len(closed) == 4
    assert all(closed.values())


def test_a_bucket_that_is_not_there_says_so(client: Any) -> None:
    store = S3Pictures(client, "nobody-made-this")
    with pytest.raises(CloudError, match="NoSuchBucket") as caught:
        store.put(b"pixels")
    assert caught.value.action == "stop"
    store.delete(ID)
    assert store.flush()
    assert store.left_behind == 1


def test_a_torn_answer_is_asked_for_again(store: S3Pictures, client: Any) -> None:
    picture_id = store.put(b"pixels")

    def shorten(parsed: dict[str, Any], **_: Any) -> None:
        parsed["ContentLength"] += 1

    client.meta.events.register("after-call.s3.GetObject", shorten)
    try:
        with pytest.raises(CloudError, match="6 bytes came") as caught:
            store.get(picture_id)
    finally:
        client.meta.events.unregister("after-call.s3.GetObject", shorten)
    assert caught.value.action == "retry"


@pytest.mark.parametrize("prefix", ["", "/", "pictures", "/pictures/", "a//b/", "../a/", "a/../b/"])
def test_a_prefix_that_is_none_is_refused(prefix: str) -> None:
    with pytest.raises(SettingsError, match="ending in a slash"):
        check_prefix("pictures.prefix", prefix)
    with pytest.raises(SettingsError):
        S3Pictures(None, BUCKET, prefix)


def test_a_bucket_needs_a_name() -> None:
    with pytest.raises(SettingsError, match=r"pictures\.bucket"):
        S3Pictures(None, "")
