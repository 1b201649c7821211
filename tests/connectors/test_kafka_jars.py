"""The jars and the Java: nothing unchecked is used, and one is found where there is one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from connectors import jars as jars_module
from connectors.jars import JAR_SETS, fetch_jars, jar_folder
from connectors.java import fetch_java, java_command, java_version
from schemas.errors import ResourceError, UsageError


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return a cache with a copy of the broker's jars."""
    real = fetch_jars("kafka_broker")
    shutil.copytree(real, tmp_path / real.name)
    return tmp_path


def test_pins_name_every_jar_once() -> None:
    assert len(JAR_SETS["kafka_broker"].pins()) == 46
    assert list(JAR_SETS["flink_kafka"].pins()) == ["flink-sql-connector-kafka-5.0.0-2.2.jar"]
    for jars in JAR_SETS.values():
        assert all(len(digest) == 64 for digest in jars.pins().values())


def test_whole_jars_are_used_and_nobody_is_asked(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> None:
        pytest.fail("a repository was asked")

    monkeypatch.setattr(jars_module, "run_client", asked)
    folder = jar_folder("kafka_broker", cache)
    assert fetch_jars("kafka_broker", cache) == folder
    assert (folder / "kafka_2.13-4.3.1.jar").is_file()


def test_a_missing_or_altered_jar_is_found(cache: Path) -> None:
    folder = jar_folder("kafka_broker", cache)
    with (folder / "kafka_2.13-4.3.1.jar").open("ab") as file:
        file.write(b"x")
    (folder / "slf4j-simple-1.7.36.jar").unlink()
    with pytest.raises(ResourceError, match="lacks 2 jars") as told:
        jar_folder("kafka_broker", cache)
    assert told.value.cure


def test_what_a_repository_alters_never_reaches_the_cache(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = jar_folder("kafka_broker", cache)
    missing = folder / "slf4j-simple-1.7.36.jar"
    missing.unlink()

    def altered(_jars: object, _work: Path, target: Path) -> None:
        for name in JAR_SETS["kafka_broker"].pins():
            (target / name).write_bytes(b"altered")

    monkeypatch.setattr(jars_module, "_by_maven", altered)
    monkeypatch.setattr(jars_module, "_by_jgo", altered)
    with pytest.raises(ResourceError, match="not the pinned files"):
        fetch_jars("kafka_broker", cache)
    assert not missing.exists()


def test_a_repository_that_fails_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "mvn"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'no route to the mirror'\nexit 1\n", encoding="ascii")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    with pytest.raises(ResourceError, match="no route to the mirror") as told:
        fetch_jars("kafka_broker", tmp_path / "cache")
    assert told.value.cure
    assert not list((tmp_path / "cache").glob("*/*.jar"))


def test_a_set_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="no set of jars"):
        jar_folder("nothing")


def test_the_java_that_was_named_comes_first_if_it_is_new_enough(tmp_path: Path) -> None:
    for folder, version in (("new", "21.0.2"), ("old", "11.0.2"), ("ancient", "1.8.0_292")):
        java = tmp_path / folder / "bin" / "java"
        java.parent.mkdir(parents=True)
        java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n", "ascii")
        java.chmod(0o755)
    new, old = tmp_path / "new", tmp_path / "old"
    assert java_command(new, tmp_path) == str(new / "bin" / "java")
    assert java_command(old, tmp_path) != str(old / "bin" / "java")
    assert java_version(str(tmp_path / "ancient" / "bin" / "java")) == 1
    assert java_version(str(tmp_path / "nothing")) == 0
    assert fetch_java(new, tmp_path) == str(new / "bin" / "java")


def test_no_java_is_found_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert java_command(cache=tmp_path) is None
