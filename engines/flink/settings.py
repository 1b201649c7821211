"""What the jobs are told: plain values, written as JSON by `pho submit` and read on the cluster."""

from __future__ import annotations

from pathlib import Path

import msgspec

from connectors.kafka_address import KafkaSecurity
from engines.service_settings import Services


class JobSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a job needs to know; nothing of it is secret but `kafka`."""

    servers: str
    """The brokers, ``host:port`` separated by commas."""
    prefix: str = ""
    """What the topics' names begin with."""
    security: KafkaSecurity | None = None
    """How clients prove who they are; None: they need not."""
    registry: str = ""
    """Address of a schema registry; empty: records are in Avro single-object encoding."""
    registry_username: str = ""
    """Who asks it."""
    registry_password: str = ""
    """Its password."""
    operators: tuple[str, ...] = ("decide", "greet", "join", "learn")
    """The operators of the loop that this job runs."""
    parallelism: int = 1
    """Parallel instances of each operator."""
    checkpoint_interval_ms: int = 10_000
    """Time between two checkpoints, ms: so much is done again after a failure."""
    checkpoints: str = ""
    """Where checkpoints are kept, as a URI; empty: where the cluster says."""
    restart_attempts: int = -1
    """Restarts after failures; -1: always, with growing pauses; 0: none."""
    initial: tuple[tuple[str, str, int, int, int, str], ...] = ()
    """The newest shared records there were at submission: stream, key, partition, offset, log time
    (ms), bytes as hexadecimal digits."""
    tick_headers: tuple[str, ...] = ()
    """How a Tick's bytes begin, hexadecimal digits, in each format it may be written in."""
    services: Services = Services()
    """Who looks at pictures, where these are, and who gives scores."""


def read_settings(path: Path) -> JobSettings:
    """Read what `pho submit` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=JobSettings)


def write_settings(settings: JobSettings, path: Path) -> None:
    """Write what the job will read; readable by nobody else, since passwords may stand in it."""
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(settings)))


def job_name(job: str, prefix: str) -> str:
    """Return the name of a job on the cluster."""
    return f"pho {job} {prefix}".strip()


def checkpoint_folder(checkpoints: str, job: str, prefix: str) -> str:
    """Return where a job keeps its checkpoints: a folder of its own, so that it is found again."""
    return f"{checkpoints.rstrip('/')}/{prefix or 'loop'}-{job}"
