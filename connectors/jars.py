"""The jars: a Kafka broker and Flink's Kafka connector, pinned, fetched once, checked at every use.

They are brought by Maven where ``mvn`` is in the path; else by the package ``jgo``, which needs
neither Maven nor Java, in an environment of its own that is thrown away. Every jar's SHA-256 stands
in a text file beside this module; nothing unchecked is ever in the cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import venv
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from connectors.assets import Progress, asset_cache
from schemas.errors import ResourceError, UsageError

FETCH_TIME_LIMIT_SECONDS = 600
"""How long one fetch may take: 46 MB at 80 kB/s."""
JGO = "jgo==3.2.0"

_CURE = "Run it again where a Maven repository or its mirror can be reached"


@dataclass(frozen=True, slots=True)
class JarSet:
    """Jars that are fetched together."""

    name: str
    """Name within PHO; its pins stand in ``connectors/NAME.sha256``."""
    coordinates: tuple[str, ...]
    """What is asked for, as ``group:artifact:version``; it brings what it needs."""

    def pins(self) -> dict[str, str]:
        """Return the SHA-256 of every jar, 64 hex digits, by file name."""
        text = resources.files("connectors").joinpath(f"{self.name}.sha256").read_text("utf-8")
        return {name: digest for digest, name in (line.split() for line in text.splitlines())}


JAR_SETS = {
    jars.name: jars
    for jars in (
        JarSet(
            "kafka_broker",
            ("org.apache.kafka:kafka_2.13:4.3.1", "org.slf4j:slf4j-simple:1.7.36"),
        ),
        JarSet("flink_kafka", ("org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2",)),
        # For a Java without a compiler, as package indexes carry it (EPL 2.0; used, not shipped).
        JarSet("java_compiler", ("org.eclipse.jdt:ecj:3.40.0",)),
    )
}
"""Everything that can be fetched, by name; under the Apache, MIT or BSD licence but for the
compiler."""


def jar_folder(name: str, cache: Path | None = None) -> Path:
    """Return the folder of a set of jars, having checked every byte of them.

    Parameters
    ----------
    name : str
        A name in `JAR_SETS`.
    cache : Path, optional
        Folder of the fetched files; None: the user's own.

    Raises
    ------
    ResourceError
        When a jar is missing or is not the pinned one.
    UsageError
        When there is no such set.
    """
    folder = _folder(name, cache)
    wrong = _wrong(JAR_SETS[name], folder)
    if wrong:
        problem = f"{folder} lacks {len(wrong)} jars, or they are altered: {', '.join(wrong[:3])}"
        raise ResourceError(problem, "Run `make demo-flink`, which fetches them")
    return folder


def fetch_jars(name: str, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """Bring a set of jars into the cache, if it is not there; return its folder.

    Raises
    ------
    ResourceError
        No repository can be reached, or what it gave is not what is pinned.
    UsageError
        When there is no such set.
    """
    folder = _folder(name, cache)
    jars = JAR_SETS[name]
    if not _wrong(jars, folder):
        return folder
    if progress is not None:
        progress(name, 0, 1)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="pho-jars-", dir=folder.parent) as temporary:
            fetched = Path(temporary) / "jars"
            fetched.mkdir()
            if shutil.which("mvn"):
                _by_maven(jars, Path(temporary), fetched)
            else:
                _by_jgo(jars, Path(temporary), fetched)
            wrong = _wrong(jars, fetched)
            if wrong:
                problem = f"of {name}, {', '.join(wrong[:3])} are not the pinned files"
                raise ResourceError(problem, "Use a mirror that serves the originals")
            _move_in(jars, fetched, folder)
    except OSError as error:
        problem = f"{folder} cannot be written: {error.strerror or error}"
        raise ResourceError(problem, "Make room there, or name another by PHO_CACHE") from error
    if progress is not None:
        progress("", 1, 1)
    return folder


def _folder(name: str, cache: Path | None) -> Path:
    if name not in JAR_SETS:
        problem = f"there is no set of jars {name!r}"
        raise UsageError(problem, f"Use one of {', '.join(JAR_SETS)}")
    # The name holds a hash of the pins, so that two releases of PHO share a cache.
    pins = "".join(sorted(JAR_SETS[name].pins().values()))
    return asset_cache(cache) / f"{name}-{hashlib.sha256(pins.encode()).hexdigest()[:12]}"


def _wrong(jars: JarSet, folder: Path) -> list[str]:
    return [
        file
        for file, digest in jars.pins().items()
        if not (folder / file).is_file() or _sha256(folder / file) != digest
    ]


def _move_in(jars: JarSet, fetched: Path, folder: Path) -> None:
    """Put each checked jar in its place whole or not at all; two processes may do it at once."""
    folder.mkdir(exist_ok=True)
    for file in jars.pins():
        part = folder / f"{file}.{os.getpid()}.part"
        try:
            shutil.copyfile(fetched / file, part)
            part.replace(folder / file)
        finally:
            part.unlink(missing_ok=True)


def _by_maven(jars: JarSet, work: Path, target: Path) -> None:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version></dependency>"
        for group, artifact, version in (name.split(":") for name in jars.coordinates)
    )
    (work / "pom.xml").write_text(
        "<project><modelVersion>4.0.0</modelVersion><groupId>pho</groupId>"
        "<artifactId>jars</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>",
        encoding="utf-8",
    )
    command = ["mvn", "-q", "-B", "-f", str(work / "pom.xml"), "dependency:copy-dependencies"]
    _run([*command, f"-DoutputDirectory={target}"], "Maven")


def _by_jgo(jars: JarSet, work: Path, target: Path) -> None:
    """Let jgo resolve and fetch, in an environment that goes with `work`."""
    venv.create(work / "venv", with_pip=True)
    python = str(work / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    _run([*pip, JGO], "pip")
    script = (
        "import shutil, sys, jgo\n"
        "found = jgo.build(sys.argv[1], cache_dir=sys.argv[2]).all_jars\n"
        "for jar in found: shutil.copy(jar, sys.argv[3])\n"
    )
    names = "+".join(jars.coordinates)
    _run([python, "-c", script, names, str(work / "jgo"), str(target)], "jgo")


def _run(command: list[str], name: str) -> None:
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
        problem = f"{name} brought nothing within {FETCH_TIME_LIMIT_SECONDS} s"
        raise ResourceError(problem, _CURE) from error
    if run.returncode != 0:
        lines = (run.stdout + run.stderr).strip().splitlines() or [f"status {run.returncode}"]
        problem = f"{name} failed: {lines[-1].strip()[:200].rstrip('.')}"
        raise ResourceError(problem, _CURE)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
