"""Golden records: one of every kind with every field told, laid down when a schema is released.

Run from the repository root, ``python tests/support/golden_records.py`` writes the files of
released schemas that have none yet. It never writes a file again: what a release wrote stays what
every later release must read.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "records"
ROOT = Path(__file__).resolve().parents[2]


def golden_path(name: str, version: int) -> Path:
    """Return where the bytes of a golden record lie, as hexadecimal text; its JSON lies beside."""
    return GOLDEN / f"v{version}" / f"{name}.avro-single-object.hex"


def as_json(record: Any) -> Any:
    """Return a record as JSON values; bytes in base64."""
    return json.loads(msgspec.json.encode(record))


def example(kind: type[Any]) -> Any:
    """Return a record with every field told, and each number and text its own."""
    return _value(kind.__name__, kind, [0])


def _value(name: str, hint: Any, count: list[int]) -> Any:
    count[0] += 1
    number = count[0]
    origin = get_origin(hint)
    if origin in (types.UnionType, Union):
        return _value(name, next(p for p in get_args(hint) if p is not type(None)), count)
    if origin is Literal:
        return get_args(hint)[-1]
    if origin is tuple:
        return tuple(_value(name, get_args(hint)[0], count) for _ in range(2))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _record(hint, count)
    plain = {
        str: f"{name}-{number}" if name.endswith("id") else f"{name} {number} äöü €",
        int: -number if name.endswith(("offset_minutes", "offset_ms", "seed")) else number,
        float: number / 1024.0,
        bool: True,
        bytes: bytes([number % 256, 0, 255]),
    }
    return plain[hint]


def _record(kind: type[Any], count: list[int]) -> Any:
    hints = get_type_hints(kind)
    told = {f.name: _value(f.name, hints[f.name], count) for f in dataclasses.fields(kind)}
    related = _RELATED.get(kind.__name__)
    if related is not None:
        told |= related(told)
    return kind(**told)


def _rules(told: dict[str, Any]) -> dict[str, Any]:
    return {
        "reward_window_ms": 30_000,
        "reaction_delay_ms": 700,
        "reward_low": -1.5,
        "reward_high": 2.5,
        "default_reward": 0.125,
        "dedup_horizon_ms": 600_000,
    }


def _choice(told: dict[str, Any]) -> dict[str, Any]:
    first, second = told["actions"]
    first = dataclasses.replace(first, probability_ppb=999_999_999)
    second = dataclasses.replace(second, probability_ppb=1)
    return {"actions": (first, second), "action_id": second.id, "propensity_ppb": 1}


def _loop(told: dict[str, Any]) -> dict[str, Any]:
    policies = tuple(dataclasses.replace(p, role="serving") for p in told["policies"])
    shares = (999_999_999, 1)
    split = tuple(
        dataclasses.replace(variant, share_ppb=share)
        for variant, share in zip(told["split"], shares, strict=True)
    )
    return {"baseline_id": told["actions"][0].id, "policies": policies, "split": split}


_RELATED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "RewardRules": _rules,
    "Choice": _choice,
    "LoopConfigured": _loop,
    "FrameCaptured": lambda _told: {"picture_id": None},
    "NamedArray": lambda _told: {"shape": (2, 1), "data": bytes(range(16))},
}


def main() -> None:
    """Write what is not there yet."""
    sys.path.insert(0, str(ROOT))
    from schemas.codec import current, encode
    from schemas.streams import RECORDS

    for name, kind in sorted(RECORDS.items()):
        path = golden_path(name, current(name).version)
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        record = example(kind)
        path.write_text(encode(record).hex() + "\n")
        text = json.dumps(as_json(record), indent=2, ensure_ascii=False, sort_keys=True)
        path.with_name(f"{name}.json").write_text(text + "\n", encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
