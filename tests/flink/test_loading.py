"""What a job brought with it may go: a worker's one Python has read by then all that it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engines.flink.submitting import build_wheel

_PROGRAM = """
import sys
from pathlib import Path

wheel = Path(sys.argv[1])
sys.path.insert(0, str(wheel))
from engines.flink.loading import load
from engines.flink.settings import JobSettings

load(JobSettings("127.0.0.1:1"))
wheel.unlink()

from engines.flink.metrics import OPERATORS
from engines.one_key import OneKey, part_named
from schemas.codec import decode, encode, released
from schemas.operations import Tick

assert str(wheel) in sys.modules["schemas"].__file__
assert decode(encode(Tick(1, "ticker"))) == Tick(1, "ticker")
for name in OPERATORS:
    if name != "analyze":
        OneKey(part_named(name), ())
"""


def test_a_worker_needs_nothing_of_a_job_that_has_ended(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    command = [sys.executable, "-P", "-c", _PROGRAM, str(wheel)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
