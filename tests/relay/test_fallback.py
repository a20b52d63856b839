"""What is shown while no results come, chosen at the start and over HTTP; and who fell silent."""

import json
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from dreamrelay.config import RelaySettings
from dreamrelay.errors import ConfigError
from dreamrelay.relay import websocket as websocket_module
from dreamrelay.relay.app import Relay
from dreamrelay.relay.fallback import MAX_SLATE_BYTES, fallback_of
from tests.relay.clients import answer, native, problem
from tests.support import RunningRelay, picture, start_relay

PATH = "/streams/default/when-lost"


def choose(relay: RunningRelay, **choice: Any) -> tuple[int, dict[str, Any]]:
    status, _, body = answer(relay, PATH, "PATCH", json.dumps(choice).encode())
    return status, json.loads(body)


class TestOverHttp:
    def test_it_is_told_and_changed(self, relay: RunningRelay) -> None:
        assert answer(relay, PATH)[0] == 404
        chosen = choose(relay, when_lost="pass")
        assert chosen == (200, {"when_lost": "pass", "hold_seconds": 3.0})
        assert choose(relay, hold_seconds=0.5)[1] == {"when_lost": "pass", "hold_seconds": 0.5}
        assert json.loads(answer(relay, PATH)[2]) == {"when_lost": "pass", "hold_seconds": 0.5}
        assert json.loads(relay.get("/streams/default"))["when_lost"] == "pass"

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"", 400),
            (b"[]", 400),
            (b"{}", 400),
            (b'{"when_lost":"black"}', 422),
            (b'{"when_lost":1}', 422),
            (b'{"hold_seconds":"3"}', 422),
            (b'{"hold_seconds":-1}', 422),
            (b'{"hold_seconds":1e9}', 422),
            (b'{"hold_seconds":true}', 422),
            (b'{"when_lost":"pass","slate":"/etc/passwd"}', 422),
            (b'{"when_lost":"' + b"x" * 5000 + b'"}', 413),
        ],
    )
    def test_what_is_no_choice(self, relay: RunningRelay, body: bytes, status: int) -> None:
        got, _, reply = answer(relay, PATH, "PATCH", body)
        assert got == status
        assert problem(reply)["message"]

    def test_the_cameras_picture_is_marked_where_it_stands_in(self, relay: RunningRelay) -> None:
        choose(relay, when_lost="pass", hold_seconds=0)
        with native(relay, "viewer") as viewer, native(relay, "producer") as producer:
            producer.publish(picture("red"))
            packet = viewer.packet()
            assert packet.stand_in
            assert packet.data == picture("red")
            status = json.loads(relay.get("/streams/default"))
            assert (status["state"], status["stand_in"]) == ("no-worker", "pass")


class TestSettings:
    def test_the_slate_of_our_own_is_there(self) -> None:
        fallback = fallback_of(RelaySettings(when_lost="slate"))
        assert fallback.slate is not None
        assert (fallback.slate.width, fallback.slate.height) == (1280, 720)

    def test_a_slate_of_ones_own(self, tmp_path: Path) -> None:
        path = tmp_path / "slate.png"
        path.write_bytes(picture("blue", form="PNG"))
        slate = fallback_of(RelaySettings(slate=str(path))).slate
        assert slate is not None
        assert slate.data == path.read_bytes()

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (None, "cannot be read"),
            (b"", "got nothing"),
            (b"a text", "JPEG or PNG"),
            (picture(form="GIF"), "it is a GIF"),
            (picture(form="PNG").ljust(MAX_SLATE_BYTES + 1, b"x"), "more than 4 MB"),
        ],
        ids=["missing", "empty", "text", "gif", "large"],
    )
    def test_what_is_no_slate_is_said_before_anything_starts(
        self, tmp_path: Path, data: bytes | None, why: str
    ) -> None:
        path = tmp_path / "slate"
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(ConfigError, match=f"--slate=.*{why}"):
            Relay(RelaySettings(port=0, slate=str(path)))


class TestSilence:
    def test_who_promised_to_speak_and_does_not_is_cut_off(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(websocket_module, "SILENT_TIMES", 0)
        with (
            start_relay(RelaySettings(port=0)) as relay,
            native(relay, "producer") as free,
            native(relay, "producer") as bound,
        ):
            free.send("ping", id=1)
            free.text("pong")
            bound.send("ping", id=1, every=1)
            with pytest.raises(ConnectionClosed):
                bound.text("never said")
            free.send("ping", id=2)
            assert free.text("pong")["received_ns"]
