"""A Kinesis on this machine, for demonstrations and tests: kinesis-local, a mock from npm.

It is right where moto is not: closed shards end and name their children, sequence numbers have 56
digits, several writers lose nothing. It slows as it fills: use it with less than some 5,000
records. MIT licence; fetched by npm, its SHA-256 checked, run by Node.js, never committed.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from connectors.assets import Progress, asset_cache
from connectors.kinesis_address import KinesisAddress
from connectors.local_kafka import free_ports
from schemas.errors import ResourceError

REQUIREMENT = "kinesis-local@0.6.2"
TARBALL_SHA256 = "7f450e244b3c609b640b22ab005c9fdeaeb6e49d72403a3b6ebd9c3270b32cb5"
REGION = "us-east-1"
FETCH_TIME_LIMIT_SECONDS = 600
START_TIME_LIMIT_S = 60.0
"""One second is usual; ten on a busy machine."""
_TARBALL = "kinesis-local-0.6.2.tgz"
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
        No npm, no registry, or what it gave is not what is pinned.
    """
    folder = kinesis_folder(cache)
    if has_local_kinesis(cache):
        return folder
    npm = shutil.which("npm")
    if npm is None:
        problem = "npm, which fetches a local Kinesis, is not installed"
        raise ResourceError(problem, "Install Node.js with npm; then run it again")
    if progress is not None:
        progress(REQUIREMENT, 0, 1)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="pho-kinesis-", dir=folder.parent) as temporary:
            tarball = _download(npm, Path(temporary))
            unpacked = Path(temporary) / "unpacked"
            _unpack(tarball, unpacked)
            # The last file written says that all are there; two processes may do it at once.
            (unpacked / _CHECKED).write_text(TARBALL_SHA256, encoding="utf-8")
            if not has_local_kinesis(cache):
                shutil.rmtree(folder, ignore_errors=True)
                unpacked.replace(folder)
    except OSError as error:
        if not has_local_kinesis(cache):
            problem = f"{folder} cannot be written: {error.strerror or error}"
            raise ResourceError(problem, "Make room, or name another by PHO_CACHE") from error
    if progress is not None:
        progress("", 1, 1)
    return folder


def _download(npm: str, work: Path) -> Path:
    command = [npm, "pack", "--ignore-scripts", "--silent", REQUIREMENT]
    try:
        run = subprocess.run(  # noqa: S603  a command of constants
            command,
            cwd=work,
            capture_output=True,
            check=False,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=FETCH_TIME_LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        problem = f"npm brought nothing within {FETCH_TIME_LIMIT_SECONDS} s"
        raise ResourceError(problem, _CURE) from error
    tarball = work / _TARBALL
    if run.returncode != 0 or not tarball.is_file():
        lines = (run.stdout + run.stderr).strip().splitlines() or [f"status {run.returncode}"]
        problem = f"npm failed: {lines[-1].strip()[:200].rstrip('.')}"
        raise ResourceError(problem, _CURE)
    with tarball.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != TARBALL_SHA256:
        problem = f"{REQUIREMENT} is not the pinned package: its SHA-256 is {found}"
        raise ResourceError(problem, "Use a registry that serves the original; nothing was run")
    return tarball


def _unpack(tarball: Path, folder: Path) -> None:
    folder.mkdir()
    with tarfile.open(tarball) as archive:
        for name in _FILES:
            # Read, never extracted: a member's own path and mode are of no use to anybody.
            member = archive.extractfile(f"package/{name}")
            if member is None:
                problem = f"{REQUIREMENT} has no {name}"
                raise ResourceError(problem, "This release of PHO pins it wrongly: report it")
            with member:
                (folder / name).write_bytes(member.read())


class LocalKinesis:
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
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

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
        self._process = subprocess.Popen(  # noqa: S603  a command of constants
            [node, "main.js"],
            cwd=self._folder,
            env={"PATH": os.defpath, "HOME": str(self._folder), **self._options},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # It ends with this process, however that ends: the pipe to a shell breaks.
        self._watchdog = subprocess.Popen(  # noqa: S603  a command of constants and a number
            ["/bin/sh", "-c", f"read -r _; kill -KILL {self._process.pid}"],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        atexit.register(self.stop)
        until_s = time.monotonic() + START_TIME_LIMIT_S
        while time.monotonic() < until_s and self._process.poll() is None:
            if self._answers():
                return
            time.sleep(0.05)
        self.stop()
        problem = f"the local Kinesis does not start on port {self.port}"
        raise ResourceError(problem, f"Run `node main.js` in {self._folder}; it says why")

    def stop(self) -> None:
        """End it; it keeps nothing."""
        atexit.unregister(self.stop)
        process, self._process = self._process, None
        if process is None:
            return
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            # Before the server is waited for: its number could be another's afterwards.
            watchdog.kill()
            watchdog.wait()
            if watchdog.stdin is not None:
                watchdog.stdin.close()
        # SIGTERM does not stop it.
        process.kill()
        process.wait()

    def _answers(self) -> bool:
        request = Request(f"{self.endpoint}/healthcheck")  # noqa: S310  loopback
        try:
            with urlopen(request, timeout=5):  # noqa: S310  loopback
                return True
        except HTTPError as refused:
            refused.close()
            return True
        except OSError:
            return False

    def __enter__(self) -> LocalKinesis:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
