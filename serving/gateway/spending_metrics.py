"""What Rekognition was asked and what it cost, as metrics; read from where the job keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from connectors.guarding import Spent, read_spent
from schemas.errors import ResourceError
from serving.services import SPENT


class SpendingMetrics(Collector):
    """Reads the job's file whenever somebody asks; up to ten calls behind the job.

    Parameters
    ----------
    folder : Path
        The data folder, which the job shares with the gateway.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / SPENT

    def describe(self) -> list[Metric]:
        """Say what there is without reading anything."""
        return list(_families(Spent()))

    def collect(self) -> Iterator[Metric]:
        """Return calls and costs; nothing where the file cannot be read now."""
        try:
            spent = read_spent(self._path)
        except ResourceError:
            return
        yield from _families(spent)


def add_spending(registry: CollectorRegistry, folder: Path) -> None:
    """Add these metrics to a gateway's."""
    registry.register(SpendingMetrics(folder))


def _families(spent: Spent) -> Iterator[Metric]:
    calls = "Calls of Rekognition that were answered"
    yield CounterMetricFamily("pho_rekognition_calls", calls, value=spent.calls)
    cost = "What these calls cost, in the currency of rekognition.price_per_call"
    yield CounterMetricFamily("pho_rekognition_cost", cost, value=spent.cost)
    today = "What the calls of the last day with calls cost, UTC"
    yield GaugeMetricFamily("pho_rekognition_cost_of_the_day", today, value=spent.cost_today)
