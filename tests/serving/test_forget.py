"""`pho forget`: no byte stays, and the policy is as if the person had never come."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path
from typing import Any

import pytest

from brokers import fresh_topics, shared_broker
from connectors.archive import ArchiveReader
from connectors.embedded_log import EmbeddedLog
from connectors.erasure_key import make_key
from connectors.kafka_clients import connect
from connectors.kafka_log import KafkaLog
from connectors.persons import Person
from connectors.pictures import FolderPictures
from engines.rebuilding import learned, version_of
from forgetful import (
    newest_policies,
    open_shop,
    outcomes_without,
    pass_time,
    receive,
    reopened,
    shop_of,
    taught_by,
    traces,
    visit_id,
    with_subject,
)
from policies.base import checksum_of
from schemas.codec import decode, encode
from schemas.erasure import id_hash
from schemas.loops import PolicyConfigured
from schemas.outcomes import OutcomeClosed, PolicyDirected
from worlds import captured, decided, loop, outcome, rewarded, shown


def end_of(folder: Path) -> int:
    """Return the position of a log's newest record."""
    log = EmbeddedLog(folder)
    position = log.end().position
    log.close()
    return position


def test_one_of_500_leaves_no_trace_and_the_policy_is_as_if_he_had_never_come(
    pho: Any, tmp_path: Path
) -> None:
    folder = shop_of(tmp_path / "shop", range(500))
    name = visit_id(240)
    assert traces(folder, name) == ["pho.db"]
    run = reopened(folder)
    rows = list(run.log.scan("outcomes"))
    before = newest_policies(run)["main"]
    run.close()
    without = taught_by(tmp_path / "without", outcomes_without(rows, name))["main"]
    assert before.checksum != without.checksum

    done = pho("forget", name, "--data", folder, "--json")

    assert done.status == 0, done.err
    assert traces(folder, name) == []
    assert done.json["policies"] == [
        {"loop_id": "greeting", "policy_id": "main", "epoch": 1, "checksum": without.checksum}
    ]
    run = reopened(folder)
    after = newest_policies(run)["main"]
    assert (after.epoch, after.checksum) == (1, without.checksum)
    assert traces(folder, before.checksum) == [], "no snapshot of what had learned from him"
    run.close()
    assert pho("ledger", "--data", folder).status == 0


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a shop that nine visitors have left."""
    return shop_of(tmp_path / "shop", range(9))


def test_others_keep_what_is_theirs(pho: Any, shop: Path) -> None:
    log = EmbeddedLog(shop)
    before = {row.position: row for row in log.scan()}
    log.close()
    assert pho("forget", visit_id(4), "--data", shop).status == 0
    log = EmbeddedLog(shop)
    after = {row.position: row for row in log.scan()}
    log.close()
    gone = before.keys() - after.keys()
    told = [row for row in before.values() if visit_id(4).encode() in row.value]
    assert {row.position for row in told} - gone == {
        row.position for row in told if row.stream == "policies"
    }
    assert all(
        visit_id(4).encode() in before[place].value or before[place].stream == "policies"
        for place in gone
    )
    same = [row for place, row in before.items() if place in after and row.stream != "policies"]
    assert same == [after[row.position] for row in same]
    new = [row.stream for place, row in after.items() if place not in before]
    assert new == ["erasures", "outcomes"]


def test_a_demo_that_would_play_its_visitor_once_more_is_refused(pho: Any, shop: Path) -> None:
    log = EmbeddedLog(shop)
    log.set_fact("demo.play", "[]")
    end = log.end().position
    done = pho("forget", visit_id(4), "--data", shop)
    assert done.status == 2
    assert "Finish it first" in done.err
    assert log.end().position == end
    log.close()


def test_who_is_not_known_is_told_and_nothing_is_written(pho: Any, shop: Path) -> None:
    end = end_of(shop)
    done = pho("forget", "visit-0004-qz", "--data", shop)
    assert (done.status, done.out) == (1, "")
    assert "nobody is known as visit-0004-qz" in done.err
    assert end_of(shop) == end


@pytest.mark.parametrize("name", ["greeting", "kiosk-1", "greeting/main", "test", "main", "a1"])
def test_a_loop_a_kiosk_or_a_policy_is_nobody(pho: Any, shop: Path, name: str) -> None:
    before = end_of(shop)
    assert pho("forget", name, "--data", shop).status == 1
    assert end_of(shop) == before


def test_a_visit_that_is_named_like_a_loop_takes_nothing_else_with_it(
    pho: Any, tmp_path: Path
) -> None:
    run = open_shop(tmp_path)
    for number in range(4):
        receive(run, number)
    for name in ("greeting", "kiosk-1", "places"):
        run.set_time(run.clock() + 9_000)
        run.append("frames", captured(name, "pre", 0, run.clock(), 0.3))
        run.settle()
    pass_time(run, 70_000)
    before = newest_policies(run)["main"]
    greetings = len(run.out("greetings"))
    run.close()
    for name in ("greeting", "kiosk-1", "places"):
        done = pho("forget", name, "--data", tmp_path, "--json")
        assert (done.status, done.json["decisions"], done.json["policies"]) == (0, 1, [])
    run = reopened(tmp_path)
    assert newest_policies(run)["main"] == before
    assert len(run.out("greetings")) == greetings - 3
    later = decided("somebody-later", run.clock(), loop())
    run.append("outcomes", outcome(later, 0.5, run.clock()))
    run.settle()
    assert newest_policies(run)["main"].version == before.version + 1
    run.close()


def test_twice_says_that_it_is_done_already(pho: Any, shop: Path) -> None:
    assert pho("forget", visit_id(4), "--data", shop).status == 0
    end = end_of(shop)
    done = pho("forget", visit_id(4), "--data", shop)
    assert (done.status, done.err) == (0, f"{visit_id(4)} is forgotten already\n")
    assert end_of(shop) == end


def test_while_the_job_runs_it_is_refused_with_the_cure(pho: Any, shop: Path) -> None:
    run = reopened(shop)
    end = run.log.end().position
    done = pho("forget", visit_id(4), "--data", shop)
    assert done.status == 3
    assert "Stop it first" in done.err
    assert run.log.end().position == end
    run.close()


@pytest.mark.parametrize(
    "line",
    [
        (),
        ("x", "--subject", "y"),
        ("x", "--again"),
        ("x", "--kind", "person"),
        ("--subject", "x", "--kind", "visit"),
        ("not\nan id",),
    ],
)
def test_what_is_not_clear_is_refused(pho: Any, shop: Path, line: tuple[str, ...]) -> None:
    assert pho("forget", *line, "--data", shop).status == 2


def test_the_key_is_for_its_owner_alone_and_the_id_is_not_in_the_log(pho: Any, shop: Path) -> None:
    assert pho("forget", visit_id(4), "--data", shop).status == 0
    key = shop / "erasure.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    log = EmbeddedLog(shop)
    (request,) = [decode(row.value) for row in log.scan("erasures")]
    log.close()
    assert request.id_hash == id_hash(bytes.fromhex(key.read_text()), visit_id(4))
    key.chmod(0o644)
    done = pho("forget", visit_id(5), "--data", shop)
    assert done.status == 2
    assert "chmod 600" in done.err


def test_an_open_window_is_forgotten_and_what_comes_later_is_taken_out_again(
    pho: Any, tmp_path: Path
) -> None:
    run = open_shop(tmp_path)
    for number in range(5):
        receive(run, number)
    receive(run, 5, close=False)
    name = visit_id(5)
    run.close()
    assert pho("forget", name, "--data", tmp_path).status == 0
    assert traces(tmp_path, name) == []

    run = reopened(tmp_path)
    run.append("rewards", rewarded(name, 1, 0.5, run.clock()))
    pass_time(run, 70_000)
    assert [key for key, _, _ in run.out("unmatched")] == [name]
    assert [key for key, _, _ in run.out("outcomes")].count("greeting") == 1 + 5 + 0
    run.close()
    assert pho("ledger", "--data", tmp_path).status == 0
    done = pho("forget", "--again", "--data", tmp_path, "--json")
    assert done.json["records"] == {"rewards": 1, "unmatched": 1}
    assert traces(tmp_path, name) == []
    done = pho("forget", "--again", "--data", tmp_path)
    assert (done.status, done.err) == (0, "nothing came of anybody forgotten\n")


def test_several_one_after_the_other_are_as_if_none_had_come(pho: Any, tmp_path: Path) -> None:
    shop = shop_of(tmp_path / "shop", range(20))
    log = EmbeddedLog(shop)
    rows = list(log.scan("outcomes"))
    log.close()
    names = [visit_id(4), visit_id(11), visit_id(2)]
    without = taught_by(tmp_path / "without", outcomes_without(rows, *names))["main"]
    for name in names:
        assert pho("forget", name, "--data", shop).status == 0
        run = reopened(shop)
        run.close()
    run = reopened(shop)
    found = newest_policies(run)["main"]
    assert (found.epoch, found.checksum) == (3, without.checksum)
    # The arrays of the first erasures had learned from who was forgotten later.
    again = taught_by(tmp_path / "again", run.log.scan("outcomes"))["main"]
    assert again.checksum == without.checksum
    directives = [decode(row.value) for row in run.log.scan("outcomes")]
    arrays = [d.arrays for d in directives if isinstance(d, PolicyDirected)]
    assert len(arrays) == 3
    assert arrays[0] == arrays[1] == arrays[2]
    run.close()
    for name in names:
        assert traces(shop, name) == []


def test_a_rollback_goes_back_to_a_version_without_them(pho: Any, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    run = open_shop(shop)
    for number in range(12):
        receive(run, number)
    _, base = version_of(run.log.scan("outcomes"), "main", 0, 6)
    back = PolicyDirected(
        "d1", "greeting", "main", "rollback", "test", "worse", 1, 0, 6,
        arrays=base.arrays, snapshot_checksum=base.checksum,
    )  # fmt: skip
    run.append("outcomes", back)
    run.settle()
    for number in range(12, 16):
        receive(run, number)
    pass_time(run, 70_000)
    rows = list(run.log.scan("outcomes"))
    assert newest_policies(run)["main"].epoch == 1
    run.close()
    name = visit_id(1)
    # As the log would be: the version before was learned from one visitor less.
    left = list(outcomes_without(rows, name))
    _, base = version_of(left, "main", 0, 5)
    mended = dataclasses.replace(
        back, base_version=5, arrays=base.arrays, snapshot_checksum=base.checksum
    )
    at = next(i for i, row in enumerate(left) if isinstance(decode(row.value), PolicyDirected))
    left[at] = left[at]._replace(value=encode(mended))
    without = taught_by(tmp_path / "without", left)["main"]
    assert pho("forget", name, "--data", shop).status == 0
    run = reopened(shop)
    found = newest_policies(run)["main"]
    assert (found.epoch, found.checksum) == (2, without.checksum)
    directives = [decode(row.value) for row in run.log.scan("outcomes")]
    assert mended in directives
    run.close()


def test_every_policy_that_learned_is_learned_again_and_no_other(pho: Any, tmp_path: Path) -> None:
    both = (PolicyConfigured("main", "thompson"), PolicyConfigured("coin", "uniform", "shadow"))
    config = loop(policies=both)
    shop = shop_of(tmp_path / "shop", range(6), config)
    done = pho("forget", visit_id(2), "--data", shop, "--json")
    assert [each["policy_id"] for each in done.json["policies"]] == ["main"]


def test_who_taught_nothing_starts_no_epoch(pho: Any, shop: Path) -> None:
    done = pho("forget", visit_id(7), "--data", shop, "--json")
    assert done.json["decisions"] == 1
    assert done.json["policies"] == []
    assert traces(shop, visit_id(7)) == []


def test_outcomes_that_learn_had_not_read_are_learned_once(pho: Any, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    run = open_shop(shop)
    for number in range(6):
        receive(run, number)
    receive(run, 6, close=False)
    at_ms = run.clock() + 60_000
    run.clock.set(at_ms)
    run.append("rewards", rewarded(visit_id(6), 9, 0.5, at_ms))
    # Closes the window and writes the outcome, which the next cycle would have learned.
    while visit_id(6) not in {d.choice.decision_id for d in outcomes(run.log)}:
        run.clock.set(run.clock() + 1)
        assert run.cycle()
    rows = list(run.log.scan("outcomes"))
    run.close()
    without = taught_by(tmp_path / "without", outcomes_without(rows, visit_id(2)))["main"]
    assert pho("forget", visit_id(2), "--data", shop).status == 0
    run = reopened(shop)
    assert newest_policies(run)["main"].checksum == without.checksum
    run.close()


def outcomes(log: EmbeddedLog) -> list[OutcomeClosed]:
    """Return the outcomes of a log."""
    values = [decode(row.value) for row in log.scan("outcomes")]
    return [value for value in values if isinstance(value, OutcomeClosed)]


def test_a_person_whom_an_application_knows_by_an_id_of_its_own(pho: Any, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    key = make_key(shop / "erasure.key")
    run = open_shop(shop)
    for number in range(4):
        run.set_time(run.clock() + 9_000)
        subject = "customer-17" if number in (1, 2) else f"customer-{number}"
        run.append("frames", with_subject(number, id_hash(key, subject)))
        run.settle()
        run.append("impressions", shown(visit_id(number), "a0", run.clock()))
    pass_time(run, 70_000)
    run.close()
    done = pho("forget", "--subject", "customer-17", "--data", shop, "--json")
    assert done.json["decisions"] == 2
    for number in range(4):
        assert bool(traces(shop, visit_id(number))) == (number not in (1, 2))
    log = EmbeddedLog(shop)
    kinds = [decode(row.value).kind for row in log.scan("erasures")]
    log.close()
    assert kinds == ["subject", "decision", "decision"]


def test_pictures_in_flight_go_too(pho: Any, shop: Path) -> None:
    pictures = FolderPictures(shop / "pictures")
    mine, other = pictures.put(b"a face"), pictures.put(b"another")
    log = EmbeddedLog(shop)
    name = visit_id(99)
    for text, picture_id in ((name, mine), (visit_id(98), other)):
        frame = captured(text, "pre", 0, log.clock(), 0.3)
        log.append("frames", dataclasses.replace(frame, edge_analysis=None, picture_id=picture_id))
    log.close()
    done = pho("forget", name, "--data", shop, "--json")
    assert done.json["pictures"] == 1
    assert pictures.ids() == [other]
    assert traces(shop, mine) == []


@pytest.mark.slow
def test_on_kafka_it_is_said_to_all_who_read(pho: Any, shop: Path, tmp_path: Path) -> None:
    name = visit_id(4)
    log = EmbeddedLog(shop)
    rows = [row for row in log.scan() if row.stream not in ("ticks", "greetings")]
    without = taught_by(
        tmp_path / "without", outcomes_without((r for r in rows if r.stream == "outcomes"), name)
    )["main"]
    log.close()
    with fresh_topics(shared_broker().bootstrap, bridged=True) as address:
        client = connect(address, client="confluent", delivery_timeout_ms=20_000)
        topics = KafkaLog(client)
        topics.append_at(rows)
        here = ("--log", address, "--data", tmp_path / "here")
        before = pho("ledger", *here, "--json").json
        done = pho("forget", name, *here, "--json")
        assert done.status == 0, done.err
        assert done.json["policies"][0]["checksum"] == without.checksum
        *_, last = learned(topics.scan("outcomes"))
        assert last.state is not None
        assert checksum_of(last.state.learners[0].policy) == without.checksum
        after = pho("ledger", *here, "--json").json
        assert after["decisions"] == before["decisions"] - 1
        assert pho("archive", "--archive", "kept", "--until", "now", *here).status == 0
        kept = b"".join(row.value for row in ArchiveReader(Path("kept")).scan())
        assert name.encode() not in kept
        assert visit_id(5).encode() in kept
        twice = pho("forget", name, *here)
        assert (twice.status, twice.err) == (0, f"{name} is forgotten already\n")
        there = pho("ledger", "--log", address, "--data", tmp_path / "elsewhere")
        assert there.status == 3
        assert "erasure_key" in there.err
        topics.close()


def test_archives_of_a_folder_are_erased_with_it(pho: Any, shop: Path) -> None:
    name = visit_id(4)
    for folder in ("one", "two"):
        done = pho("archive", "--archive", folder, "--until", "now", "--no-tables", "--data", shop)
        assert done.status == 0, done.err
        assert ArchiveReader(Path(folder)).bases()
    done = pho("forget", name, "--data", shop, "--archive", "one", "--json")
    assert done.status == 0, done.err
    assert done.json["archives"]["one"]["rows"] > 5
    assert done.json["archives"]["one"]["bases"] == 1
    log = EmbeddedLog(shop)
    speaks = Person(frozenset({name})).speaks_of
    assert not any(map(speaks, ArchiveReader(Path("one")).scan()))
    assert any(map(speaks, ArchiveReader(Path("two")).scan()))
    log.close()
    # The other was not at hand: it obeys when it is brought up to date.
    done = pho("archive", "--archive", "two", "--until", "now", "--data", shop)
    assert "forgotten persons taken out" in done.out
    assert not any(map(speaks, ArchiveReader(Path("two")).scan()))
    done = pho("forget", name, "--data", shop, "--archive", "two")
    assert (done.status, done.err) == (0, f"{name} is forgotten already\n")


def test_a_demo_is_forgotten_with_what_was_measured_of_it(pho: Any, demo_folder: Path) -> None:
    name = "visit-1-00003"
    before = pho("ledger", "--data", demo_folder, "--json").json
    assert traces(demo_folder, name) == ["pho.db"]
    done = pho("forget", name, "--data", demo_folder)
    assert done.status == 0, done.err
    assert "forgotten: " in done.out
    assert traces(demo_folder, name) == []
    after = pho("ledger", "--data", demo_folder, "--json").json
    assert after["decisions"] == before["decisions"] - 1
    again = pho("demo", "--data", demo_folder, "--visits", 6, "--seed", 1, "--json")
    assert again.status == 0, again.err
    assert traces(demo_folder, name) == [], "a finished demo only reports"
