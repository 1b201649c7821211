"""Keys: shown once, kept as hashes, read again when changed; and the command that makes them."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from connectors.clocks import SetClock
from schemas.errors import ResourceError, SettingsError, UsageError
from serving.gateway.keys import KeyRing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "keys.json"


def test_a_key_is_found_by_its_text_alone(path: Path) -> None:
    ring = KeyRing(path, SetClock(5))
    key, text = ring.add("kiosk", "door-1")
    assert ring.find(text) == key
    assert (key.scope, key.kiosk_id, key.created_at_ms) == ("kiosk", "door-1", 5)
    assert text.startswith(f"pho_kiosk_{key.id}_")
    others = ("", text[:-1], text + "A", text.upper(), text.replace("kiosk", "owner"), f" {text}")
    assert [ring.find(other) for other in (*others, "pho_kiosk_\udcff")] == [None] * 7


def test_the_file_holds_no_key_and_nobody_else_reads_it(path: Path) -> None:
    ring = KeyRing(path)
    _, text = ring.add("owner")
    content = path.read_text()
    assert text not in content
    assert text.rpartition("_")[2] not in content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir() if each.name.endswith(".tmp")] == []


def test_a_change_by_another_process_is_seen_at_once(path: Path) -> None:
    here, there = KeyRing(path), KeyRing(path)
    assert here.keys() == ()
    key, text = there.add("owner")
    assert here.find(text) == key
    there.revoke(key.id)
    assert here.find(text) is None
    assert here.get(key.id) is None


def test_every_key_differs_and_none_is_lost_when_made_at_once(path: Path) -> None:
    made: list[str] = []

    def make() -> None:
        for _ in range(10):
            made.append(KeyRing(path).add("owner")[1])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ring = KeyRing(path)
    assert len(set(made)) == len(ring.keys()) == 40
    assert all(ring.find(text) for text in made)


def test_the_last_use_is_kept_to_the_minute(path: Path) -> None:
    clock = SetClock(1_000)
    ring = KeyRing(path, clock)
    key, _ = ring.add("owner")

    def used() -> int | None:
        ring.used(key.id)
        found = ring.get(key.id)
        assert found is not None
        return found.last_used_at_ms

    assert used() == 1_000
    clock.set(60_999)
    written = path.stat().st_ino
    assert used() == 1_000
    assert path.stat().st_ino == written, "nothing was written"
    clock.set(61_000)
    assert used() == 61_000
    ring.revoke(key.id)
    ring.used(key.id)
    assert ring.keys() == ()


def test_a_file_that_others_may_read_opens_nothing(path: Path) -> None:
    ring = KeyRing(path)
    _, text = ring.add("owner")
    assert ring.find(text)
    path.chmod(0o640)
    with pytest.raises(SettingsError, match=r"can be read by others.*chmod 600"):
        ring.find(text)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"format": 1, "ticket_secret": "00", "keys": []}', '{"format": 2}'],
)
def test_a_file_that_is_none_of_ours_opens_nothing_and_stays(path: Path, content: str) -> None:
    ring = KeyRing(path)
    _, text = ring.add("owner")
    path.write_text(content)
    for _ in range(2):
        with pytest.raises(SettingsError, match="keys"):
            ring.find(text)
    with pytest.raises(SettingsError):
        ring.add("owner")
    assert path.read_text() == content


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot be written"):
        KeyRing(tmp_path / "file" / "keys.json").add("owner")


@pytest.mark.parametrize(("scope", "kiosk"), [("kiosk", None), ("owner", "a"), ("kiosk", " ")])
def test_a_key_that_makes_no_sense_is_refused(path: Path, scope: Any, kiosk: str | None) -> None:
    with pytest.raises(UsageError):
        KeyRing(path).add(scope, kiosk)


def test_the_command_shows_a_key_once(pho: Any, tmp_path: Path) -> None:
    made = pho("keys", "add", "--scope", "kiosk", "--kiosk", "door-1", "--data", tmp_path)
    (text,) = made.out.splitlines()
    ring = KeyRing(tmp_path / "keys.json")
    (key,) = ring.keys()
    assert ring.find(text) == key
    assert "not shown again" in made.err
    listed = pho("keys", "ls", "--data", tmp_path)
    assert text not in listed.out + listed.err
    assert all(word in listed.out for word in (key.id, "door-1", "never"))


def test_the_command_speaks_json(pho: Any, tmp_path: Path) -> None:
    made = pho("keys", "add", "--scope", "owner", "--data", tmp_path, "--json").json
    assert made["key"].startswith(f"pho_owner_{made['id']}_")
    (listed,) = pho("keys", "ls", "--data", tmp_path, "--json").json
    assert listed == {name: value for name, value in made.items() if name != "key"}
    gone = pho("keys", "revoke", made["id"], "--data", tmp_path, "--json").json
    assert gone == listed
    assert pho("keys", "ls", "--data", tmp_path, "--json").json == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["add", "--scope", "boss"], "Use kiosk or owner"),
        (["add", "--scope", "kiosk"], "Give --kiosk ID"),
        (["add", "--scope", "owner", "--kiosk", "a"], "Give --kiosk ID"),
        (["revoke", "12345678"], "pho keys ls"),
    ],
)
def test_wrong_usage_leaves_with_2_and_says_what_to_do(
    pho: Any, tmp_path: Path, words: list[str], says: str
) -> None:
    ran = pho("keys", *words, "--data", tmp_path)
    assert (ran.status, ran.out) == (2, "")
    assert says in ran.err
    assert not (tmp_path / "keys.json").exists()


def test_the_file_can_be_copied_to_another_gateway(path: Path, tmp_path: Path) -> None:
    ring = KeyRing(path)
    _, text = ring.add("owner")
    copy = tmp_path / "keys.json"
    copy.write_bytes(path.read_bytes())
    copy.chmod(0o600)
    assert KeyRing(copy).find(text)
    assert KeyRing(copy).ticket_secret() == ring.ticket_secret()
    assert len(json.loads(path.read_text())["ticket_secret"]) == 64
