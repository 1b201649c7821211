"""The broadcast streams: the newest record of each key, for every operator to look at."""

from __future__ import annotations

from typing import Any

from pipelines.operators import Broadcast, Record
from schemas.streams import STREAMS


class SharedStreams:
    """What the broadcast streams say now.

    Parameters
    ----------
    broadcasts : tuple of Broadcast
        The streams.
    """

    def __init__(self, broadcasts: tuple[Broadcast, ...]) -> None:
        self._broadcasts = {broadcast.stream: broadcast for broadcast in broadcasts}
        self._newest_of_key: dict[tuple[str, str], int] = {}
        self.view: dict[str, dict[str, Any]] = {name: {} for name in self._broadcasts}
        """Stream name, then key, to the newest record; operators only read it."""
        self.superseded: list[int] = []
        """Places of records that a newer one of their key replaced: they may go once the newer
        one counts as read, or a restart between the two would find neither."""
        self.changed = False
        """Whether anything was taken since this was set to False."""

    @property
    def streams(self) -> frozenset[str]:
        """Their names."""
        return frozenset(self._broadcasts)

    def take(self, record: Record) -> None:
        """Take a record of one of the streams."""
        broadcast = self._broadcasts[record.stream]
        known, key = self.view[record.stream], broadcast.key(record.value)
        self.changed = True
        if key not in known or broadcast.newer(known[key], record.value):
            known[key] = record.value
        if STREAMS[record.stream].compacted:
            place = (record.stream, record.key)
            before = self._newest_of_key.get(place)
            if before is not None and before != record.offset:
                self.superseded.append(before)
            self._newest_of_key[place] = record.offset
