"""The jars: a Kafka broker and Flink's Kafka connector, pinned, fetched once, checked at every use.

They are brought by Maven where ``mvn`` is in the path; else by the package ``jgo``, which needs
neither Maven nor Java, in an environment of its own that is thrown away. Every jar's SHA-256 stands
in a text file beside this module; nothing unchecked is ever in the cache.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from connectors.assets import asset_cache
from connectors.fetching import (
    Progress,
    environment_with,
    folder_name,
    is_pinned,
    read_pins,
    run_client,
    working_folder,
)
from schemas.errors import ResourceError, UsageError

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
        return read_pins(self.name)


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
    with working_folder(folder) as work:
        fetched = work / "jars"
        fetched.mkdir()
        if shutil.which("mvn"):
            _by_maven(jars, work, fetched)
        else:
            _by_jgo(jars, work, fetched)
        wrong = _wrong(jars, fetched)
        if wrong:
            problem = f"of {name}, {', '.join(wrong[:3])} are not the pinned files"
            raise ResourceError(problem, "Use a mirror that serves the originals")
        folder.mkdir(exist_ok=True)
        for file in jars.pins():
            # One after the other: another process may read those that are there already.
            (fetched / file).replace(folder / file)
    if progress is not None:
        progress("", 1, 1)
    return folder


def _folder(name: str, cache: Path | None) -> Path:
    if name not in JAR_SETS:
        problem = f"there is no set of jars {name!r}"
        raise UsageError(problem, f"Use one of {', '.join(JAR_SETS)}")
    return asset_cache(cache) / folder_name(name, JAR_SETS[name].pins())


def _wrong(jars: JarSet, folder: Path) -> list[str]:
    return [file for file, pin in jars.pins().items() if not is_pinned(folder / file, pin)]


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
    run_client([*command, f"-DoutputDirectory={target}"], "Maven", _CURE)


def _by_jgo(jars: JarSet, work: Path, target: Path) -> None:
    """Let jgo resolve and fetch, in an environment that goes with `work`."""
    python = str(environment_with(JGO, work, _CURE) / "python")
    script = (
        "import shutil, sys, jgo\n"
        "found = jgo.build(sys.argv[1], cache_dir=sys.argv[2]).all_jars\n"
        "for jar in found: shutil.copy(jar, sys.argv[3])\n"
    )
    names = "+".join(jars.coordinates)
    command = [python, "-c", script, names, str(work / "jgo"), str(target)]
    run_client(command, "jgo", _CURE)
