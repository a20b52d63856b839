"""Programs that outlive one another: a relay that falls silent or is started anew, a worker that is
replaced.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from dreamrelay import link as link_module
from dreamrelay.config import RelaySettings, WorkerSettings
from dreamrelay.errors import EngineError
from dreamrelay.link import Link
from dreamrelay.worker import Worker
from tests.fakes.engines import ScriptedEngine
from tests.fakes.peers import Heard, People, Person
from tests.fakes.relays import Peer, scripted_relay
from tests.fakes.running import Running
from tests.support import RunningRelay, picture, start_relay, until


@pytest.fixture
def relay() -> Iterator[RunningRelay]:
    with start_relay(RelaySettings(port=0)) as running:
        yield running


def worker(uri: str, engine: ScriptedEngine, **settings: object) -> Running[Worker]:
    given = {"websocket_uri": uri, "viewer": "off", "osc_port": None, **settings}
    return Running(Worker(WorkerSettings(**given), engine=engine))


class TestSilentRelay:
    """A cable that is out closes no connection."""

    def test_a_relay_that_has_spoken_and_falls_silent_is_looked_for_anew(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(link_module, "LOOK_SECONDS", 0.02)

        def talk(peer: Peer) -> None:
            peer.welcome()
            peer.tell("status", state="live")
            peer.stay()

        heard = Heard()
        with scripted_relay(talk) as uri:
            link = Link(uri, "default", "viewer", heard)
            link.start()
            until(lambda: len(heard.welcomes) > 1, what="a second connection")
            link.close()
        assert "cut" in heard.losses[0][0]

    def test_one_that_never_says_how_it_goes_is_left_alone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(link_module, "LOOK_SECONDS", 0.001)

        def talk(peer: Peer) -> None:
            peer.welcome()
            for _ in range(4):  # pings, a second or so: some thousandths would be too much
                peer.websocket.recv(30)
            peer.tell("audience", watching=peer.number)
            peer.stay()

        heard = Heard()
        with scripted_relay(talk) as uri:
            link = Link(uri, "default", "viewer", heard)
            link.start()
            until(lambda: heard.has("audience"), what="the end of the test")
            link.close()
        assert heard.has("audience")[0]["watching"] == 1


class TestReplaced:
    def test_the_old_one_ends_well_and_its_values_go_on(self, relay: RunningRelay) -> None:
        old = worker(relay.websocket, ScriptedEngine())
        with People(relay.websocket) as people:
            until(lambda: people.viewer.status.get("state") == "live", what="a worker")
            people.viewer.link.patch({"prompt": "green", "strength": 0.25}, "test")
            until(lambda: old.program.engine.parameters["strength"] == 0.25, what="the patch")
            engine = ScriptedEngine()
            new = worker(relay.websocket, engine, replace=True)
            seq = 0

            def ended() -> bool:
                nonlocal seq
                seq += 1
                people.producer.send(picture("red"), seq)
                return not old.alive

            until(ended, what="the old one's end")
            assert old.ends() is None
            assert old.program.replaced_by == "a script"
            until(lambda: engine.parameters["prompt"] == "green", what="its prompt")
            assert engine.parameters["strength"] == 0.25
            assert new.stop() is None
        numbers = [packet.seq for packet in people.viewer.results]
        assert numbers == sorted(set(numbers))

    def test_one_that_cannot_load_disturbs_nobody(self, relay: RunningRelay) -> None:
        old = worker(relay.websocket, ScriptedEngine())
        with People(relay.websocket) as people:
            until(lambda: people.viewer.status.get("state") == "live", what="a worker")

            def fail(_: object) -> None:
                raise EngineError("no such model")

            new = worker(relay.websocket, ScriptedEngine(on_load=fail), replace=True)
            error = new.ends()
            assert isinstance(error, EngineError)
            people.producer.send(picture("red"), 1)
            until(lambda: people.viewer.results, what="a picture of the old one")
            assert old.alive
            assert old.stop() is None


class TestValuesInForce:
    """A worker that replaces another one: its first picture is already of the show."""

    @staticmethod
    def _loads_when_all_is_said(uri: str, **settings: object) -> Running[Worker]:
        """One that is loaded once it has heard that its input is away."""
        made: list[Running[Worker]] = []

        def heard() -> bool:
            return bool(made) and bool(made[0].program.first.absent)

        engine = ScriptedEngine(on_load=lambda _: until(heard, what="what is said"))
        made.append(worker(uri, engine, **settings))
        return made[0]

    def test_it_is_introduced_with_them(self) -> None:
        hellos: list[dict[str, Any]] = []
        values = {"prompt": "green", "strength": 0.25, "steps": [3, 1], "scale": 2}

        def talk(peer: Peer) -> None:
            peer.welcome()
            peer.tell("parameters", values=values, revision=7)
            peer.tell("status", input_text="all is said")
            while len(hellos) < peer.number:
                hello = peer.hear_text("hello")
                if "parameters" in hello:
                    hellos.append(hello)
            peer.tell("parameters", values=values, revision=8)
            if peer.number == 1:
                peer.cut()
            peer.stay()

        with scripted_relay(talk) as uri:
            new = self._loads_when_all_is_said(uri, replace=True)
            until(lambda: len(hellos) == 2, what="its hello, and another one")
            told = hellos[0]["parameters"]
            assert (told["prompt"], told["strength"]) == ("green", 0.25)
            assert told["steps"] == [1, 2]  # what it does not take it has as before
            # Said once: on a later connection it would send away who came after it.
            assert [hello["replace"] for hello in hellos] == [True, False]
            assert new.stop() is None

    def test_one_that_only_joins_has_its_own(self) -> None:
        hellos: list[dict[str, Any]] = []

        def talk(peer: Peer) -> None:
            peer.welcome()
            peer.tell("parameters", values={"prompt": "green"}, revision=7)
            peer.tell("status", input_text="all is said")
            while not hellos or "parameters" not in hellos[-1]:
                hellos.append(peer.hear_text("hello"))
            peer.stay()

        with scripted_relay(talk) as uri:
            new = self._loads_when_all_is_said(uri)
            until(lambda: hellos and "parameters" in hellos[-1], what="its hello")
            assert hellos[-1]["parameters"]["prompt"] == "invert"
            assert new.stop() is None

    def test_values_of_another_ones_model_are_no_trouble(self, relay: RunningRelay) -> None:
        engine = ScriptedEngine()
        serving = worker(relay.websocket, engine)
        with People(relay.websocket) as people:
            until(lambda: people.viewer.status.get("state") == "live", what="a worker")
            other = {"prompt": {"type": "string"}, "scale": {"type": "number"}}
            beside = Person(relay.websocket, "worker")
            hello = {"credit": 0, "schema": {"type": "object", "properties": other}}
            beside.link.tell("hello", version=1, **hello, parameters={"scale": 1})
            until(lambda: "scale" in people.viewer.values, what="the other one's schema")
            people.viewer.link.patch({"scale": 2, "prompt": "green"}, "test")
            until(lambda: engine.parameters["prompt"] == "green", what="what it knows")
            assert serving.program.first.standing.trouble == ""
            beside.link.close()
            assert serving.stop() is None


class TestRelayAnew:
    def test_the_prompt_and_the_pictures_outlive_it(self) -> None:
        with start_relay(RelaySettings(port=0)) as first:
            port = int(first.websocket.rpartition(":")[2])
            engine = ScriptedEngine()
            serving = worker(first.websocket, engine)
            people = People(first.websocket)
            until(lambda: people.viewer.status.get("state") == "live", what="a worker")
            people.viewer.link.patch({"prompt": "green"}, "test")
            until(lambda: engine.parameters["prompt"] == "green", what="the prompt")
            for seq in range(1, 6):
                people.producer.send(picture("red"), seq)
            until(lambda: people.viewer.results, what="a picture")
        before = len(people.viewer.results)
        with start_relay(RelaySettings(port=port)) as second, Person(second.websocket) as other:
            until(lambda: len(people.producer.welcomes) > 1, what="the producer")
            until(lambda: len(people.viewer.welcomes) > 1, what="the viewer")
            until(lambda: other.values.get("prompt") == "green", what="the prompt, from the worker")
            until(lambda: other.status.get("state") == "live", what="the worker")
            people.producer.send(picture("red"), 6)
            until(lambda: len(people.viewer.results) > before, what="a picture")
            # Its numbers begin anew, and nobody minds.
            assert people.viewer.results[-1].seq < 6
            people.close()
            assert serving.stop() is None
