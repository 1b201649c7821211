"""What every command shares: where it prints, its errors, its exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from schemas.errors import ResourceError

Progressed = Callable[[int, int], None]
"""Told how many of how many are done."""

out = Console()
err = Console(stderr=True)

Data = Annotated[
    Path | None, typer.Option("--data", help="Folder of log and pictures.", show_default="pho-data")
]
LogAddress = Annotated[
    str | None,
    typer.Option(
        "--log",
        help="A log on Kafka or Kinesis: kafka://HOST:PORT/PREFIX, kinesis://REGION/PREFIX.",
        show_default="in the folder",
    ),
]
Config = Annotated[Path | None, typer.Option("--config", help="Settings file instead of pho.toml.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")
]


VISION_CURE = "Install the extra: pip install 'pho[vision]'"


def vision_is_installed() -> bool:
    """Whether cameras and the local analyser can be used: the core goes without them."""
    return all(find_spec(name) is not None for name in ("cv2", "ai_edge_litert"))


def require_vision() -> None:
    """Refuse a command that needs cameras or models where they are not installed.

    Raises
    ------
    ResourceError
        Names the extra to install.
    """
    if not vision_is_installed():
        problem = "this command needs cameras and models, which are not installed"
        raise ResourceError(problem, VISION_CURE)


def as_flag(path: Path | None) -> str | None:
    """Return a path as a flag's value for `serving.settings.load`; None: not given."""
    return None if path is None else str(path)


def print_json(document: Any) -> None:
    """Print one JSON document, and nothing else."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")


@contextmanager
def bar(what: str, *, quiet: bool) -> Iterator[Progressed]:
    """Show a progress bar on standard error, and give what moves it."""
    columns = (TextColumn(f"[bold]{what}[/]"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=err, disable=quiet) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
