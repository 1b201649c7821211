"""Every error PHO raises, as one tree.

::

    PhoError
    ├── UsageError              the caller asked for something impossible      (exit status 2)
    │   └── SettingsError       pho.toml, a PHO_ variable or a flag is wrong
    ├── RecordError             bytes or values that cannot be one of our records
    │   ├── InvalidRecord       a value outside its range, a field missing
    │   ├── UnknownSchema       a fingerprint no release of PHO ever wrote
    │   └── TornRecord          bytes that end early or do not decode
    ├── PictureError            a picture that cannot be analysed
    │   ├── PictureMissing      its id resolves to nothing in the picture store
    │   └── PictureUnreadable   empty, torn, too large, or no picture at all
    ├── PolicyError             a snapshot or learner that cannot be used
    │   └── SnapshotRefused     torn, altered, of another loop or of other features
    └── ResourceError           something PHO needs is missing, down or full   (exit status 3)
        ├── LogUnavailable      the log cannot be read or written
        ├── LogFull             no room left on the device
        ├── EngineBusy          another process already runs the job on this folder
        ├── TablesUnavailable   the tables for analysts cannot be read or written
        │   └── TablesDown      their server is away, or there is no room: worth another try
        ├── CameraError         the camera cannot be opened, or went away
        ├── ModelError          a model or recording is missing or altered
        ├── AnalysisError       the analyser gave no answer
        └── CloudError          a service of AWS gave no usable answer; `action` says what now

All constructor arguments go to ``super().__init__`` and ``__str__`` makes the text, so that an
error crosses a process boundary whole.
"""

from __future__ import annotations

from typing import Literal

CloudAction = Literal["retry", "dead_letter", "stop"]
"""What an error of a cloud service means: ask again, put this one aside, or change something."""


class PhoError(Exception):
    """The root: catching it catches everything PHO raises on purpose.

    Parameters
    ----------
    problem : str
        What is wrong, with the value that is.
    cure : str
        What to do about it; empty when the problem says it already.
    """

    exit_status = 1

    def __init__(self, problem: str, cure: str = "") -> None:
        super().__init__(problem, cure)
        self.problem = problem
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.problem}. {self.cure}" if self.cure else self.problem


class UsageError(PhoError):
    """The caller asked for something impossible."""

    exit_status = 2


class SettingsError(UsageError):
    """A setting is unknown, of the wrong type, or contradicts another."""


class RecordError(PhoError):
    """Bytes or values that cannot be one of our records."""


class InvalidRecord(RecordError):
    """A value lies outside its range, or a field is missing."""


class UnknownSchema(RecordError):
    """The bytes name a schema that no release of PHO ever wrote."""


class TornRecord(RecordError):
    """The bytes end early, or do not decode with the schema they name."""


class PictureError(PhoError):
    """A picture that cannot be analysed; the frame is answered ``failed``, the job goes on."""


class PictureMissing(PictureError):
    """The picture id resolves to nothing: already deleted, swept, or never stored."""


class PictureUnreadable(PictureError):
    """Empty, torn, too large, or no picture at all."""


class PolicyError(PhoError):
    """A policy cannot be used as asked."""


class SnapshotRefused(PolicyError):
    """A snapshot is torn, altered, or of another loop; the last good one stays."""


class ResourceError(PhoError):
    """Something PHO needs is missing, down or full."""

    exit_status = 3


class LogUnavailable(ResourceError):
    """The log cannot be read or written."""


class LogFull(ResourceError):
    """No room is left on the device; the transaction was rolled back, nothing is half written."""


class EngineBusy(ResourceError):
    """Another process already runs the job on this folder."""


class TablesUnavailable(ResourceError):
    """The tables cannot be read or written; nothing is half written, the log still has it all."""


class TablesDown(TablesUnavailable):
    """The tables' server is away, or has no room: whoever follows the log tries again."""


class CameraError(ResourceError):
    """The camera cannot be opened, or went away while running."""


class ModelError(ResourceError):
    """A model or recording is missing, or its bytes are not the pinned ones."""


class AnalysisError(ResourceError):
    """The analyser gave no answer; retried, then the frame is answered ``failed``."""


class CloudError(ResourceError):
    """A service of AWS gave no usable answer.

    Parameters
    ----------
    problem, cure : str
        As for every error.
    action : {'retry', 'dead_letter', 'stop'}
        Whether the same call may succeed later, never will, or not before something is changed.
    code : str
        The service's name of the error.
    """

    def __init__(
        self, problem: str, cure: str = "", action: CloudAction = "stop", code: str = ""
    ) -> None:
        super().__init__(problem, cure)
        self.args = (problem, cure, action, code)
        self.action = action
        self.code = code
