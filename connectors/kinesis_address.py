"""Where a log on Kinesis is, and how its streams are named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlsplit

from connectors.aws_clients import AwsAccess, check_endpoint
from schemas.errors import UsageError

SCHEME = "kinesis://"

_EXAMPLE = "Write kinesis://REGION/PREFIX, such as kinesis://eu-central-1/shop"
_REGION = re.compile(r"[a-z0-9-]{2,40}")
# Kinesis takes 128 characters for a stream; the longest of ours has 12, and a dash.
_PREFIX = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True, slots=True)
class KinesisAddress:
    """A region, and what the names of our streams start with."""

    region: str
    """AWS's name of it, such as ``eu-central-1``."""
    prefix: str
    """Streams are ``prefix-stream``: ``shop-frames``."""
    endpoint: str = ""
    """Address of the server; empty: that of the region, or of the settings [aws]."""

    @classmethod
    def parse(cls, text: str) -> KinesisAddress:
        """Read ``kinesis://eu-central-1/shop?endpoint=http://127.0.0.1:4568``.

        Raises
        ------
        UsageError
            When it is no such address; the message says where it is wrong.
        """
        if not text.startswith(SCHEME):
            problem = f"{text!r} is no address of a log on Kinesis"
            raise UsageError(problem, _EXAMPLE)
        if "@" in text:
            # Not repeated in the message: it may hold a key.
            problem = "a Kinesis address holds no keys"
            raise UsageError(problem, "Give credentials as boto3 reads them: profile or variables")
        parts = urlsplit(text)
        if not _REGION.fullmatch(parts.netloc):
            problem = f"{parts.netloc!r} is no region of AWS"
            raise UsageError(problem, _EXAMPLE)
        prefix = parts.path.removeprefix("/").removesuffix("/")
        if not _PREFIX.fullmatch(prefix):
            problem = f"{prefix!r} cannot be the start of a stream's name"
            raise UsageError(problem, "Use 1 to 100 letters, digits, '.', '_' and '-'")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        endpoint = options.pop("endpoint", "")
        if options or parts.fragment:
            problem = f"a Kinesis address has no option {next(iter(options), parts.fragment)!r}"
            raise UsageError(problem, "It takes ?endpoint=http://HOST:PORT only")
        if endpoint:
            check_endpoint(endpoint)
        return cls(parts.netloc, prefix, endpoint)

    def stream_name(self, stream: str) -> str:
        """Return the name that a stream of ours has on Kinesis."""
        return f"{self.prefix}-{stream}"

    def access(self, access: AwsAccess) -> AwsAccess:
        """Return how to reach it: the settings' way, with this region and server."""
        endpoints: Mapping[str, str] = access.endpoints
        if self.endpoint:
            endpoints = {**endpoints, "kinesis": self.endpoint}
        return replace(access, region=self.region, endpoints=endpoints)

    def __str__(self) -> str:
        more = f"?endpoint={self.endpoint}" if self.endpoint else ""
        return f"{SCHEME}{self.region}/{self.prefix}{more}"
