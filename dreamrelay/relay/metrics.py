"""The hub's figures in Prometheus text. Read at scrape time; the frame path knows nothing of it."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from dreamrelay.hub import Hub
from dreamrelay.relay.federation import Federation


class HubCollector(Collector):
    """Turn what the hub counts into metric families, one label: the stream."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        peers = GaugeMetricFamily("dreamrelay_peers", "Connected peers", labels=["stream", "role"])
        packets = CounterMetricFamily(
            "dreamrelay_packets", "Packets published", labels=["stream", "track"]
        )
        rate = GaugeMetricFamily(
            "dreamrelay_packets_per_second", "Packets per second now", labels=["stream", "track"]
        )
        age = GaugeMetricFamily(
            "dreamrelay_age_milliseconds",
            "Age of packets when the relay got them, by the producer's clock",
            labels=["stream", "track", "quantile"],
        )
        hops = GaugeMetricFamily(
            "dreamrelay_hop_milliseconds",
            "Time from the hop before to this one",
            labels=["stream", "hop", "quantile"],
        )
        replaced = CounterMetricFamily(
            "dreamrelay_replaced", "Packets that a newer one replaced", labels=["stream", "where"]
        )
        revision = GaugeMetricFamily(
            "dreamrelay_parameters_revision", "Patches applied", labels=["stream"]
        )
        engine = CounterMetricFamily(
            "dreamrelay_engine",
            "Totals of a worker's engine: prompts encoded, prompts found encoded, frames computed",
            labels=["stream", "worker", "what"],
        )
        for name, stream in self._hub.streams.items():
            status = stream.status()
            for role in ("producers", "workers", "viewers"):
                peers.add_metric([name, role.removesuffix("s")], status[role])
            for track, state in stream.tracks.items():
                packets.add_metric([name, track], state.meter.count)
                rate.add_metric([name, track], state.meter.rate)
                for quantile in ("p50", "p95", "p99"):
                    age.add_metric([name, track, quantile], getattr(state.hops.age, quantile))
            for hop, times in stream.tracks["output"].hops.hops().items():
                for quantile in ("p50", "p95", "p99"):
                    hops.add_metric([name, hop.name.lower(), quantile], getattr(times, quantile))
            replaced.add_metric([name, "worker"], status["dropped"])
            replaced.add_metric([name, "late"], stream.late)
            revision.add_metric([name], stream.revision)
            for worker, what, total in stream.counters():
                engine.add_metric([name, worker, what], total)
        yield from (peers, packets, rate, age, hops, replaced, revision, engine)


class BackplaneCollector(Collector):
    """What went between this relay and others."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation

    def collect(self) -> Iterator[Metric]:
        traffic = self._federation.backplane.traffic
        for name, text, value in (
            ("connected", "Whether it is there", int(self._federation.backplane.connected)),
            ("relays", "Relays that are there, this one too", len(self._federation.others) + 1),
        ):
            yield GaugeMetricFamily(f"dreamrelay_backplane_{name}", text, value=value)
        for name, text, value in (
            ("sent", "Letters sent to other relays", traffic.sent),
            ("received", "Letters of other relays", traffic.received),
            ("refused", "Letters that could not leave: it was away, or full", traffic.refused),
            ("unreadable", "Letters that made no sense", self._federation.unreadable),
            ("connects", "Times that it came, or came back", traffic.connects),
        ):
            yield CounterMetricFamily(f"dreamrelay_backplane_{name}", text, value=value)


def render(hub: Hub, federation: Federation | None = None) -> bytes:
    """Return the metrics page."""
    registry = CollectorRegistry()
    registry.register(HubCollector(hub))
    if federation is not None:
        registry.register(BackplaneCollector(federation))
    return generate_latest(registry)
