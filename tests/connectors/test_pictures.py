"""Pictures are private, opaque and short-lived."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from connectors.pictures import FolderPictures
from schemas.errors import InvalidRecord, LogFull, PictureMissing, ResourceError, SettingsError

NOW_MS = 1_800_000_000_000
ID = "0123456789abcdef0123456789abcdef"
NO_IDS = (
    "",
    "a",
    ID[:-1],
    ID + "0",
    ID.upper(),
    ID + "\n",
    "../" + ID[3:],
    "/etc/passwd",
    f"{ID}.0123456789abcdef.part",
    "\N{ARABIC-INDIC DIGIT ZERO}" * 32,
)


@pytest.fixture
def store(tmp_path: Path) -> FolderPictures:
    return FolderPictures(tmp_path / "pictures")


def set_age(path: Path, age_ms: int) -> None:
    made_ns = (NOW_MS - age_ms) * 1_000_000
    os.utime(path, ns=(made_ns, made_ns))


def put_aged(store: FolderPictures, tmp_path: Path, age_ms: int) -> str:
    picture_id = store.put(b"pixels")
    set_age(tmp_path / "pictures" / picture_id, age_ms)
    return picture_id


def test_what_was_put_comes_back(store: FolderPictures) -> None:
    picture_id = store.put(b"\xff\xd8 pixels")
    assert store.get(picture_id) == b"\xff\xd8 pixels"
    assert store.ids() == [picture_id]


def test_ids_are_random_and_opaque(store: FolderPictures) -> None:
    ids = {store.put(b"same") for _ in range(20)}
    assert len(ids) == 20
    assert all(len(picture_id) == 32 and int(picture_id, 16) >= 0 for picture_id in ids)


def test_a_given_id_replaces(store: FolderPictures) -> None:
    assert store.put(b"first, longer", ID) == ID
    assert store.put(b"second", ID) == ID
    assert store.get(ID) == b"second"
    assert store.ids() == [ID]


@pytest.mark.parametrize("picture_id", NO_IDS)
def test_what_is_no_id_never_becomes_a_path(
    store: FolderPictures, tmp_path: Path, picture_id: str
) -> None:
    secret = tmp_path / ID[3:]  # where "../" + ID[3:] leads
    secret.write_bytes(b"secret")
    part = tmp_path / "pictures" / f"{ID}.0123456789abcdef.part"
    part.write_bytes(b"half")
    with pytest.raises(InvalidRecord, match="32 lower-case hex digits"):
        store.put(b"pixels", picture_id)
    with pytest.raises(PictureMissing):
        store.get(picture_id)
    store.delete(picture_id)
    assert secret.read_bytes() == b"secret"
    assert part.read_bytes() == b"half"


def test_a_deleted_picture_is_missing_and_deleting_again_is_no_error(
    store: FolderPictures,
) -> None:
    picture_id = store.put(b"pixels")
    store.delete(picture_id)
    store.delete(picture_id)
    with pytest.raises(PictureMissing, match=picture_id):
        store.get(picture_id)
    assert store.ids() == []


def test_only_the_owner_can_read(store: FolderPictures, tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        open_store = FolderPictures(tmp_path / "open")
        picture_id = open_store.put(b"pixels")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "open" / picture_id).stat().st_mode) == 0o600


def test_an_open_folder_is_closed_when_it_holds_only_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / ID).write_bytes(b"pixels")
    assert FolderPictures(folder).get(ID) == b"pixels"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_somebody_elses_folder_is_refused_unchanged(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "report.txt").write_text("mine")
    with pytest.raises(SettingsError, match=r"report\.txt"):
        FolderPictures(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_file_in_place_of_the_folder_is_a_resource_error(tmp_path: Path) -> None:
    (tmp_path / "pictures").write_text("a file")
    with pytest.raises(ResourceError, match="cannot be used"):
        FolderPictures(tmp_path / "pictures")


def test_the_sweep_takes_what_is_over_ten_seconds_old_and_not_waited_for(
    store: FolderPictures, tmp_path: Path
) -> None:
    fresh = put_aged(store, tmp_path, 10_000)
    old = put_aged(store, tmp_path, 10_001)
    old_waited_for = put_aged(store, tmp_path, 10_001)
    assert store.sweep(NOW_MS, {old_waited_for}) == (old,)
    assert store.ids() == sorted([fresh, old_waited_for])


def test_the_sweep_takes_what_is_over_the_limit_though_waited_for(
    store: FolderPictures, tmp_path: Path
) -> None:
    at_limit = put_aged(store, tmp_path, 60_000)
    over = put_aged(store, tmp_path, 60_001)
    assert store.sweep(NOW_MS, {at_limit, over}) == (over,)
    assert store.sweep(NOW_MS, {at_limit}, picture_ttl_ms=59_999) == (at_limit,)


def test_a_limit_below_ten_seconds_holds_for_every_picture(
    store: FolderPictures, tmp_path: Path
) -> None:
    picture_id = put_aged(store, tmp_path, 5_000)
    assert store.sweep(NOW_MS, (), picture_ttl_ms=4_999) == (picture_id,)


def test_a_clock_set_back_does_not_keep_a_picture(store: FolderPictures, tmp_path: Path) -> None:
    picture_id = put_aged(store, tmp_path, -3_600_000)
    assert store.sweep(NOW_MS, {picture_id}) == (picture_id,)


def test_the_sweep_takes_torn_parts_without_naming_them_and_leaves_strangers(
    store: FolderPictures, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    part = folder / f"{ID}.0123456789abcdef.part"
    stranger = folder / "README"
    for path in (part, stranger):
        path.write_bytes(b"half")
        set_age(path, 10_001)
    picture_id = put_aged(store, tmp_path, 0)
    assert store.sweep(NOW_MS, {ID}) == ()
    assert not part.exists()
    assert stranger.exists()
    assert store.ids() == [picture_id]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_says_so_and_leaves_nothing(
    store: FolderPictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_open = os.open

    def open_on_a_full_device(path: Path, flags: int, mode: int = 0o777) -> int:
        os.close(really_open(path, flags, mode))
        return really_open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "open", open_on_a_full_device)
    with pytest.raises(LogFull, match=r"no room.*Free some space") as caught:
        store.put(b"pixels")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert os.listdir(tmp_path / "pictures") == []


def test_a_vanished_folder_is_a_resource_error(store: FolderPictures, tmp_path: Path) -> None:
    (tmp_path / "pictures").rmdir()
    with pytest.raises(ResourceError):
        store.put(b"pixels")
    with pytest.raises(ResourceError):
        store.sweep(NOW_MS, ())
