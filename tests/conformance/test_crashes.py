"""The embedded engine ended at every step of its commit: afterwards nobody can tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.topology import greeting_loop
from runs import EmbeddedRun, MemoryRun, everything
from visits import play

VISITS = 14


class Crash(BaseException):
    """The end of the process, which no code of ours may catch."""


class CrashingRun(EmbeddedRun):
    """An engine that ends at every third step of one name, and is started again."""

    def __init__(self, folder: Path, step: str) -> None:
        self.step = step
        self.armed = False
        self.steps_taken = 0
        super().__init__(greeting_loop(), folder, self._step)

    def _step(self, name: str) -> None:
        if self.armed and name == self.step:
            self.steps_taken += 1
            if self.steps_taken % 3 == 0:
                raise Crash

    def settle(self) -> None:
        while True:
            self.armed = True
            try:
                super().settle()
            except Crash:
                self.armed = False
                self.restart()
            else:
                return
            finally:
                self.armed = False


@pytest.fixture(scope="module")
def undisturbed() -> MemoryRun:
    run = MemoryRun(greeting_loop(), Path())
    play(run, VISITS)
    return run


@pytest.mark.parametrize(
    "step",
    [
        "commit.begin",
        "commit.outputs",
        "commit.changes",
        "commit.places",
        "commit.before",
        "commit.after",
        "append",
    ],
)
def test_an_engine_that_ends_inside_a_commit_gives_the_same(
    step: str, undisturbed: MemoryRun, tmp_path: Path
) -> None:
    run = CrashingRun(tmp_path, step)
    play(run, VISITS)
    given, remembered = everything(run), run.remembered
    run.close()
    assert run.steps_taken > 30
    assert given == everything(undisturbed)
    assert remembered == undisturbed.remembered
