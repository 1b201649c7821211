"""What the terminal says of the doors: nothing at home, and what a tablet needs elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.gateway.certificates import FOLDER, own_certificate, own_names
from serving.gateway.door_words import door_words
from serving.gateway.keys import FILE_NAME, KeyRing
from serving.settings import Settings, load


def settings(folder: Path, **flags: Any) -> Settings:
    told = {f"gateway.{name}": value for name, value in flags.items()}
    return load(None, {"data": str(folder), **told}, {})


def test_on_loopback_nothing_is_said(tmp_path: Path) -> None:
    assert door_words(settings(tmp_path)) == []


def test_beyond_it_what_is_missing_is_said(tmp_path: Path) -> None:
    told = settings(tmp_path, host="192.168.1.10")
    words = door_words(told)
    assert len(words) == 2
    assert "--tls auto" in words[0]
    assert "pho keys add" in words[1]
    KeyRing(tmp_path / FILE_NAME).add("owner")
    assert door_words(told) == words[:1]


@pytest.mark.parametrize(
    ("host", "place"), [("192.168.1.10", "192.168.1.10:8750"), ("fd00::5", "[fd00::5]:8750")]
)
def test_the_fingerprint_is_the_one_of_the_certificate(
    tmp_path: Path, host: str, place: str
) -> None:
    KeyRing(tmp_path / FILE_NAME).add("owner")
    where, fingerprint = door_words(settings(tmp_path, host=host, tls="auto"))
    assert where.endswith(f"https://{place}/trust")
    own = own_certificate(tmp_path / FOLDER, own_names())
    assert fingerprint.endswith(f" {own.fingerprint}")
