"""Pictures on their short way from camera to analysis, as objects of one bucket with opaque names.

The twin of `connectors.pictures` for kiosks and jobs on different machines. An id is looked up
under one fixed prefix of one fixed bucket, so whoever writes a frame can name no other object.
Deleted when its analysis is read from the log; what a crash leaves behind the sweep removes, and
what nobody sweeps the bucket's own lifecycle rule, after a day.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
from collections.abc import Collection, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

from connectors.aws_errors import call, read_body
from connectors.picture_format import ENCODED_BYTES_MAX
from connectors.pictures import PICTURE_TTL_MS, checked_id, is_over, is_picture_id, missing
from pipelines.analyze import PictureTags
from schemas.errors import (
    CloudError,
    LogUnavailable,
    SettingsError,
)

PREFIX = "pictures/"
"""Under which pictures stand in the bucket, unless settings say otherwise."""

LIFECYCLE_DAYS = 1
"""The shortest life that a lifecycle rule can give; the sweep takes seconds."""

_DELETED_AT_ONCE = 1_000  # most keys of one DeleteObjects
_TRIES_TO_DELETE = 3
_is_prefix = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*/").fullmatch


class S3Pictures:
    """A picture store in one bucket.

    Parameters
    ----------
    client : boto3 client of S3
        Made by `connectors.aws_clients`.
    bucket : str
        The bucket; it is there already.
    prefix : str, default "pictures/"
        What the keys begin with; nothing else may stand under it.

    Raises
    ------
    SettingsError
        The prefix is none, or the bucket has no name.
    """

    def __init__(self, client: Any, bucket: str, prefix: str = PREFIX) -> None:
        if not bucket:
            problem = "no bucket for pictures is named"
            raise SettingsError(problem, "Set pictures.bucket in pho.toml")
        self.prefix = check_prefix("pictures.prefix", prefix)
        self.bucket = bucket
        self._client = client
        self._gone: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        self._deleter: threading.Thread | None = None
        self._lock = threading.Lock()
        self.left_behind = 0
        """Pictures that could not be deleted when their time had come; the sweep takes them."""

    def put(
        self, picture: bytes, picture_id: str | None = None, tags: PictureTags | None = None
    ) -> str:
        """Keep an encoded picture; return its id.

        Parameters
        ----------
        picture : bytes
            The encoded picture.
        picture_id : str, optional
            32 lower-case hex digits; None: a new one, of 128 random bits. A picture that has
            this id already is replaced.
        tags : PictureTags, optional
            Stand at the object as its tags, for whoever looks at the bucket.

        Raises
        ------
        InvalidRecord
            When `picture_id` is not 32 lower-case hex digits.
        LogUnavailable
            When S3 did not take it now: a kiosk tries again with a later shot.
        CloudError
            When it never will: no such bucket, no permission.
        """
        picture_id = checked_id(picture_id)
        more: dict[str, Any] = {}
        if tags is not None:
            pairs = (("session", tags.session), ("sequence", tags.sequence), ("phase", tags.phase))
            more["Tagging"] = urlencode([(name, _as_tag(value)) for name, value in pairs])
        # No name and no type of a file: whoever may list the bucket learns times and sizes alone.
        try:
            self._call("PutObject", Key=self.prefix + picture_id, Body=picture, **more)
        except CloudError as error:
            if error.action == "retry":
                raise LogUnavailable(error.problem, error.cure) from error
            raise
        return picture_id

    def get(self, picture_id: str) -> bytes:
        """Return a picture.

        Raises
        ------
        PictureMissing
            When the id resolves to nothing: answered already, swept, or no picture's id.
        CloudError
            When S3 gave no whole answer.
        """
        if not is_picture_id(picture_id):
            raise missing(picture_id)
        try:
            answer = self._call("GetObject", Key=self.prefix + picture_id)
        except CloudError as error:
            if error.code == "NoSuchKey":
                raise missing(picture_id) from error
            raise
        data = read_body(answer["Body"], "s3", "GetObject", ENCODED_BYTES_MAX, self.bucket)
        if len(data) != answer["ContentLength"]:
            problem = f"AWS s3 GetObject of {self.bucket}: {len(data)} bytes came"
            told = answer["ContentLength"]
            raise CloudError(problem, f"{told} were promised; it is asked again", "retry", "Torn")
        return data

    def delete(self, picture_id: str) -> None:
        """Forget a picture soon, in the background; one that is gone is no error.

        The engine calls this between reading an answer and its commit, where 20 ms for each
        picture would hold up every visitor. What a crash loses of it the sweep makes good.
        """
        if not is_picture_id(picture_id):
            return
        with self._lock:
            if self._deleter is None:
                self._deleter = threading.Thread(
                    target=self._delete_on, daemon=True, name="pho-pictures"
                )
                self._deleter.start()
        self._gone.put(picture_id)

    def flush(self, wait_s: float = 30.0) -> bool:
        """Wait until all that was asked to be deleted is; return whether it was in time."""
        if self._deleter is None:
            return True
        done = threading.Event()
        self._gone.put(done)
        return done.wait(wait_s)

    def ids(self) -> list[str]:
        """Return the ids of the pictures kept now, in alphabetical order.

        Raises
        ------
        CloudError
            When S3 gave no whole answer.
        """
        return sorted(picture_id for picture_id, _ in self._listed())

    def sweep(
        self, now_ms: int, waiting: Collection[str], picture_ttl_ms: int = PICTURE_TTL_MS
    ) -> tuple[str, ...]:
        """Delete what nobody waits for (older than 10 s) and what is older than the limit.

        Parameters
        ----------
        now_ms : int
            This machine's clock, ms since 1970 UTC; ages are by S3's clock.
        waiting : collection of str
            Ids of the pictures of unanswered frames.
        picture_ttl_ms : int, default 60000
            Age above which even a picture that is waited for is deleted, milliseconds.

        Returns
        -------
        tuple of str
            Ids of the deleted pictures, in alphabetical order.

        Raises
        ------
        CloudError
            When S3 gave no whole answer; the next sweep tries again.
        """
        swept = []
        for picture_id, modified_ms in self._listed():
            waited_for = picture_id in waiting
            if is_over(now_ms, modified_ms, waited_for=waited_for, picture_ttl_ms=picture_ttl_ms):
                swept.append(picture_id)
        for start in range(0, len(swept), _DELETED_AT_ONCE):
            self._delete_now(swept[start : start + _DELETED_AT_ONCE])
        return tuple(sorted(swept))

    def _listed(self) -> Iterator[tuple[str, int]]:
        """Yield id and age of each picture; what else stands under the prefix is not ours."""
        more: dict[str, Any] = {}
        while True:
            answer = self._call("ListObjectsV2", Prefix=self.prefix, **more)
            for each in answer.get("Contents", ()):
                name = each["Key"].removeprefix(self.prefix)
                if is_picture_id(name):
                    yield name, round(each["LastModified"].timestamp() * 1_000)
            if not answer["IsTruncated"]:
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def _delete_on(self) -> None:
        while True:
            first = self._gone.get()
            batch = [first]
            with contextlib.suppress(queue.Empty):
                while len(batch) < _DELETED_AT_ONCE:
                    batch.append(self._gone.get_nowait())
            ids = [each for each in batch if isinstance(each, str)]
            self._delete_patiently(ids)
            for each in batch:
                if isinstance(each, threading.Event):
                    each.set()

    def _delete_patiently(self, ids: list[str]) -> None:
        for _ in range(_TRIES_TO_DELETE if ids else 0):
            try:
                self._delete_now(ids)
                return
            except CloudError as error:
                # Never raised: this thread has nobody to tell. The sweep takes what stays, and
                # says what is wrong where the job can end of it.
                if error.action == "stop":
                    break
        self.left_behind += len(ids)

    def _delete_now(self, ids: Sequence[str]) -> None:
        keys = [{"Key": self.prefix + picture_id} for picture_id in ids]
        answer = self._call("DeleteObjects", Delete={"Objects": keys, "Quiet": True})
        if failed := answer.get("Errors"):
            code = str(failed[0].get("Code", ""))
            problem = f"AWS s3 DeleteObjects of {self.bucket}: {len(failed)} failed, {code}"
            action = "stop" if code.startswith("AccessDenied") else "retry"
            cure = "Allow s3:DeleteObject to PHO's role; else they are asked for again"
            raise CloudError(problem, cure, "stop" if action == "stop" else "retry", code)

    def _call(self, operation: str, **request: Any) -> Any:
        return call(self._client, "s3", operation, what=self.bucket, Bucket=self.bucket, **request)


def ensure_bucket(client: Any, bucket: str, region: str, prefixes: Sequence[str]) -> None:
    """Make a private bucket whose objects live a day at most, unless it is there; for local use.

    On AWS the template in deploy/aws makes it, with everything this does.

    Parameters
    ----------
    client : boto3 client of S3
        Made by `connectors.aws_clients`.
    bucket, region : str
        Which, and where.
    prefixes : sequence of str
        What lives a day at most: pictures, and uploads.

    Raises
    ------
    CloudError
        When it cannot be made.
    """
    # us-east-1 is the one region that must not be named (API reference of CreateBucket).
    where = {} if region == "us-east-1" else {"LocationConstraint": region}
    more: dict[str, Any] = {"CreateBucketConfiguration": where} if where else {}
    try:
        call(client, "s3", "CreateBucket", bucket, Bucket=bucket, **more)
    except CloudError as error:
        if error.code != "BucketAlreadyOwnedByYou":
            raise
    closed = dict.fromkeys(
        ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
    )
    call(
        client,
        "s3",
        "PutPublicAccessBlock",
        bucket,
        Bucket=bucket,
        PublicAccessBlockConfiguration=closed,
    )
    rules = [
        {
            "ID": f"pho-{number}",
            "Status": "Enabled",
            "Filter": {"Prefix": prefix},
            "Expiration": {"Days": LIFECYCLE_DAYS},
        }
        for number, prefix in enumerate(prefixes)
    ]
    call(
        client,
        "s3",
        "PutBucketLifecycleConfiguration",
        bucket,
        Bucket=bucket,
        LifecycleConfiguration={"Rules": rules},
    )


def check_prefix(name: str, prefix: str) -> str:
    """Return a prefix of keys that ends in a slash and hides nothing.

    Raises
    ------
    SettingsError
        It is empty, begins with a slash, or holds anything but letters, digits, ``_``, ``.``,
        ``-`` and slashes.
    """
    if _is_prefix(prefix) is None or ".." in prefix:
        problem = f"{name} is {prefix!r}"
        raise SettingsError(problem, "Write one such as pictures/, ending in a slash")
    return prefix


def _as_tag(value: object) -> str:
    """Return what S3 takes as a tag's value: 256 letters, digits, spaces and ``+-=._:/@``."""
    return re.sub(r"[^A-Za-z0-9 +\-=._:/@]", "_", str(value))[:256]
