"""The seed's clients over real sockets. Each is written as the real one behaves."""

import base64
import time

import pytest

from dreamrelay.config import RelaySettings
from dreamrelay.relay import app
from tests.relay.clients import (
    Client,
    Engine,
    ask,
    base64_picture,
    hear,
    native,
    raw_websocket,
    say,
    seed,
    silent,
)
from tests.support import RunningRelay, mean_colour, picture, start_relay, until


def noise(size: int) -> bytes:
    """A picture of that many bytes: nobody but its receiver looks behind its header."""
    return picture(form="PNG").ljust(size, b"\x5a")


class TestGreeting:
    def test_who_waits_first_is_welcomed(self, relay: RunningRelay) -> None:
        began = time.monotonic()
        with seed(relay) as client:
            assert hear(client)["type"] == "welcome"
            assert time.monotonic() - began < 10
            say(client, type="ping")
            assert hear(client)["type"] == "pong"

    def test_who_speaks_first_is_not(
        self, relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The stream clients read one frame as the answer to ``register``; it must be that."""
        monkeypatch.setattr(app, "GREETING_GRACE", 10.0)  # busy machines are slow to speak
        with seed(relay) as client:
            say(client, type="register", client_type="producer")
            assert hear(client)["type"] == "registered"
            say(client, type="prompt_update", prompt="a fox")
            reply = hear(client)
            assert (reply["type"], reply["status"]) == ("prompt_updated", "queued")
            assert silent(client)

    def test_always_is_always_and_first(self) -> None:
        with start_relay(RelaySettings(port=0, greeting="always")) as relay:
            for _ in range(5):
                with seed(relay) as client:
                    say(client, type="ping")
                    assert [hear(client)["type"] for _ in range(2)] == ["welcome", "pong"]


class TestStreaming:
    def test_the_image_loop_reads_exactly_one_frame_per_image(self, relay: RunningRelay) -> None:
        with Engine(relay), native(relay, "viewer", "?credit=100") as viewer:
            with seed(relay) as client:
                reply = ask(client, type="register", client_type="producer")
                assert reply["type"] == "registered"
                for number in range(10):
                    data = base64_picture() if number % 3 else "no base64"
                    say(client, type="image", format="jpeg", data=data, timestamp=time.time())
                    assert hear(client)["type"] == ("ack" if number % 3 else "error")
                assert silent(client)
            assert mean_colour(viewer.packet().data)[2] > 200

    def test_who_did_not_register_hears_nothing_unasked(self, relay: RunningRelay) -> None:
        with (
            Engine(relay),
            native(relay, "producer") as producer,
            seed(relay) as listener,
            seed(relay) as asker,
        ):
            assert hear(listener)["type"] == "welcome"
            assert hear(asker)["type"] == "welcome"
            say(asker, type="prompt_update", prompt="a fox")
            assert hear(asker)["type"] == "prompt_updated"
            for _ in range(10):
                producer.publish()
                producer.send("parameters", patch={"strength": 0.1})
            relay.hub.streams["default"]  # the status goes round once a second
            assert silent(listener, 1.2)
            assert silent(asker, 0.1)

    def test_a_consumer_as_in_the_seeds_own_test(self, relay: RunningRelay) -> None:
        """Register, loop ``recv`` with a time limit, ``ping`` when nothing came."""
        heard: set[str] = set()
        with seed(relay) as consumer, seed(relay) as producer:
            say(consumer, type="register", client_type="consumer")
            ask(producer, type="register", client_type="producer")
            deadline = time.monotonic() + 20
            while not {"registered", "pong", "image"} <= heard:
                assert time.monotonic() < deadline, heard
                try:
                    message = hear(consumer, 0.2)
                except TimeoutError:
                    say(consumer, type="ping")
                    continue
                heard.add(message["type"])
                if message["type"] == "pong":
                    say(producer, type="image", format="png", data=base64_picture(form="PNG"))
                    assert hear(producer)["type"] == "ack"
                if message["type"] == "image":
                    assert message["format"] == "png"
                    assert base64.b64decode(message["data"]) == picture(form="PNG")
                    assert isinstance(message["timestamp"], float)

    def test_a_consumer_is_a_worker_and_sends_results(self, relay: RunningRelay) -> None:
        with seed(relay) as consumer, seed(relay) as producer, seed(relay) as viewer:
            for client, kind in ((consumer, "consumer"), (viewer, "viewer")):
                assert ask(client, type="register", client_type=kind)["type"] == "registered"
            assert ask(producer, type="image", data=base64_picture())["type"] == "ack"
            assert hear(consumer)["type"] == "image"
            say(consumer, type="image", data=base64_picture(colour="blue"))
            assert hear(consumer)["type"] == "ack"
            result = hear(viewer)
            assert mean_colour(base64.b64decode(result["data"]))[2] > 200

    def test_registering_as_something_else_ends_what_was(self, relay: RunningRelay) -> None:
        with seed(relay) as client, native(relay, "producer") as producer:
            for kind in ("consumer", "viewer", "producer"):
                assert ask(client, type="register", client_type=kind)["client_type"] == kind
            producer.publish()
            assert silent(client)

    def test_an_image_larger_than_a_consumer_accepts_does_not_close_it(
        self, relay: RunningRelay
    ) -> None:
        with seed(relay) as consumer, native(relay, "producer") as producer:
            ask(consumer, type="register", client_type="consumer")
            assert producer.publish(noise(2_000_000))["accepted"]
            assert producer.publish(noise(700_000))["accepted"]
            assert len(base64.b64decode(hear(consumer)["data"])) == 700_000

    def test_silence_where_nothing_is_understood(self, relay: RunningRelay) -> None:
        with seed(relay) as client:
            hear(client)
            for message in ("{", "[]", '{"type":"who"}', b"orphan", b""):
                client.send(message)
            say(client, type="ping")
            assert hear(client)["type"] == "pong"

    def test_a_prompt_that_the_worker_does_not_take(self, relay: RunningRelay) -> None:
        with Engine(relay), seed(relay) as client:
            hear(client)
            say(client, type="prompt_update", prompt="")
            assert hear(client)["message"] == "Missing 'prompt' field"
            say(client, type="prompt_update", prompt="x" * 2001)
            assert hear(client)["type"] == "error"
            say(client, type="prompt_update", prompt="a fox")
            assert hear(client)["type"] == "prompt_updated"


class TestRequests:
    @pytest.mark.parametrize("binary", [False, True], ids=["base64", "binary"])
    def test_client_py(self, relay: RunningRelay, binary: bool) -> None:
        """Wait for welcome, ask, take the first frame as the answer."""
        with Engine(relay) as engine, native(relay, "producer") as producer, seed(relay) as client:
            for _ in range(3):
                producer.publish()
            assert hear(client)["type"] == "welcome"
            if binary:
                say(client, type="img2img_binary", prompt="a fox", format="jpeg", timestamp=1.0)
                client.send(picture(form="PNG"))
                head = hear(client)
                assert (head["type"], head["format"]) == ("img2img_result_binary", "jpeg")
                data = client.recv(30)
                assert isinstance(data, bytes)
            else:
                say(client, type="img2img", image=base64_picture(form="PNG"), prompt="a fox")
                head = hear(client)
                assert head["type"] == "img2img_result"
                data = base64.b64decode(head["image"])
            assert head["prompt"] == "a fox"
            assert mean_colour(data)[2] > 200
            assert engine.requests[0]["patch"] == {"prompt": "a fox"}
            assert engine.requests[0]["max_bytes"] < 1_048_576
            assert silent(client)

    def test_requests_above_one_mebibyte_are_accepted(self, relay: RunningRelay) -> None:
        with Engine(relay), seed(relay) as client:
            hear(client)
            say(client, type="img2img", image=base64.b64encode(noise(3_000_000)).decode())
            assert hear(client)["type"] == "img2img_result"
            say(client, type="img2img_binary")
            client.send(noise(5_000_000))
            assert hear(client)["type"] == "img2img_result_binary"
            assert isinstance(client.recv(30), bytes)

    @pytest.mark.parametrize("binary", [False, True], ids=["base64", "binary"])
    def test_replies_never_are(self, relay: RunningRelay, binary: bool) -> None:
        """The library would close the connection with 1009."""
        with Engine(relay, noise(2_000_000)), seed(relay) as client:
            hear(client)
            if binary:
                say(client, type="img2img_binary")
                client.send(picture())
            else:
                say(client, type="img2img", image=base64_picture())
            assert "larger" in hear(client)["message"]
            say(client, type="ping")
            assert hear(client)["type"] == "pong"

    def test_answers_come_in_order(self, relay: RunningRelay) -> None:
        with Engine(relay), seed(relay) as client:
            hear(client)
            for number in range(6):
                image = base64_picture() if number != 3 else "no picture"
                say(client, type="img2img", image=image, prompt=str(number))
            replies = [hear(client) for _ in range(6)]
            assert [r.get("prompt") for r in replies] == ["0", "1", "2", None, "4", "5"]
            assert replies[3]["type"] == "error"

    def test_without_a_worker_the_answer_says_so_at_once(self, relay: RunningRelay) -> None:
        with seed(relay) as client:
            hear(client)
            say(client, type="img2img", image=base64_picture(), prompt="a fox")
            reply = hear(client)
            assert reply["type"] == "error"
            assert "python main.py" in reply["message"]

    def test_an_answer_is_for_the_asker_only(self, relay: RunningRelay) -> None:
        with Engine(relay), native(relay, "viewer", "?credit=9") as viewer, seed(relay) as client:
            hear(client)
            say(client, type="img2img", image=base64_picture())
            assert hear(client)["type"] == "img2img_result"
            assert viewer.nothing_for(0.3)

    def test_a_worker_that_dies_over_a_request(self, relay: RunningRelay) -> None:
        with seed(relay) as client:
            hear(client)
            with native(relay, "worker") as worker:
                say(client, type="img2img", image=base64_picture())
                worker.text("request")
            with Engine(relay):  # another one takes it over
                assert hear(client)["type"] == "img2img_result"

    def test_a_worker_that_says_it_failed(self, relay: RunningRelay) -> None:
        with seed(relay) as client, native(relay, "worker") as worker:
            hear(client)
            say(client, type="img2img", image=base64_picture())
            asked = worker.text("request")
            worker.send("failed", seq=asked["seq"], message="out of memory")
            assert hear(client)["message"] == "out of memory"

    def test_the_asker_leaves(self, relay: RunningRelay) -> None:
        with native(relay, "worker", credit=5) as worker:
            with seed(relay) as client:
                hear(client)
                say(client, type="img2img", image=base64_picture())
                asked = worker.text("request")
            until(lambda: relay.hub.streams["default"].connections == 1)
            worker.send_picture(track="output", seq=asked["seq"], private=True)
            worker.send("ping", id=1)
            worker.text("pong")


def test_a_flood_of_pings_that_nobody_reads_costs_nobody_anything(relay: RunningRelay) -> None:
    """Who does not read the answers is not asked for more questions."""
    bare = raw_websocket(relay, "/", receive_buffer=4096)
    bare.settimeout(0.5)
    echo = b'{"type":"test","data":"' + b"x" * 60_000 + b'"}'
    message = b"\x81\xfe" + len(echo).to_bytes(2, "big") + b"\0\0\0\0" + echo
    sent = 0
    try:
        while sent < 200_000_000:
            sent += bare.send(message)
    except TimeoutError:
        pass
    assert sent < 60_000_000
    with native(relay, "producer") as producer:
        assert producer.publish()["accepted"]
    bare.close()


def test_two_dialects_on_one_stream(relay: RunningRelay) -> None:
    with (
        native(relay, "viewer", "?track=input&credit=9", stream="other") as viewer,
        seed(relay, "/?stream=other") as client,
    ):
        assert ask(client, type="image", data=base64_picture(colour="lime"))["type"] == "ack"
        assert mean_colour(viewer.packet().data)[1] > 200
        assert isinstance(viewer, Client)
