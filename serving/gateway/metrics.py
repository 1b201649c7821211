"""What the gateway counts, for Prometheus; docs/metrics.md says the same, and a test compares.

Counters start at 0 with the gateway. No metric has a label for a visitor, and none for a kiosk
but how many there are: a label that anybody outside can choose grows without end.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serving.gateway.doors import REASONS

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""What /metrics is, for its header."""

PHASES = ("pre", "post")
STATUSES = ("ok", "no_face", "failed", "expired", "refused")
MODES = ("online", "apprentice", "logging", "fallback")
RESULTS = ("rewarded", "defaulted", "dropped", "not_activated")
SIDES = ("late", "unmatched", "dead-letters")
MESSAGE_REASONS = {
    "not_json": "text that is no JSON, or bytes without a header",
    "unknown": "a type that the protocol has not",
    "invalid": "a value outside its range, a field missing",
    "too_large": "a picture or message above its limit",
    "picture": "a picture that cannot be read",
    "order": "not now: before hello, or twice",
    "too_many": "faster than it was asked for",
}
"""Why a kiosk's message is refused; what is none of these counts as ``invalid``."""

# A greeting within a second is what a shop was promised: fine steps around it.
_GREETING_S = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.6, 2.0, 3.0, 5.0, 10.0)
# An append is 4 us to 30 ms (an fsync on a slow disk), and 10 s where another holds the lock.
_APPEND_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The gateway's metrics, in a registry of their own: two gateways in one process do not meet.

    Every method may be called from any thread.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._at_the_doors()
        self._of_kiosks()
        self._of_the_log()
        # Known labels stand at 0 from the start: `increase` does not see a counter being born.
        for counter, names in (
            (self._refused, REASONS),
            (self._messages, MESSAGE_REASONS),
            (self._taken, PHASES),
            (self._decisions, MODES),
            (self._outcomes, RESULTS),
            (self._sides, SIDES),
        ):
            for name in names:
                counter.labels(name)
        for phase in PHASES:
            for status in STATUSES:
                self._answered.labels(phase, status)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"pho_gateway_{name}", what, labels, registry=self.registry)

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"pho_gateway_{name}", what, labels, registry=self.registry)

    def _histogram(self, name: str, what: str, steps: tuple[float, ...]) -> Histogram:
        return Histogram(f"pho_gateway_{name}", what, buckets=steps, registry=self.registry)

    def _at_the_doors(self) -> None:
        self._refused = self._counter(
            "refused_requests", "Requests and sockets that the doors refused", "reason"
        )
        self._tickets = self._counter("tickets", "Tickets given for sockets", "scope")
        for scope in ("kiosk", "owner"):
            self._tickets.labels(scope)

    def _of_kiosks(self) -> None:
        self._sockets = self._gauge("kiosk_sockets", "Sockets of kiosks that are open now")
        self._shots = self._counter("shots", "Pictures and looks that kiosks sent")
        self._messages = self._counter(
            "refused_messages", "Messages of kiosks that were refused", "reason"
        )
        self._taken = self._counter("frames", "Frames that went into the log", "phase")
        self._greetings = self._counter("greetings", "Greetings sent to a kiosk's page")
        self._shown = self._counter("greetings_shown", "Greetings that a page reported as shown")
        self._greeting_s = self._histogram(
            "greeting_seconds",
            "From the picture that decided to its greeting on the way to the page",
            _GREETING_S,
        )

    def _of_the_log(self) -> None:
        self._append_s = self._histogram(
            "append_seconds", "How long an append to the log took", _APPEND_S
        )
        self._append_failed = self._counter(
            "appends_failed", "Appends to the log that failed; nothing was written"
        )
        self._answered = self._counter(
            "frames_answered", "Frames that the analysis answered", "phase", "status"
        )
        self._decisions = self._counter("decisions", "Decisions in the log", "mode")
        self._outcomes = self._counter("outcomes", "Outcomes in the log", "result")
        self._sides = self._counter("side_records", "Records in side outputs", "stream")
        self._unanswered = self._gauge(
            "unanswered_frames", "Frames of the last minute that the analysis has not answered"
        )
        self._lag_s = self._gauge(
            "job_lag_seconds", "Age of the oldest frame without an answer; 0: all are answered"
        )
        self._log_answers = self._gauge("log_answers", "1: the log can be read; 0: it cannot")

    # Told by the doors

    def request_refused(self, reason: str) -> None:
        """Count a request or socket that the doors refused; `reason` is one of `REASONS`."""
        self._refused.labels(reason if reason in REASONS else "scope").inc()

    def ticket_given(self, scope: str) -> None:
        """Count a ticket of scope ``kiosk`` or ``owner``."""
        self._tickets.labels(scope).inc()

    # Told by the kiosk's socket

    def socket_opened(self) -> None:
        """Count a kiosk's socket that was accepted."""
        self._sockets.inc()

    def socket_closed(self) -> None:
        """Count one that is gone; call it once for each that was opened."""
        self._sockets.dec()

    def shot_seen(self) -> None:
        """Count a picture, or the numbers of one, that a kiosk sent."""
        self._shots.inc()

    def message_refused(self, reason: str) -> None:
        """Count a kiosk's message that was refused; `reason` is one of `MESSAGE_REASONS`."""
        self._messages.labels(reason if reason in MESSAGE_REASONS else "invalid").inc()

    def frame_taken(self, phase: str) -> None:
        """Count a frame that went into the log; `phase` is ``pre`` or ``post``."""
        self._taken.labels(phase if phase in PHASES else "post").inc()

    def greeting_sent(self, seconds: float | None) -> None:
        """Count a greeting that was sent to its page.

        Parameters
        ----------
        seconds : float or None
            Since the picture that decided was taken, by the gateway's clock; None: not known,
            since the gateway was started in between.
        """
        self._greetings.inc()
        if seconds is not None:
            self._greeting_s.observe(max(0.0, seconds))

    def greeting_shown(self) -> None:
        """Count a greeting that a page reported as shown, once for each decision."""
        self._shown.inc()

    # Told by whoever writes and reads the log

    def appended(self, seconds: float) -> None:
        """Note how long an append took that was durable."""
        self._append_s.observe(seconds)

    def append_failed(self) -> None:
        """Count an append that failed."""
        self._append_failed.inc()

    def frame_answered(self, phase: str, status: str) -> None:
        """Count an analysis in the log."""
        if phase in PHASES and status in STATUSES:
            self._answered.labels(phase, status).inc()

    def decided(self, mode: str) -> None:
        """Count a decision in the log, by its mode."""
        if mode in MODES:
            self._decisions.labels(mode).inc()

    def closed(self, result: str) -> None:
        """Count an outcome in the log, by its result."""
        if result in RESULTS:
            self._outcomes.labels(result).inc()

    def put_aside(self, stream: str) -> None:
        """Count a record in ``late``, ``unmatched`` or ``dead-letters``."""
        if stream in SIDES:
            self._sides.labels(stream).inc()

    def waiting(self, frames: int, oldest_s: float) -> None:
        """Set how many frames wait for their answer, and for how long the oldest does, seconds."""
        self._unanswered.set(frames)
        self._lag_s.set(oldest_s)

    def log_answers(self, *, yes: bool) -> None:
        """Set whether the log can be read."""
        self._log_answers.set(1.0 if yes else 0.0)

    def text(self) -> bytes:
        """Return all of them as Prometheus reads them."""
        return generate_latest(_WithoutBirths(self.registry))


class _WithoutBirths(Collector):
    """The metrics without `_created`: the time at which a counter was made, a line for each."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Yield each metric."""
        for metric in self._registry.collect():
            metric.samples = [each for each in metric.samples if not _is_birth(each.name)]
            yield metric


def _is_birth(name: str) -> bool:
    return name.endswith("_created")
