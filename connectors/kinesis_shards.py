"""The shards of a stream as a family: a split or merge ends shards and begins others.

A record's key leads to one shard at a time. What a key wrote before a split lies in the parent,
what came after it in a child: whoever reads parents to their end before their children sees each
key's records in the order they were written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

TRIM_HORIZON = "TRIM_HORIZON"
"""A place: the oldest record that is still there."""
LATEST = "LATEST"
"""A place: behind the newest record."""
SHARD_END = "SHARD_END"
"""A place: the shard is closed and read to its end."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard."""

    shard_id: str
    """Its name, ``shardId-000000000003``."""
    parents: tuple[str, ...] = ()
    """The shards it came of: one of a split, two of a merge."""
    closed: bool = False
    """Whether nothing more is written to it."""

    @property
    def number(self) -> int:
        """The number in its name."""
        return shard_number(self.shard_id)


def shard_number(shard_id: str) -> int:
    """Return the number in a shard's name."""
    digits = shard_id.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


class ShardTree:
    """Says which shards may be read now, and from where.

    Parameters
    ----------
    places : mapping of str
        Where to go on, by shard: a sequence number, `TRIM_HORIZON` or `SHARD_END`; shards without
        one are read from their beginning, when their parents are done.
    """

    def __init__(self, places: Mapping[str, str] | None = None) -> None:
        self.places: dict[str, str] = dict(places or {})
        """Where each shard was read to."""
        self._shards: dict[str, Shard] = {}

    def learn(self, shards: Iterable[Shard], *, all_of_them: bool = False) -> None:
        """Take note of shards.

        Parameters
        ----------
        shards : iterable of Shard
            What was heard of.
        all_of_them : bool
            True: these are all there are; others were trimmed with all they held, and are
            forgotten.
        """
        heard = {shard.shard_id: shard for shard in shards}
        if all_of_them:
            # A child of a split may be heard of before it is listed: what is not done stays.
            self._shards = {
                name: shard
                for name, shard in self._shards.items()
                if self.places.get(name) != SHARD_END
            } | heard
            self.places = {
                name: at for name, at in self.places.items() if name in heard or at != SHARD_END
            }
        else:
            self._shards.update(heard)

    def end(self, shard_id: str) -> None:
        """Take note that a shard was read to its end."""
        self.places[shard_id] = SHARD_END

    @property
    def known(self) -> Mapping[str, Shard]:
        """Every shard that was heard of."""
        return self._shards

    def readable(self) -> dict[str, str]:
        """Return the shards to read now, each with the place to go on from.

        Those that are not done and whose parents are; a parent that nobody lists any more was
        trimmed, and counts as done.
        """
        return {
            name: self.places.get(name, TRIM_HORIZON)
            for name, shard in self._shards.items()
            if self.places.get(name) != SHARD_END and all(map(self._is_done, shard.parents))
        }

    def _is_done(self, shard_id: str) -> bool:
        return shard_id not in self._shards or self.places.get(shard_id) == SHARD_END
