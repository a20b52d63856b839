"""The hub's figures in Prometheus text. Read at scrape time; the frame path knows nothing of it.

Names and units are Prometheus' own: times in seconds, quantiles as a label. They are gauges over
the last 600 pictures, not summaries since the start.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from dreamrelay.hub import Hub
from dreamrelay.relay.federation import Federation
from dreamrelay.telemetry import Percentiles


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
            "dreamrelay_age_seconds",
            "Age of pictures: when the relay got them (relayed, returned), and where people saw"
            " them",
            labels=["stream", "at", "quantile"],
        )
        hops = GaugeMetricFamily(
            "dreamrelay_hop_seconds",
            "Time from the hop before to this one",
            labels=["stream", "hop", "quantile"],
        )
        doubt = GaugeMetricFamily(
            "dreamrelay_hop_error_seconds",
            "How far that may be off, by the clocks that it hangs on; age: that of a picture here",
            labels=["stream", "hop"],
        )
        shown = GaugeMetricFamily(
            "dreamrelay_shown_seconds",
            "Time from the relay to who shows a picture (delivered), and from there to the eye"
            " (painted)",
            labels=["stream", "where", "span", "quantile"],
        )
        offset = GaugeMetricFamily(
            "dreamrelay_clock_offset_seconds",
            "What is added to a peer's clock to have that of the stream's relay",
            labels=["stream", "role", "peer"],
        )
        error = GaugeMetricFamily(
            "dreamrelay_clock_error_seconds",
            "How far that may be off",
            labels=["stream", "role", "peer"],
        )
        disordered = CounterMetricFamily(
            "dreamrelay_disordered",
            "Results whose stamps contradict one another: of clocks that nobody compared",
            labels=["stream"],
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
            timing, output = stream.timing, stream.tracks["output"].hops
            for at, times in timing.ages().items():
                _add(age, [name, at], times)
            for hop, times in output.hops().items():
                _add(hops, [name, hop.name.lower()], times)
            for where, figures in timing.shown().items():
                for span, times in figures.items():
                    if span != "age":
                        _add(shown, [name, where, span], times)
            for clock in timing.clocks:
                labels = [name, clock.role, clock.peer]
                offset.add_metric(labels, clock.offset_ns / 1e9)
                error.add_metric(labels, clock.error_ns / 1e9)
            errors = timing.hop_errors()
            for hop in output.hops():
                if (ms := errors[hop]) is not None:
                    doubt.add_metric([name, hop.name.lower()], ms / 1e3)
            if (ms := timing.age_error()) is not None:
                doubt.add_metric([name, "age"], ms / 1e3)
            disordered.add_metric([name], output.disordered)
            replaced.add_metric([name, "worker"], status["dropped"])
            replaced.add_metric([name, "late"], stream.late)
            revision.add_metric([name], stream.revision)
            for worker, what, total in stream.counters():
                engine.add_metric([name, worker, what], total)
        yield from (peers, packets, rate, age, hops, doubt, shown, offset, error, disordered)
        yield from (replaced, revision, engine)


def _add(family: GaugeMetricFamily, labels: list[str], times: Percentiles) -> None:
    for quantile, ms in (("0.5", times.p50), ("0.95", times.p95), ("0.99", times.p99)):
        family.add_metric([*labels, quantile], ms / 1000)


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
