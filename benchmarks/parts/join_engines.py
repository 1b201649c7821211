"""The engines that `benchmarks/join.py` compares: who runs each, in which environment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from connectors.jars import jar_folder
from connectors.java import java_command
from schemas.errors import PhoError

ROOT = Path(__file__).resolve().parents[2]
BYTEWAX = "bytewax==0.21.1"


@dataclass(frozen=True, slots=True)
class Engine:
    """One of those compared."""

    name: str
    """For a person to read."""
    module: str
    """The part that runs it."""
    environment: str
    """Folder of its Python."""
    make: str
    """How to make that."""
    durable: str
    """What of its work a crash leaves."""
    recovers: bool = False
    """Whether bytewax keeps its state on disk."""


_PLAIN = "make .venv/installed.stamp"
_PIP = "python3.11 -m venv {0} && {0}/bin/python -m pip install -c {1} -e {2}"
_BYTEWAX = _PIP.format(".venv-bytewax", "constraints.txt", f". {BYTEWAX}")
REFERENCE = Engine("embedded engine", "join_embedded", ".venv", _PLAIN, "all of it, on disk")
ENGINES = (
    REFERENCE,
    Engine("the operator alone", "join_operator", ".venv", _PLAIN, "nothing"),
    Engine("memory engine", "join_memory", ".venv", _PLAIN, "nothing"),
    Engine(
        "PyFlink local, on Kafka",
        "join_flink",
        ".venv-flink",
        _PIP.format(".venv-flink", "constraints-flink.txt", "'.[flink,kafka,vision]'"),
        "state, each second",
    ),
    Engine(
        "Beam, local runner",
        "join_beam",
        ".venv-beam",
        _PIP.format(".venv-beam", "constraints-beam.txt", "'.[beam,kafka]'"),
        "the result, at the end",
    ),
    Engine("bytewax", "join_bytewax", ".venv-bytewax", _BYTEWAX, "nothing"),
    Engine(
        "bytewax with recovery",
        "join_bytewax",
        ".venv-bytewax",
        _BYTEWAX,
        "state, each second",
        recovers=True,
    ),
)


def is_chosen(engine: Engine, only: list[str] | None) -> bool:
    """Return whether an engine is asked for; the reference always is."""
    return engine is REFERENCE or only is None or engine.module.removeprefix("join_") in only


def why_not(engine: Engine) -> str:
    """Return why an engine cannot be measured, and what to do; empty: it can."""
    if not python(engine).exists():
        return f"there is no {engine.environment}; make it: {engine.make}"
    if engine.module == "join_flink":
        if not java():
            return "there is no Java of 17 or newer; `make demo-flink` fetches one"
        try:
            jar_folder("kafka_broker")
            jar_folder("flink_kafka")
        except PhoError as error:
            return str(error)
    return ""


@cache
def java() -> str:
    """Return the command of a Java; empty: there is none."""
    return java_command() or ""


def python(engine: Engine) -> Path:
    """Return the Python of an engine."""
    return ROOT / engine.environment / "bin" / "python"
