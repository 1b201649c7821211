"""The engines under test, and the gaps of each: written down, run all the same, and strict.

``notimpl``: the engine cannot do it and nobody has tried. ``notyet``: what it stands on cannot.
``never``: it is not what the engine is for. Each names engines and a reason; a gap that closes
fails the suite until its mark goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.operators import Dataflow
from runs import EmbeddedRun, MemoryRun, Run

ENGINES: dict[str, Callable[[Dataflow, Path], Run]] = {
    "memory": MemoryRun,
    "embedded": EmbeddedRun,
}
GAPS = {
    "notimpl": "the engine does not do it",
    "notyet": "what the engine stands on does not do it yet",
    "never": "it is not what the engine is for",
}

Start = Callable[[Dataflow], Run]


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in GAPS.items():
        config.addinivalue_line("markers", f"{name}(*engines, reason): {meaning}")


@pytest.fixture(params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    """Name each engine; a marked gap of it becomes a strict expected failure."""
    name = str(request.param)
    for gap in GAPS:
        for mark in request.node.iter_markers(gap):
            if name in mark.args:
                reason = f"{gap}: {mark.kwargs['reason']}"
                request.node.add_marker(pytest.mark.xfail(reason=reason, strict=True))
    return name


@pytest.fixture
def start(engine_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Return a function that starts the engine on a dataflow, with a log of its own."""
    runs = []

    def begin(flow: Dataflow) -> Run:
        run = ENGINES[engine_name](flow, tmp_path_factory.mktemp("log"))
        runs.append(run)
        return run

    yield begin
    for run in runs:
        run.close()
