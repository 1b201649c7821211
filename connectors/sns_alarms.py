"""Alarms to an SNS topic: what the watchers found, and records that could not be handled.

Each alarm goes once, dead letters of a kind once an hour. How far the log was read is a bookmark in
the log itself, set after every message. Killed between the two, that one message is sent again,
with the same `alarm_id`; a FIFO topic drops the repeat by itself (for five minutes), subscribers of
a standard topic by that id.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from connectors.aws_errors import call
from connectors.letter_hours import KIND, Gathered, LetterHours
from connectors.logs import Log, Row
from schemas.codec import decode
from schemas.errors import RecordError
from schemas.operations import AlarmRaised
from schemas.streams import DEAD_LETTERS

BOOKMARK = "sns"
STREAMS = ("alarms", DEAD_LETTERS)
MESSAGE_MAX_BYTES = 262_144
"""Text and attributes of one message (Amazon SNS quotas); above it `Publish` is refused."""
SUBJECT_MAX = 100
"""Characters of a subject, ASCII without line ends (API reference of `Publish`)."""
_ATTRIBUTES_MAX_BYTES = 1_024
_ERROR_MAX = 500
_GROUP = "alarms"


@dataclass(frozen=True, slots=True)
class Notice:
    """One message: an alarm, or dead letters of one kind that came together."""

    alarm_id: str
    """Id of the alarm; a repeat of it is the same alarm."""
    kind: str
    """What it is about: ``reward_fell``, ``dead_letters`` …"""
    loop_id: str
    """The loop; empty: of none."""
    body: dict[str, Any]
    """What the message says, as one JSON document."""

    @property
    def subject(self) -> str:
        """What stands over an e-mail."""
        about = f" in loop {self.loop_id}" if self.loop_id else ""
        text = f"PHO: {self.kind.replace('_', ' ')}{about}"
        return "".join(c if " " <= c <= "~" else "?" for c in text)[:SUBJECT_MAX]

    def message(self) -> str:
        """Return the text, cut to its head where it would be too long for the service."""
        text = json.dumps(self.body, ensure_ascii=False, sort_keys=True)
        if len(text.encode()) <= MESSAGE_MAX_BYTES - _ATTRIBUTES_MAX_BYTES:
            return text
        names = ("alarm_id", "kind", "loop_id", "detector", "raised_at_ms", "count", "stream")
        head = {name: self.body[name] for name in names if name in self.body}
        return json.dumps({**head, "cut": True}, ensure_ascii=False, sort_keys=True)


def alarm_notice(row: Row) -> Notice | None:
    """Return what a row of `alarms` says; None: bytes that are no alarm, which nobody can read."""
    value = _decoded(row)
    if not isinstance(value, AlarmRaised):
        return None
    body = {
        "alarm_id": value.alarm_id,
        "kind": value.kind,
        "loop_id": value.loop_id,
        "detector": value.detector,
        "raised_at_ms": value.raised_at_ms,
        "numbers": {each.name: each.value for each in value.numbers},
    }
    return Notice(value.alarm_id, value.kind, value.loop_id, body)


def letters_notice(gathered: Gathered) -> Notice:
    """Return what is said of dead letters of one stream and reason."""
    first = gathered.first
    body = {
        "alarm_id": gathered.alarm_id,
        "kind": KIND,
        "stream": first.stream,
        "reason": first.reason,
        "count": gathered.count,
        "hour_before": gathered.before,
        "first": {
            "partition": first.partition,
            "offset": first.offset,
            "error": first.error[:_ERROR_MAX],
        },
        "raised_at_ms": gathered.row.log_time_ms,
    }
    return Notice(gathered.alarm_id, KIND, "", body)


class SnsAlarms:
    """Sends a log's alarms to a topic.

    Parameters
    ----------
    log : Log
        The log; keeps the bookmark.
    client : boto3 client of SNS
        Made by `connectors.aws_clients`.
    topic_arn : str
        The topic; one whose name ends in ``.fifo`` gets a deduplication id with each message.
    told : callable
        Told each message after the service took it.
    """

    def __init__(
        self,
        log: Log,
        client: Any,
        topic_arn: str,
        told: Callable[[Notice], None] = lambda _notice: None,
    ) -> None:
        self.log = log
        self.told = told
        self._client = client
        self._topic_arn = topic_arn
        self._places = log.bookmark(BOOKMARK)
        self._letters = LetterHours()
        self._looked_back = False

    def run_once(self) -> int:
        """Send what was not sent yet; return how many messages.

        Raises
        ------
        CloudError
            The service did not take one; nothing behind it was sent, the next run goes on there.
        """
        return self.send(self.log.scan(*STREAMS))

    def send(self, rows: Iterable[Row]) -> int:
        """Send what some rows tell, but for those sent before; return how many messages."""
        count = 0
        letters = []
        # A copy: where the service takes one message and not the next, all are looked at again.
        hours = copy.deepcopy(self._letters)
        for row in rows:
            is_new = row.position >= self._places.get((row.stream, row.partition), 0)
            if row.stream == DEAD_LETTERS:
                if is_new or not self._looked_back:
                    hours.take(row, new=is_new)
                    letters.append(row)
                continue
            if not is_new:
                continue
            notice = alarm_notice(row) if row.stream == "alarms" else None
            # Of dead letters the letters themselves tell more than the watcher's alarm.
            if notice is not None and notice.kind != KIND:
                self._publish(notice)
                count += 1
            # One message, one bookmark: alarms are few, and a kill then repeats one at most.
            self._note([row])
        for gathered in hours.gathered():
            self._publish(letters_notice(gathered))
            count += 1
        self._note(letters)
        self._letters, self._looked_back = hours, True
        return count

    def _note(self, rows: list[Row]) -> None:
        for row in rows:
            place = (row.stream, row.partition)
            self._places[place] = max(self._places.get(place, 0), row.position + 1)
        if rows:
            self.log.set_bookmark(BOOKMARK, self._places)

    def _publish(self, notice: Notice) -> None:
        request: dict[str, Any] = {
            "TopicArn": self._topic_arn,
            "Subject": notice.subject,
            "Message": notice.message(),
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": text}
                for name, text in (
                    ("alarm_id", notice.alarm_id),
                    ("kind", notice.kind),
                    ("loop_id", notice.loop_id),
                )
                if text
            },
        }
        if self._topic_arn.endswith(".fifo"):
            # Ids of ours may be longer than the 128 characters that the service takes.
            digest = blake2b(notice.alarm_id.encode(), digest_size=16).hexdigest()
            request |= {"MessageGroupId": _GROUP, "MessageDeduplicationId": digest}
        call(self._client, "sns", "Publish", self._topic_arn, **request)
        self.told(notice)


def _decoded(row: Row) -> Any:
    try:
        return decode(row.value)
    except RecordError:
        return None
