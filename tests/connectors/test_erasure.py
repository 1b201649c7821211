"""Taking persons out: of the file, of what the engine remembers, of archives; crashes between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiving import PartitionedLog
from connectors import archive_parts, embedded_log
from connectors.archive import ArchiveReader, read_manifest
from connectors.archive_parts import describe, read_part
from connectors.archive_sources import until_ms
from connectors.archive_writer import Archiver, directives_of, erase_from_archive
from connectors.embedded_erasure import is_unfinished
from connectors.embedded_log import EmbeddedLog
from connectors.erasure_key import make_key, read_key
from connectors.logs import Row
from connectors.persons import Erased, Person, find_person
from engines.forgetting import Asked, erased_of, forget_embedded
from forgetful import reopened, shop_of, traces, visit_id
from schemas.codec import decode, encode
from schemas.erasure import id_hash
from schemas.errors import InvalidRecord, LogUnavailable, SettingsError
from schemas.operations import SideRecord
from worlds import START_MS, analyzed, decided, ended, outcome, rewarded, shown

KEY = bytes(range(32))


class Crash(BaseException):
    """The process ends here."""


def forget(folder: Path, name: str, crash_at: str = "") -> None:
    """Forget somebody; perhaps the process ends at a step."""

    def step(at: str) -> None:
        if at == crash_at:
            raise Crash

    log = EmbeddedLog(folder, synchronous="OFF", steps=step)
    try:
        forget_embedded(log, Asked(name, None, KEY), None)
    finally:
        log.close()


# Who is meant


def row(stream: str, value: object, key: str = "k") -> Row:
    return Row(1, stream, key, START_MS, value if isinstance(value, bytes) else encode(value))


def side(raw: bytes, key: str = "k", error: str = "why") -> SideRecord:
    return SideRecord("torn", error, "rewards", 0, 7, START_MS, key, raw)


SPEAKING = [
    ("analyses", analyzed("visit-1", "pre", 0, START_MS, 0.5)),
    ("decisions", decided("visit-1", START_MS)),
    ("impressions", shown("visit-1", "a0", START_MS)),
    ("rewards", rewarded("visit-1", 1, 0.5, START_MS)),
    ("visits", ended("visit-1", START_MS)),
    ("outcomes", outcome(decided("visit-1", START_MS), 0.5)),
    ("late", side(encode(rewarded("visit-1", 1, 0.5, START_MS)))),
    ("dead-letters", side(b"\xc3\x01 torn", key="visit-1")),
    ("dead-letters", side(b'{"decision_id": "visit-1"}')),
    ("dead-letters", side(b"\x0evisit-1\x00")),
    ("dead-letters", side(b"", error="decision 'visit-1' does not add up")),
    ("dead-letters", side(encode(side(encode(ended("visit-1", START_MS)))))),
]


@pytest.mark.parametrize(("stream", "value"), SPEAKING)
def test_every_record_that_speaks_of_somebody_is_known(stream: str, value: object) -> None:
    assert Person(frozenset({"visit-1"})).speaks_of(row(stream, value))
    assert not Person(frozenset({"visit-10"})).speaks_of(row(stream, value))
    assert not Person(frozenset({"visit"})).speaks_of(row(stream, value))
    if b"torn" in encode(value) or (isinstance(value, SideRecord) and not value.raw[:1] == b"\xc3"):
        return  # bytes that nobody can read are searched for an id, not for all ids of a hash
    assert Erased(KEY, {id_hash(KEY, "visit-1")}).speaks_of(row(stream, value))
    assert not Erased(KEY, {id_hash(KEY, "visit-10")}).speaks_of(row(stream, value))


def test_a_visit_is_found_with_all_its_decisions_and_a_decision_alone() -> None:
    frames = [
        row("analyses", analyzed(name, "pre", 0, START_MS, 0.5, visit_id="a visit"), name)
        for name in ("first", "second")
    ]
    found = find_person(frames, "a visit", None, KEY)
    assert found == Person(frozenset({"a visit", "first", "second"}))
    assert find_person(frames, "a visit", "decision", KEY) is None
    assert find_person(frames, "first", "visit", KEY) is None
    alone = find_person(frames, "first", None, KEY)
    assert alone is not None
    assert [alone.speaks_of(each) for each in frames] == [True, False]


@given(st.binary(min_size=32, max_size=32), st.text(max_size=40), st.text(max_size=40))
def test_a_hash_is_of_one_id_under_one_key(key: bytes, one: str, other: str) -> None:
    assert (id_hash(key, one) == id_hash(key, other)) == (one == other)
    assert id_hash(key, one) != id_hash(bytes(byte ^ 1 for byte in key), one)


def test_a_key_is_made_once_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "shop" / "erasure.key"
    assert read_key(path) is None
    old = os.umask(0)
    try:
        key = make_key(path)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert make_key(path) == read_key(path) == key
    assert list(path.parent.iterdir()) == [path]
    path.write_text("abcd")
    with pytest.raises(SettingsError, match="64 hex digits"):
        read_key(path)
    with pytest.raises(InvalidRecord, match="4 bytes"):
        id_hash(b"abcd", "x")


# The file


@pytest.fixture(scope="module")
def _shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop_of(tmp_path_factory.mktemp("erasure") / "shop", range(12))


@pytest.fixture
def shop(_shop: Path, tmp_path: Path) -> Path:
    """Return a copy of a shop that twelve visitors have left."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for path in _shop.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("step", ["commit.before", "commit.after", "erase.rows", "erase.vacuum"])
def test_ended_at_any_step_it_is_done_by_the_next_run(shop: Path, step: str) -> None:
    name = visit_id(3)
    with pytest.raises(Crash):
        forget(shop, name, step)
    log = EmbeddedLog(shop)
    assert is_unfinished(log) == (step != "commit.before")
    log.close()
    forget(shop, name)
    assert traces(shop, name) == []
    log = EmbeddedLog(shop)
    assert not is_unfinished(log)
    assert log.counts()["erasures"] == 1
    log.close()


def test_new_records_never_get_positions_that_were_given_before(shop: Path) -> None:
    log = EmbeddedLog(shop)
    last = log.append("rewards", rewarded(visit_id(77), 1, 0.5, START_MS))
    log.close()
    forget(shop, visit_id(77))
    log = EmbeddedLog(shop)
    (request,) = log.scan("erasures")
    assert request.position > last
    log.close()


def test_what_was_remembered_by_name_and_calls_in_flight_go(shop: Path) -> None:
    log = EmbeddedLog(shop)
    mine, other = (row.position for row in list(log.scan("frames", key=visit_id(3)))[:2])
    log.set_fact(f"demo.greeted_ms.{visit_id(3)}", 12.5)
    log.set_fact(f"demo.greeted_ms.{visit_id(4)}", 13.5)
    log.set_fact("engine.places", f'{{"read": 5, "in_flight": {{"analyze": [{mine}, 1]}}}}')
    log.close()
    forget(shop, visit_id(3))
    log = EmbeddedLog(shop)
    assert log.fact("engine.places") == '{"read": 5, "in_flight": {"analyze": [1]}}'
    assert log.fact(f"demo.greeted_ms.{visit_id(4)}") == 13.5
    log.close()
    assert traces(shop, visit_id(3)) == []
    assert other


def test_what_the_engine_had_deleted_before_is_no_trace_either(shop: Path) -> None:
    name = visit_id(3)
    log = EmbeddedLog(shop)
    again = [("rewards", rewarded(name, number, 0.5, START_MS)) for number in range(2_000)]
    told = log.append_all(again)
    # As it deletes snapshots that a newer one replaced: SQLite only forgets where they were, if
    # it was not compiled to overwrite what it deletes, as Debian's is.
    log.db.execute("PRAGMA secure_delete = OFF")
    log.db.executemany("DELETE FROM log WHERE position = ?", [(place,) for place in told])
    assert log.db.execute("PRAGMA freelist_count").fetchone()[0] > 10
    log.close()
    forget(shop, name)
    assert traces(shop, name) == []


def test_while_a_camera_has_the_file_open_nothing_stays_in_the_log_beside_it(shop: Path) -> None:
    camera = EmbeddedLog(shop)
    camera.append("rewards", rewarded(visit_id(3), 1, 0.5, START_MS))
    forget(shop, visit_id(3))
    assert (shop / "pho.db-wal").exists()
    assert traces(shop, visit_id(3)) == []
    camera.close()


def test_who_reads_all_the_time_is_told_and_the_rest_is_done_later(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_log, "BUSY_TIMEOUT_MS", 50)
    reader = EmbeddedLog(shop)
    reader.append("rewards", rewarded(visit_id(3), 1, 0.5, START_MS))
    reader.db.execute("BEGIN")
    reader.db.execute("SELECT COUNT(*) FROM log").fetchone()
    with pytest.raises(LogUnavailable, match="all the time"):
        forget(shop, visit_id(3))
    assert traces(shop, visit_id(3)) == ["pho.db", "pho.db-wal"]
    reader.db.execute("ROLLBACK")
    forget(shop, visit_id(3))
    assert traces(shop, visit_id(3)) == []
    reader.close()


@settings(max_examples=6)
@given(gone=st.sets(st.integers(0, 11), min_size=1, max_size=5))
def test_whoever_goes_the_others_stay_byte_by_byte(
    _shop: Path, tmp_path_factory: pytest.TempPathFactory, gone: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("others") / "shop"
    folder.mkdir()
    (folder / "pho.db").write_bytes((_shop / "pho.db").read_bytes())
    before = EmbeddedLog(_shop)
    for number in sorted(gone):
        forget(folder, visit_id(number))
    after = EmbeddedLog(folder)
    streams = ("frames", "analyses", "decisions", "greetings", "impressions", "rewards", "visits")
    left = [
        each
        for each in before.scan(*streams)
        if not any(visit_id(number).encode() in each.value for number in gone)
    ]
    assert list(after.scan(*streams)) == left
    before.close()
    after.close()
    for number in range(12):
        assert bool(traces(folder, visit_id(number))) == (number not in gone)
    run = reopened(folder)
    assert len(run.out("outcomes")) >= 1 + 12 - len(gone)
    run.close()


# Archives


def archived(shop: Path, folder: Path, erased: Erased | None = None) -> ArchiveReader:
    """Bring an archive of a shop up to date."""
    log = EmbeddedLog(shop)
    Archiver(log, folder, tables=False, erased=erased).run(until_ms("now", log))
    log.close()
    return ArchiveReader(folder)


def told(reader: ArchiveReader) -> list[Row]:
    return list(reader.scan())


def check_manifest(archive: Path) -> None:
    """Hold every part against what the manifest says of it."""
    manifest = read_manifest(archive)
    assert manifest is not None
    for part in manifest.parts:
        found = describe(archive, archive / part.path)
        assert (found.rows, found.last, found.last_ms, found.last_crc) == (
            part.rows, part.last, part.last_ms, part.last_crc,
        )  # fmt: skip
        assert part.first <= found.first
    assert not list(archive.rglob(".*.tmp"))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_parts, "PART_ROWS_MAX", 4)


@pytest.mark.usefixtures("small_parts")
def test_the_next_run_takes_out_of_an_archive_who_was_forgotten(shop: Path, tmp_path: Path) -> None:
    name, archive = visit_id(3), tmp_path / "archive"
    old = archived(shop, archive)
    rows = told(old)
    assert old.bases()
    forget(shop, name)
    log = EmbeddedLog(shop)
    erased = erased_of(log, KEY)
    inside = list(log.scan())
    log.close()
    reader = archived(shop, archive, erased)
    # What learned from him went from the archive, and got another content in the log.
    policies = [each for each in inside if each.stream == "policies"]
    assert [each for each in told(reader) if each.stream != "policies"] == [
        each for each in inside if each not in policies
    ]
    assert not [each for each in told(reader) if each.stream == "policies"]
    check_manifest(archive)
    assert all(name.encode() not in row.value for row in reader.bases())
    for part in reader.manifest.parts:
        assert all(name.encode() not in row.value for row in read_part(archive / part.path))
    assert len(rows) > len(told(reader))
    run = reopened(shop)
    run.close()
    bases = [decode(base.value) for base in archived(shop, archive, erased).bases()]
    assert bases
    assert {base.epoch for base in bases} == {1}, "the old ones had learned from him"


def test_arrays_that_had_learned_from_who_was_forgotten_later_are_mended_there_too(
    shop: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    outcomes = []
    for number in (5, 3):
        forget(shop, visit_id(number))
        log = EmbeddedLog(shop)
        erased = erased_of(log, KEY)
        outcomes.append(list(log.scan("outcomes")))
        log.close()
        reader = archived(shop, archive, erased)
        assert list(reader.scan("outcomes")) == outcomes[-1]
    changed = [each for each in outcomes[0] if each not in outcomes[1]]
    assert len(changed) == 2, "his outcome went, the first directive has other arrays"


@pytest.mark.usefixtures("small_parts")
def test_an_archive_is_erased_at_once_and_again_after_a_crash(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, archive = visit_id(3), tmp_path / "archive"
    archived(shop, archive)
    forget(shop, name)
    log = EmbeddedLog(shop)
    erased, directives = erased_of(log, KEY), directives_of(log)
    log.close()
    publish = archive_parts.PartWriter.publish
    left = 3

    def crash(writer: archive_parts.PartWriter) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Crash
        publish(writer)

    with monkeypatch.context() as patch:
        patch.setattr(archive_parts.PartWriter, "publish", crash)
        with pytest.raises(Crash):
            erase_from_archive(archive, erased, directives)
    erase_from_archive(archive, erased, directives)
    check_manifest(archive)
    reader = ArchiveReader(archive)
    assert all(name.encode() not in row.value for row in told(reader))
    once = told(reader)
    assert erase_from_archive(archive, erased, directives).rows == 0
    assert told(ArchiveReader(archive)) == once


def test_an_archive_of_topics_leaves_out_who_stays_in_them(tmp_path: Path) -> None:
    rows = [
        Row(place, "rewards", name, START_MS + place, encode(rewarded(name, 1, 0.5, START_MS)))
        for place, name in enumerate(("stays-1", "goes-away", "stays-2", "goes-away"))
    ]
    log = PartitionedLog(rows, START_MS + 10)
    erased = Erased(KEY, {id_hash(KEY, "goes-away")})
    for _ in range(2):
        Archiver(log, tmp_path, tables=False, erased=erased).run(2**62)
        reader = ArchiveReader(tmp_path)
        assert [decode(row.value).decision_id for row in reader.scan()] == ["stays-1", "stays-2"]
