"""TLS, MJPEG and NATS beside a plain WebSocket: that it runs, not how good it comes out."""

import pytest

from benchmarks import machine, wire


@pytest.mark.skipif(not machine.can_count_cpu(), reason="needs /proc/PID/task/*/schedstat")
async def test_every_way_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "idle_cpu_ns", machine.cpu_ns)
    monkeypatch.setattr(wire, "VIEWERS", 2)
    monkeypatch.setattr(wire.Relayed, "receivers", 2)
    found = await wire.measure(rounds=1, block=2)
    spent = found["microseconds_per_delivered_picture"]
    assert list(spent) == ["websocket", "websocket, TLS", "mjpeg", "nats"]
    assert set(found["ratios"]) == {"TLS / plain", "mjpeg / websocket", "nats / websocket"}
    assert found["nats_hop_ms"] > 0
