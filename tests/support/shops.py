"""A loop whose policies are directed while visitors come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.topology import greeting_loop
from policies.base import checksum_of
from policies.registry import prior
from runs import EmbeddedRun
from schemas.codec import decode
from schemas.loops import PolicyConfigured
from schemas.operations import Tick
from schemas.outcomes import PolicyDirected
from visits import VISIT_EVERY_MS
from worlds import START_MS, captured, ended, loop, shown

POLICIES = (
    PolicyConfigured("main", "thompson"),
    PolicyConfigured("calm", "epsilon_greedy", "shadow"),
    PolicyConfigured("even", "uniform", "shadow"),
)


class Shop:
    """A loop with policies in shadow, and directives for it."""

    def __init__(self, folder: Path) -> None:
        self.run = EmbeddedRun(greeting_loop(), folder)
        self.at_ms = START_MS
        self.visits = 0
        self.config = loop(policies=POLICIES)
        for stream in ("outcomes", "loops"):
            self.add(stream, self.config)

    def add(self, stream: str, value: Any, after_ms: int = 1) -> None:
        """Append a record, and let the engine come to rest."""
        self.at_ms += after_ms
        self.run.set_time(self.at_ms)
        self.run.append(stream, value)
        self.run.settle()

    def visit(self, count: int) -> None:
        """Let visitors come: each is greeted, looks pleased or not, and goes."""
        for _ in range(count):
            self.visits += 1
            name = f"v{self.visits}"
            self.add("frames", captured(name, "pre", 0, self.at_ms, 0.1), VISIT_EVERY_MS)
            (decision,) = [
                decode(data) for key, _, data in self.run.out("decisions") if key == name
            ]
            action_id = decision.choice.action_id
            self.add("impressions", shown(name, action_id, self.at_ms), 100)
            happy = 0.9 if action_id == "a1" else 0.3
            self.add("frames", captured(name, "post", 1, self.at_ms + 1_000, happy), 1_000)
            self.add("visits", ended(name, self.at_ms, 1), 500)

    def direct(self, kind: Any, policy_id: str = "main", **told: Any) -> None:
        """Give a directive."""
        number = len(self.run.out("outcomes"))
        directive = PolicyDirected(
            f"{kind}-{number}", "greeting", policy_id, kind, "test", "a test", **told
        )
        self.add("outcomes", directive)

    def start_anew(self, kind: Any, epoch: int) -> None:
        """Start another epoch of `main` from the arrays of its prior."""
        policy = prior(self.config)
        self.direct(
            kind,
            new_epoch=epoch,
            base_epoch=0,
            base_version=0,
            arrays=policy.snapshot_arrays(),
            snapshot_checksum=checksum_of(policy),
            learn_from_log_time_ms=self.at_ms,
        )

    def close(self) -> None:
        """Let all windows close, and leave."""
        for _ in range(15):
            self.add("ticks", Tick(self.at_ms, "test"), 5_000)
        self.run.close()
