"""A server on this machine that answers as Amazon Rekognition does, from the local analyser.

For demonstrations and tests: the real boto3 client speaks to it over HTTP. It knows DetectFaces and
DetectLabels, refuses what Rekognition refuses, and can be told to fail. What it does not have:
sunglasses, beards, ages; its labels are persons alone.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal

from connectors.guarding import TokenBucket
from connectors.picture_format import read_format
from connectors.rekognition import PICTURE_BYTES_MAX
from connectors.rekognition_faces import EMOTIONS
from pipelines.analyze import Analyser
from schemas.errors import PictureError, PictureUnreadable
from schemas.frames import Box, Face

Fault = Literal["throttled", "broken", "reset", "slow", "torn", "foreign", "denied"]
"""What may go wrong with one call: refused for its rate, status 500, connection reset, answered
late, half an answer, an answer of another service, no permission."""

S3_OBJECT_BYTES_MAX = 15 * 1024 * 1024
"""Largest picture read from S3 (Rekognition's quota)."""

SLOW_S = 1.0
_TYPE = "application/x-amz-json-1.1"
_TARGET = "RekognitionService."
# The local classifier's names for what Rekognition calls otherwise.
_LOCAL_NAMES = {"disgust": "DISGUSTED", "surprise": "SURPRISED", "neutral": "CALM"}
_THEIRS = {ours: theirs for theirs, ours in EMOTIONS.items()} | _LOCAL_NAMES
_NO_BYTES = ("InvalidParameterException", "Request has invalid parameters: Image.Bytes")
_NO_OBJECT = ("InvalidS3ObjectException", "Unable to get object metadata from S3")
_NO_PICTURE = ("InvalidImageFormatException", "Request has invalid image format")
_TOO_LARGE = ("ImageTooLargeException", "Image size is too large")
_ONE_FACE = Face(Box(0.4, 0.3, 0.2, 0.3), 0.99)


@dataclass(frozen=True, slots=True)
class Faults:
    """How often each kind of thing goes wrong; shares of the calls, 0..1, drawn by seed."""

    throttled: float = 0.0
    """HTTP 400 with ThrottlingException."""
    broken: float = 0.0
    """HTTP 500 with InternalServerError."""
    reset: float = 0.0
    """The connection is reset."""
    slow: float = 0.0
    """The answer comes a second late."""
    torn: float = 0.0
    """Half an answer, with status 200."""
    foreign: float = 0.0
    """Another service's answer, with status 200."""
    denied: float = 0.0
    """HTTP 400 with AccessDeniedException."""
    seed: int = 1
    """Of the draws."""


class LocalRekognition:
    """A server on loopback.

    Parameters
    ----------
    analyser : Analyser, optional
        Looks at the pictures; None: every picture has one face of no expression, at no cost.
    port : int, default 0
        Where it listens; 0: a free one.
    delay_ms : float, default 0
        How long each answer takes beside the looking, ms.
    quota : float, optional
        Calls a second; more are refused, as an account's quota is. None: no quota.
    faults : Faults, optional
        What goes wrong by chance.
    s3 : boto3 client of S3, optional
        Reads pictures that are given as an object.
    """

    def __init__(
        self,
        analyser: Analyser | None = None,
        port: int = 0,
        delay_ms: float = 0.0,
        quota: float | None = None,
        faults: Faults | None = None,
        s3: Any = None,
    ) -> None:
        self.analyser = analyser
        self.delay_ms = delay_ms
        self.next_faults: list[Fault] = []
        """What goes wrong with the next calls, before chance is asked."""
        self.calls: dict[str, int] = {"DetectFaces": 0, "DetectLabels": 0}
        """Calls by operation, refused ones included."""
        self.failed: dict[str, int] = {}
        """Calls that were made to fail, by kind."""
        self._faults = faults or Faults()
        self._chance = random.Random(self._faults.seed)  # noqa: S311 - repeatable, no secret
        self._quota = TokenBucket(quota, max(1.0, quota)) if quota else None
        self._s3 = s3
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _handler(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True, name="pho-rekognition"
        )

    @property
    def endpoint(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> LocalRekognition:
        """Begin to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> LocalRekognition:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def fault(self) -> Fault | None:
        """Draw what goes wrong with one call; None: nothing."""
        with self._lock:
            drawn: Fault | None = self.next_faults.pop(0) if self.next_faults else None
            if drawn is None:
                drawn = self._drawn()
            if drawn is not None:
                self.failed[drawn] = self.failed.get(drawn, 0) + 1
        return drawn

    def _drawn(self) -> Fault | None:
        left = self._chance.random()
        for kind in _KINDS:
            left -= getattr(self._faults, kind)
            if left < 0.0:
                return kind
        return None

    def answer(self, operation: str, request: Any) -> tuple[int, dict[str, Any]]:
        """Return status and document for a request."""
        with self._lock:
            if operation in self.calls:
                self.calls[operation] += 1
        if self._quota is not None and not self._quota.take(0.0):
            return _error("ProvisionedThroughputExceededException", "Rate exceeded")
        if operation not in self.calls:
            return _error("UnknownOperationException", f"no {operation} here")
        if not isinstance(request, dict) or not isinstance(request.get("Image"), dict):
            return _error("InvalidParameterException", "Request has invalid parameters: Image")
        try:
            faces = self._look(self._picture(request["Image"]))
        except _Refused as refused:
            return _error(refused.code, str(refused))
        if operation == "DetectLabels":
            least = float(request.get("MinConfidence", 55.0))
            return 200, {"Labels": _labels(faces, least), "LabelModelVersion": "3.0"}
        return 200, {"FaceDetails": [_detail(face) for face in faces]}

    def _picture(self, image: dict[str, Any]) -> bytes:
        if "Bytes" in image:
            try:
                picture = base64.b64decode(image["Bytes"], validate=True)
            except (binascii.Error, TypeError, ValueError) as error:
                raise _Refused(*_NO_BYTES) from error
            if len(picture) > PICTURE_BYTES_MAX:
                raise _Refused(*_TOO_LARGE)
            return picture
        place = image.get("S3Object") or {}
        if self._s3 is None or not place:
            raise _Refused(*_NO_OBJECT)
        from botocore.exceptions import ClientError

        try:
            answer = self._s3.get_object(Bucket=place["Bucket"], Key=place["Name"])
            return bytes(answer["Body"].read())
        except (ClientError, KeyError) as error:
            raise _Refused(*_NO_OBJECT) from error

    def _look(self, picture: bytes) -> tuple[Face, ...]:
        if self.delay_ms:
            time.sleep(self.delay_ms / 1_000.0)
        if self.analyser is None:
            return (_ONE_FACE,)
        try:
            if read_format(picture).kind == "webp":
                problem = "webp"
                raise PictureUnreadable(problem)
            return self.analyser.analyse(picture).faces
        except PictureError as error:
            raise _Refused(*_NO_PICTURE) from error


_KINDS: tuple[Fault, ...] = ("throttled", "broken", "reset", "slow", "torn", "foreign", "denied")


class _Refused(Exception):
    def __init__(self, code: str, told: str) -> None:
        super().__init__(told)
        self.code = code


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # 200 connections at once, in a benchmark

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that went away, or a reset that was asked for."""


def _handler(told: LocalRekognition) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        # Without these three each call takes 44 ms instead of 1.3: measured.
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = told.fault()
            if fault == "reset":
                _reset(self.connection)
                self.close_connection = True
                return
            if fault == "slow":
                time.sleep(SLOW_S)
            status, document = _refusals.get(fault or "", (0, {}))
            if not status:
                operation = self.headers.get("X-Amz-Target", "").removeprefix(_TARGET)
                try:
                    request = json.loads(body)
                except ValueError:
                    request = None
                status, document = told.answer(operation, request)
            data = json.dumps(document).encode()
            self._send(status, data[: len(data) // 2] if fault == "torn" else data)

        def _send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", _TYPE)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("x-amzn-RequestId", "local")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            """Say nothing."""

    return Handler


def _error(code: str, told: str, status: int = 400) -> tuple[int, dict[str, Any]]:
    return status, {"__type": code, "Message": told}


_refusals: dict[str, tuple[int, dict[str, Any]]] = {
    "throttled": _error("ThrottlingException", "Rate exceeded"),
    "broken": _error("InternalServerError", "Internal server error", 500),
    "denied": _error("AccessDeniedException", "not authorized to perform this action"),
    "foreign": (200, {"MessageId": "of another service"}),
}


def _reset(connection: socket.socket) -> None:
    # To linger for no time makes `close` a reset instead of a polite end.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _detail(face: Face) -> dict[str, Any]:
    """Return a face as a FaceDetail; `connectors.rekognition_faces` reads back the same numbers.

    The classifier's numbers are float32: times a hundred in float64 loses nothing, so a hundredth
    of it is the very number again.
    """
    box = face.box
    detail: dict[str, Any] = {
        "BoundingBox": {
            "Left": box.left,
            "Top": box.top,
            "Width": box.width,
            "Height": box.height,
        },
        "Confidence": face.confidence * 100.0,
        "Emotions": sorted(
            (
                {"Type": _THEIRS[score.name], "Confidence": score.confidence * 100.0}
                for score in face.emotions
                if score.name in _THEIRS
            ),
            key=lambda each: -float(each["Confidence"]),
        ),
        "Landmarks": [],
        "Pose": {"Roll": 0.0, "Yaw": 0.0, "Pitch": 0.0},
    }
    if face.smile is not None:
        smiles = face.smile >= 0.5
        sure = face.smile if smiles else 1.0 - face.smile
        detail["Smile"] = {"Value": smiles, "Confidence": sure * 100.0}
    if face.quality is not None:
        # In the middle of the brightness that costs no quality.
        detail["Quality"] = {"Brightness": 50.0, "Sharpness": face.quality * 100.0}
    return detail


def _labels(faces: tuple[Face, ...], least_percent: float) -> list[dict[str, Any]]:
    if not faces:
        return []
    percent = max(face.confidence for face in faces) * 100.0
    if percent < least_percent:
        return []
    return [{"Name": "Person", "Confidence": percent, "Instances": [], "Parents": []}]
