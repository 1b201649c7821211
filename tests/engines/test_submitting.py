"""Handing jobs to Flink: what is shipped, where a job goes on from, and errors that name a cure."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from connectors.kafka_address import KafkaSecurity
from engines.flink import submitting
from engines.flink.local_cluster import flink_home
from engines.flink.rest import FlinkRest
from engines.flink.settings import JobSettings, read_settings, write_settings
from engines.flink.submitting import Submission, build_wheel, newest_checkpoint, submit
from schemas.errors import ResourceError, UsageError


def test_the_wheel_is_what_a_worker_imports(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "engines/flink/functions.py" in names
    assert not [name for name in names if name.startswith(("serving/", "tests/"))]
    code = (
        f"import sys; sys.path[:0] = [{str(wheel)!r}]; "
        "import engines.one_key, schemas.codec; "
        "print(engines.one_key.__file__, len(schemas.codec.released()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    file, count = done.stdout.split()
    assert file.startswith(str(wheel))
    assert int(count) > 10


def test_the_same_packages_give_the_same_wheel(tmp_path: Path) -> None:
    first = build_wheel(tmp_path).read_bytes()
    assert build_wheel(tmp_path).read_bytes() == first


def test_settings_come_back_and_only_their_owner_may_read_them(tmp_path: Path) -> None:
    security = KafkaSecurity("SASL_PLAINTEXT", "PLAIN", "shop", "secret")
    settings = JobSettings("127.0.0.1:9092", "shop", security, parallelism=3)
    path = tmp_path / "job.json"
    write_settings(settings, path)
    assert read_settings(path) == settings
    assert path.stat().st_mode & 0o077 == 0


def test_a_job_goes_on_from_its_newest_checkpoint(tmp_path: Path) -> None:
    base = tmp_path.as_uri()
    assert newest_checkpoint(base, "loop", "shop") is None
    for age, place in enumerate(("b/chk-9", "a/chk-12", "c/chk-1", "d/chk-30")):
        folder = tmp_path / "shop-loop" / place
        folder.mkdir(parents=True)
        (folder / "_metadata").write_bytes(b"state" if age < 3 else b"")
        os.utime(folder / "_metadata", (1_000 + age, 1_000 + age))
    # The newest of all is empty: the JobManager was killed while it wrote it.
    found = newest_checkpoint(base, "loop", "shop")
    assert found == (tmp_path / "shop-loop" / "c" / "chk-1").as_uri()
    assert newest_checkpoint(base, "analyze", "shop") is None


def test_checkpoints_elsewhere_cannot_be_looked_for() -> None:
    with pytest.raises(UsageError, match="cannot be listed") as refused:
        newest_checkpoint("s3://bucket/checkpoints", "loop", "shop")
    assert "--from-savepoint" in refused.value.cure


@pytest.mark.parametrize(
    ("told", "cure"),
    [
        ("ModuleNotFoundError: No module named 'find_libpython'", "--python"),
        ("ModuleNotFoundError: No module named 'engines'", "wheel"),
        ("ModuleNotFoundError: No module named 'msgspec'", "pip install"),
        ("java.lang.NoClassDefFoundError: pho/LogRecords", "jar"),
        ("RuntimeError: Python versions differ: driver 3.12 is different from worker", "3.11"),
        ("Caused by: NoResourceAvailableException: Could not acquire slots", "--parallelism"),
        ("UnknownTopicOrPartitionException: This server does not host this topic", "topics create"),
        ("FileNotFoundError in zipimport of /x/pho.whl, see pemja", "TaskManagers"),
        ("something nobody has seen", "--debug"),
    ],
)
def test_an_error_names_its_cure(told: str, cure: str) -> None:
    error = submitting._explained("loop", f"org.apache.flink.Something\n{told}\n  at java.lang")
    assert cure in error.cure
    assert "the job loop does not start" in error.problem


def test_a_cluster_that_is_not_there_is_told_before_anything_is_done(tmp_path: Path) -> None:
    gone = Submission("loop", JobSettings("127.0.0.1:1"), "127.0.0.1:1")
    with pytest.raises(ResourceError, match=r"no Flink answers at http://127\.0\.0\.1:1"):
        submit(gone, tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ResourceError, match="no Flink answers"):
        FlinkRest("http://127.0.0.1:1").jobs()


def test_where_pyflink_is_missing_the_extra_is_named() -> None:
    with pytest.raises(ResourceError, match="PyFlink is not installed") as refused:
        flink_home()
    assert "pho[flink]" in refused.value.cure
