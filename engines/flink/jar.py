"""Our few lines of Java, compiled on the machine that submits, once for each version of them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
import zipfile
from importlib import resources
from pathlib import Path

from connectors.jars import jar_folder
from engines.flink.local_cluster import flink_home
from schemas.errors import ResourceError

_EPOCH = (1980, 1, 1, 0, 0, 0)


def connector_jar(cache: Path | None = None) -> Path:
    """Return Flink's Kafka connector, fetched before."""
    (jar,) = jar_folder("flink_kafka", cache).glob("*.jar")
    return jar


def loop_jar(java: str, folder: Path, cache: Path | None = None) -> Path:
    """Return the jar of `engines/flink/java`, compiled if this version of it was not before.

    Parameters
    ----------
    java : str
        Command of a Java 17; its own compiler is used, or the Eclipse compiler where it has none.
    folder : Path
        Where the jar is kept.
    cache : Path, optional
        Where fetched jars are.

    Raises
    ------
    ResourceError
        When it does not compile, with the compiler's own words.
    """
    sources = sorted(resources.files("engines").joinpath("flink/java/pho").iterdir(), key=str)
    texts = {source.name: source.read_bytes() for source in sources if source.name[-5:] == ".java"}
    digest = hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest()[:12]
    jar = folder / f"pho-flink-{digest}.jar"
    if jar.exists():
        return jar
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        source_folder, classes = Path(work) / "pho", Path(work) / "classes"
        source_folder.mkdir()
        for name, text in texts.items():
            (source_folder / name).write_bytes(text)
        # Each by its name: the Eclipse compiler does not know "lib/*".
        flink_jars = sorted((flink_home() / "lib").glob("*.jar"))
        class_path = ":".join(map(str, (*flink_jars, connector_jar(cache))))
        files = [str(source_folder / name) for name in sorted(texts)]
        command = [*_compiler(java, cache), "-cp", class_path, "-d", str(classes), *files]
        done = subprocess.run(  # noqa: S603 - a compiler, and our own files
            command, check=False, capture_output=True, text=True
        )
        if done.returncode:
            problem = f"engines/flink/java does not compile: {(done.stdout + done.stderr)[-800:]}"
            raise ResourceError(problem, "Use a Java 17")
        _zip(classes, Path(work) / jar.name)
        (Path(work) / jar.name).replace(jar)
    return jar


def _compiler(java: str, cache: Path | None) -> list[str]:
    beside = Path(shutil.which(java) or java).resolve().parent / "javac"
    if beside.exists():
        return [str(beside), "--release", "17"]
    # A Java without a compiler, as package indexes carry it.
    (ecj,) = jar_folder("java_compiler", cache).glob("ecj-*.jar")
    return [java, "-jar", str(ecj), "-17", "-nowarn"]


def _zip(classes: Path, jar: Path) -> None:
    with zipfile.ZipFile(jar, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(classes.rglob("*.class")):
            entry = zipfile.ZipInfo(path.relative_to(classes).as_posix(), _EPOCH)
            archive.writestr(entry, path.read_bytes())
