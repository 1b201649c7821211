"""The demo by way of AWS: the plain demo's outcomes, under faults, kills, splits and merges."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.embedded_log import EmbeddedLog
from connectors.local_kinesis import has_local_kinesis
from faulty_aws import Faults, FaultyAws
from needs import need
from serving.aws_demo import AwsDemo, Servers, cloud_settings, local_servers, outcomes_of
from serving.demo import Demo, Play
from serving.ledger import read_ledger
from serving.settings import Settings, load

VISITS = int(os.environ.get("AWS_VISITS", "2"))
SEED = 1


@pytest.fixture
def servers() -> Iterator[Servers]:
    need("npm")
    if not has_local_kinesis():
        pytest.skip("no local Kinesis: pho doctor --fetch-aws")
    with local_servers(load(None, {}, {})) as started:
        yield started


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> set[bytes]:
    """Return the outcomes of the demo without AWS."""
    flags = {
        "data": str(tmp_path_factory.mktemp("plain") / "demo"),
        "loops.greeting.control_share": 0.15,
    }
    demo = Demo(load(None, flags, {}), Play("recorded", SEED, VISITS))
    demo.run(lambda _done, _total: None)
    found = outcomes_of(demo.log)
    demo.log.close()
    return found


def settings_for(folder: Path, endpoint: str, endpoints: dict[str, str]) -> Settings:
    """Return what `pho demo-aws` plays with."""
    flags = {"data": str(folder), "loops.greeting.control_share": 0.15}
    return cloud_settings(load(None, flags, {}), endpoint, endpoints)


def outcomes_in(folder: Path) -> set[bytes]:
    """Return the outcomes of a folder's log."""
    log = EmbeddedLog(folder)
    try:
        return outcomes_of(log)
    finally:
        log.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_same_outcomes_with_a_split_and_a_merge_and_faults(
    servers: Servers, wanted: set[bytes], tmp_path: Path
) -> None:
    faults = Faults(throttled=0.05, failed=0.01, reset=0.02, slow=0.02, slow_s=0.2)
    some = replace(faults, refused_records=0.05)
    with (
        FaultyAws(servers.kinesis.endpoint, some, 1) as kinesis,
        FaultyAws(servers.aws.endpoint, replace(faults, throttled=0.0), 2) as aws,
        FaultyAws(servers.rekognition.endpoint, faults, 3) as rekognition,
    ):
        endpoints = {"kinesis": kinesis.endpoint, "rekognition": rekognition.endpoint}
        settings = settings_for(tmp_path / "cloud", aws.endpoint, endpoints)
        demo = AwsDemo(settings, Play("recorded", SEED, VISITS))
        demo.run(lambda _done, _total: None)
        report = demo.report(servers.rekognition)
        hurt = sum(
            n for f in (kinesis, aws, rekognition) for what, n in f.done.items() if what != "passed"
        )
    told = report.document()
    assert hurt > 10
    assert told["good"], told
    assert [line.split()[-1] for line in report.reshaped] == ["split", "merged"]
    assert told["shards_of_frames"] >= 3
    assert read_ledger(demo.log).balanced
    assert outcomes_of(demo.log) == wanted
    assert demo.pictures_left == 0
    demo.log.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_in_between_it_goes_on_and_leaves_no_picture(
    servers: Servers, wanted: set[bytes], tmp_path: Path
) -> None:
    data = tmp_path / "cloud"
    endpoints = {f"PHO_AWS__ENDPOINTS__{n.upper()}": at for n, at in servers.endpoints.items()}
    environment = {**os.environ, "PHO_AWS__ENDPOINT": servers.aws.endpoint, **endpoints}
    command = [
        sys.executable,
        "-c",
        "from serving.cli import main; main()",
        "demo-aws",
        "--visits",
        str(VISITS),
        "--no-compare",
        "--seed",
        str(SEED),
        "--data",
        str(data),
        "--json",
    ]
    statuses = []
    for crash in ("append:9", "commit.before:25", ""):
        done = subprocess.run(
            command,
            env={**environment, **({"PHO_CRASH_AT": crash} if crash else {})},
            check=False,
            capture_output=True,
            cwd=Path(__file__).parents[2],
            timeout=180,
        )
        statuses.append(done.returncode)
    assert statuses == [-signal.SIGKILL, -signal.SIGKILL, 0], done.stderr.decode()
    assert outcomes_in(data) == wanted
    told = json.loads(done.stdout)
    assert told["aws"]["good"], told
    assert told["pictures_left"] == 0
