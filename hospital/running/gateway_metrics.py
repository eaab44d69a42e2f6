"""What Prometheus reads of a gateway: counts that its parts keep, and what the store holds at the moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hospital.delivery.lanes import Lanes
from hospital.store.gateway_store import Store
from hospital.store.state import DeliveryStage, StudyStage


class CountedEvents(Collector):
    """Counters that the parts of the gateway keep themselves, one family each."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, tuple[str, ...], list[tuple[tuple[str, ...], Counter[Any]]]]] = {}

    def add(self, name: str, description: str, labels: Iterable[str], counter: Counter[Any], *fixed: str) -> None:
        """Show `counter` in the family `name`; its keys are the last of `labels`, the others are `fixed`."""
        family = self._families.setdefault(name, (description, tuple(labels), []))
        family[2].append((fixed, counter))

    def collect(self) -> Iterator[Metric]:
        for name, (description, labels, counters) in self._families.items():
            family = CounterMetricFamily(name, description, labels=labels)
            for fixed, counter in counters:
                for key, count in dict(counter).items():
                    own = key if isinstance(key, tuple) else (key,)
                    family.add_metric([*fixed, *map(str, own)], count)
            yield family


class StoreGauges(Collector):
    """Studies and deliveries by stage, room on the disk, and which destinations answer."""

    def __init__(self, store: Store, lanes: Callable[[], Lanes | None]) -> None:
        self._store = store
        self._lanes = lanes

    def collect(self) -> Iterator[Metric]:
        studies = GaugeMetricFamily("consilium_gateway_studies", "Studies by stage", labels=["stage"])
        counts: Mapping[StudyStage, int] = self._store.studies.counts()
        for stage in StudyStage:
            studies.add_metric([stage.value], counts.get(stage, 0))
        yield studies
        yield from self._deliveries()
        yield GaugeMetricFamily(
            "consilium_gateway_has_room", "Whether the disk takes what is received", value=self._store.inbox.has_room
        )

    def _deliveries(self) -> Iterator[Metric]:
        lanes = self._lanes()
        names = [] if lanes is None else list(lanes.lanes)
        held = GaugeMetricFamily(
            "consilium_gateway_deliveries", "Deliveries in the outbox by stage", labels=["destination", "stage"]
        )
        counts = self._store.outbox.counts()
        for name in {*names, *(name for name, _ in counts)}:
            for stage in DeliveryStage:
                held.add_metric([name, stage.value], counts.get((name, stage), 0))
        yield held
        oldest = GaugeMetricFamily(
            "consilium_gateway_oldest_delivery_seconds",
            "Age of the delivery that waits longest, 0 where none waits",
            labels=["destination"],
        )
        since, now = self._store.outbox.oldest(), self._store.clock()
        for name in {*names, *since}:
            oldest.add_metric([name], (now - since[name]).total_seconds() if name in since else 0.0)
        yield oldest
        reachable = GaugeMetricFamily(
            "consilium_gateway_destination_reachable", "Whether the last attempt had an answer", labels=["destination"]
        )
        for name in names:
            assert lanes is not None
            reachable.add_metric([name], lanes.lanes[name].reachable)
        yield reachable


def exposition(*collectors: Collector) -> bytes:
    """The text that Prometheus reads. Blocks: it asks the store."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry)
