"""A Kinesis on this machine, for demonstrations and tests: kinesis-local, a mock from npm.

It is right where moto is not: closed shards end and name their children, sequence numbers have 56
digits, several writers lose nothing. It slows as it fills: use it with less than some 5,000
records. MIT licence; fetched by npm, its SHA-256 checked, run by Node.js, never committed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from connectors.assets import asset_cache
from connectors.fetching import (
    Progress,
    find_npm,
    pack_by_npm,
    packed_files,
    put_folder,
    working_folder,
)
from connectors.kinesis_address import KinesisAddress
from connectors.local_server import LocalServer, answers, free_ports
from schemas.errors import ResourceError

REQUIREMENT = "kinesis-local@0.6.2"
TARBALL_SHA256 = "7f450e244b3c609b640b22ab005c9fdeaeb6e49d72403a3b6ebd9c3270b32cb5"
REGION = "us-east-1"
START_TIME_LIMIT_S = 60.0
"""One second is usual; ten on a busy machine."""
_FILES = ("LICENSE", "main.js", "package.json", "server.json")
_CURE = "Run `pho doctor --fetch-aws` where an npm registry or its mirror can be reached"
_CHECKED = "checked"


def kinesis_folder(cache: Path | None = None) -> Path:
    """Return the folder of the fetched program, whether it is there or not."""
    return asset_cache(cache) / f"kinesis-local-{TARBALL_SHA256[:12]}"


def has_local_kinesis(cache: Path | None = None) -> bool:
    """Whether the program was fetched."""
    return (kinesis_folder(cache) / _CHECKED).is_file()


def fetch_local_kinesis(cache: Path | None = None, progress: Progress | None = None) -> Path:
    """Bring the program into the cache, if it is not there; return its folder.

    Raises
    ------
    ResourceError
        No registry can be reached, or what it gave is not what is pinned.
    """
    folder = kinesis_folder(cache)
    if has_local_kinesis(cache):
        return folder
    if progress is not None:
        progress(REQUIREMENT, 0, 1)
    with working_folder(folder) as work:
        tarball = pack_by_npm(find_npm(work, _CURE), REQUIREMENT, TARBALL_SHA256, work, _CURE)
        unpacked = work / "unpacked"
        unpacked.mkdir()
        for name, content in zip(_FILES, packed_files(tarball, _FILES), strict=True):
            (unpacked / name).write_bytes(content)
        # Says that all are there, and is written last.
        (unpacked / _CHECKED).write_text(TARBALL_SHA256, encoding="utf-8")
        put_folder(unpacked, folder, lambda: has_local_kinesis(cache))
    if progress is not None:
        progress("", 1, 1)
    return folder


class LocalKinesis(LocalServer):
    """A Kinesis on loopback, with no stream in it; it ends with this process.

    Parameters
    ----------
    folder : Path
        Of the program, as `fetch_local_kinesis` returns it.
    port : int, optional
        Where it listens; None: a free one.
    options : mapping, optional
        More of its variables, or instead of ours.
    """

    def __init__(
        self, folder: Path, port: int | None = None, options: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self._folder = folder
        self.port, tls_port = (port, *free_ports(1)) if port else free_ports(2)
        self._options = {
            # Without its own certificate it ends without a word.
            "KINESIS_MOCK_CERT_PATH": str(folder / "server.json"),
            "KINESIS_MOCK_PLAIN_PORT": str(self.port),
            "KINESIS_MOCK_TLS_PORT": str(tls_port),
            "CREATE_STREAM_DURATION": "50ms",
            "DELETE_STREAM_DURATION": "50ms",
            "SPLIT_SHARD_DURATION": "50ms",
            "MERGE_SHARDS_DURATION": "50ms",
            "UPDATE_SHARD_COUNT_DURATION": "50ms",
            "SHARD_LIMIT": "1000",
            "LOG_LEVEL": "ERROR",
            **(options or {}),
        }

    @property
    def endpoint(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    def address(self, prefix: str) -> KinesisAddress:
        """Return the address of a log here."""
        return KinesisAddress(REGION, prefix, self.endpoint)

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises
        ------
        ResourceError
            It does not, or Node.js is not installed.
        """
        node = shutil.which("node")
        if node is None:
            problem = "Node.js, which runs the local Kinesis, is not installed"
            raise ResourceError(problem, "Install it; then run it again")
        served = self._launch(
            [node, "main.js"],
            lambda: answers(f"{self.endpoint}/healthcheck"),
            START_TIME_LIMIT_S,
            folder=self._folder,
            variables={"PATH": os.defpath, "HOME": str(self._folder), **self._options},
        )
        if not served:
            problem = f"the local Kinesis does not start on port {self.port}"
            raise ResourceError(problem, f"Run `node main.js` in {self._folder}; it says why")
