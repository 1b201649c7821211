"""What answers frames, as plain values: `pho.toml` has them, and a job on Flink is told them."""

from __future__ import annotations

from typing import Literal

import msgspec

from connectors.aws_clients import AwsAccess
from connectors.s3_pictures import PREFIX
from pipelines.topology import PICTURE_TTL_MS


class RekognitionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [rekognition]."""

    calls_per_second: float
    fallback: Literal["local", "none"]
    price_per_call: float
    daily_budget: float
    failures: int
    pause_s: float
    max_labels: int
    min_label_confidence: float


class EndpointSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [endpoint]."""

    name: str
    time_limit_ms: int
    calls_per_second: float
    failures: int
    pause_s: float


class Services(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who looks at pictures, where these are, and who gives scores."""

    analyser: str = ""
    """Who looks at pictures on the worker itself: a module, a colon, a class; empty: PHO's own."""
    concurrency: int = 2
    """Pictures looked at at once."""
    time_limit_ms: int = 5_000
    """One picture may take this long, ms."""
    tries: int = 3
    """Calls for one picture."""
    models: str = ""
    """Folder of the models; empty: the user's cache."""
    pictures: str = ""
    """Folder of the pictures in flight; empty, and no bucket: `analyze` does not start."""
    bucket: str = ""
    """Bucket of S3 they are in, instead of a folder."""
    bucket_prefix: str = PREFIX
    """What their keys begin with."""
    picture_ttl_ms: int = PICTURE_TTL_MS
    """A frame older than this is answered ``expired``, ms."""
    rekognition: RekognitionSettings | None = None
    """How Rekognition is asked, which then looks at them; None: it is not."""
    labels: bool = False
    """Whether it is asked for objects in the picture too."""
    spent: str = ""
    """File of what it was asked today; empty: each process counts from its own start."""
    endpoint: EndpointSettings | None = None
    """Who gives scores to policies of the kind ``endpoint:``; None, or no name: nobody."""
    aws: AwsAccess = AwsAccess()
    """Where AWS is, for all of these."""

    @property
    def have_pictures(self) -> bool:
        """Whether there is a picture store."""
        return bool(self.pictures or self.bucket)

    def shared_by(self, instances: int) -> Services:
        """Return them for one of several instances: each has its share of rates and budget.

        Parameters
        ----------
        instances : int
            How many ask at the same time, at least 1.
        """
        rekognition, endpoint = self.rekognition, self.endpoint
        if rekognition is not None:
            rekognition = msgspec.structs.replace(
                rekognition,
                calls_per_second=rekognition.calls_per_second / instances,
                daily_budget=rekognition.daily_budget / instances,
            )
        if endpoint is not None:
            endpoint = msgspec.structs.replace(
                endpoint, calls_per_second=endpoint.calls_per_second / instances
            )
        return msgspec.structs.replace(self, rekognition=rekognition, endpoint=endpoint)
