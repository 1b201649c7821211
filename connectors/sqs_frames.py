"""Frames from uploads: S3 tells a queue of each new object, and each becomes a frame in the log.

For a camera that can do nothing but upload. Its picture is read from the one bucket and prefix that
are configured, put into the picture store under an opaque id, and the upload is deleted: the frame
names the id alone. A message is deleted only after its frame is in the log; it may come twice, in
any order or late, and is the same frame each time.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from connectors.aws_errors import call, read_body
from connectors.logs import Log
from connectors.picture_format import ENCODED_BYTES_MAX, PictureFormat, read_format
from connectors.upload_notes import Refused, Upload, read_note
from pipelines.analyze import Pictures, PictureTags
from schemas.errors import CloudError, PhoError, PictureUnreadable
from schemas.frames import FrameCaptured, Notice
from schemas.operations import SideRecord
from schemas.streams import DEAD_LETTERS

SOURCE = "uploads"
"""Where dead letters say they come from: no stream, so nothing replays them into one."""

MESSAGES_AT_ONCE = 10
"""Most messages of one ReceiveMessage."""

AGAIN_AFTER_S = 2
"""A message whose object could not be read now comes again so soon: its picture ages."""

REMEMBERED = 20_000
"""Frame ids remembered, to take a repeat for one without reading its object."""


@dataclass(frozen=True, slots=True)
class UploadSettings:
    """What the source is told."""

    queue_url: str
    """The queue."""
    bucket: str
    """The one bucket whose objects are taken."""
    prefix: str
    """And what their keys begin with."""
    loop_id: str
    """The loop that decides."""
    notice: Notice
    """Where visitors read of the camera; ``none``: no picture is read or kept."""
    utc_offset_minutes: int = 0
    """Local time minus UTC, minutes."""
    language: str | None = None
    """Language of the kiosks, a BCP 47 tag."""
    visibility_s: int = 30
    """So long nobody else gets a message that is being worked on, s."""


@dataclass(slots=True)
class UploadCounters:
    """What happened; each is a number of times."""

    messages: int = 0
    """Messages received."""
    frames: int = 0
    """Frames in the log."""
    repeats: int = 0
    """Uploads that were frames already, or whose object was gone."""
    tests: int = 0
    """Test events of S3."""
    dead_letters: int = 0
    """What was put aside."""
    put_back: int = 0
    """Messages left in the queue, to come again."""
    undeleted: int = 0
    """Objects or messages that could not be deleted: they come again, or the bucket forgets."""


@dataclass(slots=True)
class _Taken:
    """One message, looked at."""

    message: dict[str, Any]
    frames: list[tuple[Upload, FrameCaptured]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    done_keys: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    put_back: bool = False
    repeats: int = 0
    tests: int = 0


class SqsFrames:
    """The source.

    Parameters
    ----------
    sqs, s3 : boto3 clients
        Made by `connectors.aws_clients`; S3's read timeout stays below `visibility_s`.
    pictures : Pictures
        Keeps the pictures until they are analysed.
    log : Log
        Takes the frames; its clock stamps dead letters.
    settings : UploadSettings
        What it is told.
    new_picture_id : callable, optional
        Makes a picture's id from its frame's; None: the store makes one at random.
    """

    def __init__(
        self,
        sqs: Any,
        s3: Any,
        pictures: Pictures,
        log: Log,
        settings: UploadSettings,
        new_picture_id: Callable[[str], str | None] = lambda _frame_id: None,
    ) -> None:
        self.counters = UploadCounters()
        self._sqs = sqs
        self._s3 = s3
        self._pictures = pictures
        self._log = log
        self._settings = settings
        self._new_picture_id = new_picture_id
        self._known: dict[str, None] = {}
        self._claimed: set[str] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(MESSAGES_AT_ONCE, "pho-uploads")

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown()

    def step(self, wait_s: int = 0) -> int:
        """Take what waits in the queue, ten messages at most; return how many came.

        Parameters
        ----------
        wait_s : int
            Wait so long for the first of them, s, at most 20.

        Raises
        ------
        LogFull, LogUnavailable
            The log took nothing: no message was deleted, all of them come again.
        CloudError
            The queue cannot be read, or the bucket not at all (`action` says whether to wait).
        """
        answer = self._call_sqs(
            "ReceiveMessage",
            MaxNumberOfMessages=MESSAGES_AT_ONCE,
            VisibilityTimeout=self._settings.visibility_s,
            WaitTimeSeconds=wait_s,
        )
        messages = answer.get("Messages", [])
        self.counters.messages += len(messages)
        if not messages:
            return 0
        # All are looked at before an error of one is raised: what was stored must be forgotten.
        self._claimed.clear()
        futures = [self._pool.submit(self._take, message) for message in messages]
        taken = [future.result() for future in futures if future.exception() is None]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            self._forget(taken)
            raise errors[0]
        self._write(taken)
        for each in taken:
            self._finish(each)
        return len(messages)

    def _take(self, message: dict[str, Any]) -> _Taken:
        """Read a message and fetch its pictures; nothing is in the log yet."""
        settings = self._settings
        note = read_note(message.get("Body", ""), settings.bucket, settings.prefix)
        taken = _Taken(message, refused=list(note.refused), tests=int(note.is_test))
        taken.done_keys += [each.key for each in note.refused if each.key]
        try:
            for upload in note.uploads:
                self._fetch(upload, taken)
        except CloudError as error:
            if error.action == "stop":
                self._forget([taken])
                raise
            taken.put_back = True
        except PhoError:
            self._forget([taken])
            raise
        return taken

    def _fetch(self, upload: Upload, taken: _Taken) -> None:
        if upload.frame_id in self._known:
            taken.repeats += 1
            taken.done_keys.append(upload.key)
            return
        with self._lock:
            if upload.frame_id in self._claimed:
                # The same twice in one batch: whether the first gets into the log nobody knows yet.
                taken.put_back = True
                return
            self._claimed.add(upload.frame_id)
        picture_id, told = secrets.token_hex(16), None
        if self._settings.notice != "none":
            try:
                picture = self._object(upload.key)
                told = read_format(picture)
            except CloudError as error:
                if error.code == "NoSuchKey":
                    # Its frame was in the log before a crash, or somebody deleted it.
                    taken.repeats += 1
                    return
                if error.action != "dead_letter":
                    raise
                taken.refused.append(Refused("unreadable_picture", str(error)))
                taken.done_keys.append(upload.key)
                return
            except PictureUnreadable as error:
                taken.refused.append(Refused("unreadable_picture", f"{upload.key}: {error}"))
                taken.done_keys.append(upload.key)
                return
            tags = PictureTags(upload.visit_id, upload.sequence, upload.phase)
            wished = self._new_picture_id(upload.frame_id)
            picture_id = self._pictures.put(picture, wished, tags)
            taken.stored.append(picture_id)
        taken.frames.append((upload, self._frame(upload, picture_id, told)))
        taken.done_keys.append(upload.key)

    def _object(self, key: str) -> bytes:
        bucket = self._settings.bucket
        answer = call(self._s3, "s3", "GetObject", what=bucket, Bucket=bucket, Key=key)
        picture = read_body(answer["Body"], "s3", "GetObject", ENCODED_BYTES_MAX, bucket)
        if len(picture) != answer["ContentLength"]:
            problem = f"AWS s3 GetObject of {bucket}: {len(picture)} bytes came"
            told = answer["ContentLength"]
            raise CloudError(problem, f"{told} were promised; it is asked again", "retry", "Torn")
        return picture

    def _frame(self, upload: Upload, picture_id: str, told: PictureFormat | None) -> FrameCaptured:
        settings = self._settings
        return FrameCaptured(
            frame_id=upload.frame_id,
            decision_id=upload.visit_id,
            visit_id=upload.visit_id,
            loop_id=settings.loop_id,
            kiosk_id=upload.kiosk_id,
            phase=upload.phase,
            sequence=upload.sequence,
            captured_at_ms=upload.at_ms,
            width=told.width if told else 0,
            height=told.height if told else 0,
            notice=settings.notice,
            utc_offset_minutes=settings.utc_offset_minutes,
            picture_id=picture_id,
            language=settings.language,
        )

    def _write(self, taken: list[_Taken]) -> None:
        """Append what was taken, in one go; then it counts as done."""
        now_ms = self._log.clock()
        rows: list[tuple[str, Any]] = []
        for each in taken:
            rows += [("frames", frame) for _, frame in each.frames]
            rows += [(DEAD_LETTERS, _letter(each.message, why, now_ms)) for why in each.refused]
        try:
            if rows:
                self._log.append_all(rows)
        except PhoError:
            self._forget(taken)
            raise
        for each in taken:
            self.counters.frames += len(each.frames)
            self.counters.dead_letters += len(each.refused)
            self.counters.repeats += each.repeats
            self.counters.tests += each.tests
            self._known.update(dict.fromkeys(frame.frame_id for _, frame in each.frames))
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    def _forget(self, taken: list[_Taken]) -> None:
        """Delete pictures whose frames are not in the log: nobody else would in time."""
        for each in taken:
            for picture_id in each.stored:
                with contextlib.suppress(PhoError):
                    self._pictures.delete(picture_id)

    def _finish(self, taken: _Taken) -> None:
        """Delete uploads and message; what fails here comes again as a repeat."""
        bucket, handle = self._settings.bucket, taken.message["ReceiptHandle"]
        try:
            for key in taken.done_keys:
                call(self._s3, "s3", "DeleteObject", what=bucket, Bucket=bucket, Key=key)
            if taken.put_back:
                self.counters.put_back += 1
                self._call_sqs(
                    "ChangeMessageVisibility",
                    ReceiptHandle=handle,
                    VisibilityTimeout=AGAIN_AFTER_S,
                )
                return
            self._call_sqs("DeleteMessage", ReceiptHandle=handle)
        except CloudError:
            self.counters.undeleted += 1

    def _call_sqs(self, operation: str, **request: Any) -> Any:
        url = self._settings.queue_url
        return call(self._sqs, "sqs", operation, what=url, QueueUrl=url, **request)


def _letter(message: dict[str, Any], why: Refused, now_ms: int) -> SideRecord:
    body = str(message.get("Body", "")).encode("utf-8", "replace")
    key = str(message.get("MessageId", "")) or "message"
    return SideRecord(why.reason, why.error, SOURCE, 0, 0, now_ms, key, body)
