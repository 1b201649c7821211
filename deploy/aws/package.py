"""Builds the zip that Managed Service for Apache Flink runs.

::

    main.py                     what it starts (deploy/aws/main.py)
    requirements.txt            what workers install, pinned as constraints-flink.txt says
    lib/pho-dependencies.jar    Flink's Kafka connector and our own classes, in one jar
    dep/                        PHO's packages, as a worker imports them

Names and places as the template's properties say them (``kinesis.analytics.flink.run.options``:
python, jarfile, pyFiles). Run it where PyFlink is:

    .venv-flink/bin/python deploy/aws/package.py --out build/pho-flink.zip
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

MAIN = "main.py"
JAR = "lib/pho-dependencies.jar"
PACKAGES = "dep/"
REQUIREMENTS = "requirements.txt"
SIZE_MAX = 512 * 1024 * 1024
"""Largest code the service takes, bytes (its own quota)."""
WORKERS_NEED = (
    "ai-edge-litert boto3 crc32c fastavro kafka-python msgspec opencv-python-headless river scipy"
).split()
"""What PHO imports on a worker and PyFlink does not bring."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
# One signature of many jars is the signature of none.
_SIGNATURE = re.compile(r"META-INF/[^/]*\.(SF|RSA|DSA|EC)$")


def build(out: Path, jars: Iterable[Path]) -> Path:
    """Write the zip; the same inputs give the same bytes.

    Parameters
    ----------
    out : Path
        The zip.
    jars : iterable of Path
        What goes into the one jar; of two entries with one name the first stays, and of service
        files (``META-INF/services``) all lines.
    """
    from engines.flink.submitting import build_wheel

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        jar = merge(jars, Path(folder) / "dependencies.jar")
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            _add(archive, MAIN, (Path(__file__).parent / MAIN).read_bytes())
            _add(archive, REQUIREMENTS, requirements().encode())
            _add(archive, JAR, jar.read_bytes())
            with zipfile.ZipFile(wheel) as packed:
                for name in packed.namelist():
                    _add(archive, PACKAGES + name, packed.read(name))
    if out.stat().st_size > SIZE_MAX:
        problem = f"{out} has {out.stat().st_size:,} bytes; the service takes {SIZE_MAX:,}"
        raise SystemExit(problem)
    return out


def merge(jars: Iterable[Path], target: Path) -> Path:
    """Put several jars into one: the service takes a single one."""
    entries: dict[str, bytes] = {}
    for jar in jars:
        with zipfile.ZipFile(jar) as archive:
            for name in archive.namelist():
                if name.endswith("/") or _SIGNATURE.match(name):
                    continue
                data = archive.read(name)
                if name.startswith("META-INF/services/") and name in entries:
                    entries[name] = entries[name].rstrip(b"\n") + b"\n" + data
                else:
                    entries.setdefault(name, data)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(entries, key=lambda each: (each != "META-INF/MANIFEST.MF", each)):
            _add(archive, name, entries[name])
    return target


def requirements() -> str:
    """Return what workers install, each pinned; PyFlink itself and what it brings are there."""
    lines = (ROOT / "constraints-flink.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line.partition("==")[0] in WORKERS_NEED]
    return "".join(f"{line}\n" for line in wanted)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, data)


def main() -> None:
    """Build it from what is fetched and compiled here."""
    parser = argparse.ArgumentParser(description="Build the zip for Managed Flink.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "pho-flink.zip")
    parser.add_argument("--java", default="java", help="A Java 17, for our few classes.")
    arguments = parser.parse_args()
    try:
        from engines.flink.jar import connector_jar, loop_jar

        jars = (connector_jar(), loop_jar(arguments.java, ROOT / "build" / "flink"))
    except (ImportError, ValueError) as error:
        problem = f"{error}: run it in .venv-flink, after `pho doctor --fetch-kafka`"
        raise SystemExit(problem) from error
    out = build(arguments.out, jars)
    sys.stdout.write(f"{out}: {out.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
