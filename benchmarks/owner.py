"""How fast the owner's page reads a log, and what it keeps, beside only decoding the same records.

Run ``.venv/bin/python benchmarks/owner.py`` from the repository; ``--visits 100000`` takes some
minutes. A few thousand visits are simulated through the real loop and then multiplied: the same
records under other ids, at the same log times. So a hundred thousand have the sizes and the ways to
end of the real ones, but their days are one.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a clone, not installed

from connectors.logs import Log, Row
from schemas.codec import decode
from serving.gateway.owner_board import OwnerBoard
from serving.gateway.owner_fold import FOLDED, OwnerFold
from serving.gateway.owner_summary import summary
from serving.settings import load
from serving.simulating import Plan, Simulation

SOURCE_VISITS = 1_000
SEED = 1
_ID = b"visit-%d-"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visits", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = _simulated(Path(folder))
    copies = max(1, options.visits // SOURCE_VISITS)
    found = _measure(rows, copies)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{found['visits']:,} visits, {found['records']:,} records")
    print(f"the owner's fold   {found['fold_records_s']:>9,.0f} records/s of processor time")
    rate = f"{found['decode_records_s']:>9,.0f}"
    print(f"decoding alone     {rate} records/s, {found['ratio']:.2f} times as fast")
    print(f"kept               {found['kept_bytes_a_visit']:>9,.0f} bytes a visit")
    print(f"one page           {found['summary_ms']:>9,.1f} ms")
    return 0


def _simulated(folder: Path) -> list[Row]:
    settings = load(None, {"data": str(folder), "loops.greeting.control_share": 0.15}, {})
    config_hash = settings.loop("greeting").config_hash
    played = Simulation(settings, Plan(SOURCE_VISITS, SEED, None, 20, config_hash))
    with closing(played.log):
        played.run(lambda _done, _all: None)
        return list(played.log.scan(*FOLDED))


def _copies(rows: list[Row], copies: int) -> Iterator[Row]:
    """Yield the records again and again; an id keeps its length, so that its bytes stay Avro."""
    own = _ID % SEED
    position = 0
    for number in range(copies):
        # visit-1-0000007 becomes visit-1-00a0007: more than 36 ** 3 copies nobody asks for.
        mark = f"{_base36(number):0>3}".encode()
        for row in rows:
            position += 1
            value = row.value.replace(own + b"000", own + mark) if number else row.value
            yield row._replace(position=position, value=value)


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = digits[digit] + text
    return text


def _measure(rows: list[Row], copies: int) -> dict[str, float]:
    board = OwnerBoard(_nothing)
    for row in rows:  # compiles the codecs
        board.fold.take(row)
    fold = board.fold = OwnerFold()
    started_s = time.process_time()
    half, half_bytes = len(rows) * copies // 2, 0
    for number, row in enumerate(_copies(rows, copies)):
        fold.take(row)
        if number == half:  # by then what is bound, such as the list of decisions, is full
            half_bytes = _resident_bytes()
    fold_s = time.process_time() - started_s
    kept = (_resident_bytes() - half_bytes) / (SOURCE_VISITS * copies / 2)
    started_s = time.process_time()
    for row in _copies(rows, copies):
        decode(row.value)
    decode_s = time.process_time() - started_s
    started_s = time.process_time()
    page = summary(board, "greeting", 0)
    summary_s = time.process_time() - started_s
    assert page.visits == page.judged == copies * SOURCE_VISITS  # noqa: S101 - a wrong measure
    records = fold.records
    return {
        "visits": page.visits,
        "records": records,
        "fold_records_s": records / fold_s,
        "decode_records_s": records / decode_s,
        "ratio": fold_s / decode_s,
        "kept_bytes_a_visit": kept,
        "summary_ms": 1_000 * summary_s,
    }


def _resident_bytes() -> int:
    """Return the memory of this process that is in use."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _nothing() -> Log:
    raise AssertionError


if __name__ == "__main__":
    sys.exit(main())
