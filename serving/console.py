"""What every command shares: where it prints, its errors, its exit status."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from connectors.embedded_log import FILE_NAME, EmbeddedLog
from schemas.errors import ResourceError, UsageError
from serving.settings import Settings

out = Console()
err = Console(stderr=True)

Data = Annotated[
    Path | None, typer.Option("--data", help="Folder of the log.", show_default="pho-data")
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


def open_existing(settings: Settings) -> EmbeddedLog:
    """Open the log of a folder that must have one.

    Raises
    ------
    UsageError
        When the folder holds no log: looking must not make one.
    """
    if not (settings.data / FILE_NAME).exists():
        problem = f"{settings.data} holds no log"
        raise UsageError(problem, "Name its folder with --data, or make one: pho demo --data DIR")
    return EmbeddedLog(settings.data, synchronous=settings.log.synchronous)
