"""What the pages need from npm: nothing unchecked is used, and nobody is asked when it is there."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from connectors import fetching
from connectors.page_assets import (
    PAGE_PACKAGES,
    PagePackage,
    fetch_page_assets,
    missing_page_assets,
    page_asset,
    page_folder,
    page_pins,
)
from schemas.errors import ResourceError

FILES = [file for package in PAGE_PACKAGES.values() for file in package.files]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return a cache with a copy of the fetched files."""
    fetch_page_assets()
    shutil.copytree(page_folder(), page_folder(tmp_path))
    return tmp_path


def test_every_file_and_every_tarball_is_pinned() -> None:
    tarballs = {package.tarball for package in PAGE_PACKAGES.values()}
    assert tarballs == {
        "vladmandic-face-api-1.7.15.tgz",
        "tensorflow-tfjs-backend-wasm-4.22.0.tgz",
        "echarts-6.1.0.tgz",
    }
    assert set(page_pins()) == tarballs | set(FILES)
    assert all(len(digest) == 64 for digest in page_pins().values())


def test_whole_files_are_used_and_nobody_is_asked(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "run_client", lambda *_, **__: pytest.fail("npm was asked"))
    assert fetch_page_assets(cache) == []
    assert missing_page_assets(cache) == []
    assert page_asset("tfjs-wasm/tfjs-backend-wasm.wasm", cache).startswith(b"\0asm")


def test_a_missing_or_altered_file_is_never_given_out(cache: Path) -> None:
    folder = page_folder(cache)
    with (folder / "echarts" / "LICENSE").open("ab") as file:
        file.write(b"x")
    (folder / "face-api" / "face-api.esm.js").unlink()
    assert missing_page_assets(cache) == ["face-api/face-api.esm.js", "echarts/LICENSE"]
    for name in ("echarts/LICENSE", "face-api/face-api.esm.js"):
        with pytest.raises(ResourceError) as told:
            page_asset(name, cache)
        assert "--fetch-pages" in told.value.cure
    with pytest.raises(KeyError):
        page_asset("../../etc/passwd", cache)


def _packed(package: PagePackage, folder: Path, content: bytes) -> None:
    with tarfile.open(folder / package.tarball, "w:gz") as archive:
        for member in package.members:
            entry = tarfile.TarInfo(f"package/{member}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def test_what_a_registry_alters_never_reaches_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def altered(command: list[str], _name: str, _cure: str, *, folder: Path) -> None:
        packages = PAGE_PACKAGES.values()
        _packed(next(p for p in packages if p.requirement == command[-1]), folder, b"altered")

    monkeypatch.setattr(fetching, "run_client", altered)
    with pytest.raises(ResourceError, match="is not the pinned package"):
        fetch_page_assets(tmp_path)
    # And where somebody pinned the wrong tarball, each file still is looked at.
    monkeypatch.setattr(fetching, "sha256_of", lambda path: page_pins().get(path.name, ""))
    with pytest.raises(ResourceError, match="is not the pinned file"):
        fetch_page_assets(tmp_path)
    assert not [path for path in page_folder(tmp_path).rglob("*") if path.is_file()]


def test_an_npm_that_fails_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "npm"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'no route to the mirror' >&2\nexit 1\n", encoding="ascii")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    with pytest.raises(ResourceError, match="no route to the mirror") as told:
        fetch_page_assets(tmp_path / "cache")
    assert "--fetch-pages" in told.value.cure
