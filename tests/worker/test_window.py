"""The worker's window."""

import sys

import pytest

from dreamrelay import worker as worker_module
from dreamrelay.config import WorkerSettings
from dreamrelay.errors import ConfigError
from dreamrelay.viewer import Closed, Event, Viewer
from dreamrelay.worker import Worker
from tests.fakes.engines import ScriptedEngine
from tests.fakes.peers import People
from tests.fakes.relays import Peer, scripted_relay
from tests.fakes.workers import Work, is_live
from tests.support import RunningRelay, picture, until


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_display")
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there is always a display")
def test_without_a_display_auto_is_off_and_on_is_refused() -> None:
    settings = WorkerSettings(osc_port=None)
    worker = Worker(settings, engine=ScriptedEngine())
    assert settings.viewer == "auto"
    assert worker.viewer is None
    with pytest.raises(ConfigError, match="--viewer=on: no display"):
        Worker(WorkerSettings(osc_port=None, viewer="on"), engine=ScriptedEngine())


def test_the_death_of_the_window_does_not_stop_the_worker(
    relay: RunningRelay, people: People, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    running = work(relay.websocket, viewer="on", websocket_port=0)
    is_live(people.viewer)
    viewer = running.program.viewer
    assert viewer is not None
    until(lambda: viewer.pid)
    people.producer.send(picture(), 1)
    until(lambda: people.viewer.results)
    child = viewer._child
    assert child is not None
    child.process.kill()
    until(lambda: not viewer.alive)
    for seq in range(2, 5):
        people.producer.send(picture(), seq)
    until(lambda: len(people.viewer.results) >= 2)
    assert running.alive


def test_the_window_says_why_a_producer_sends_nothing(
    relay: RunningRelay, people: People, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    said: list[str] = []
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setattr(Viewer, "start", lambda _: None)
    monkeypatch.setattr(Viewer, "note", lambda _, text: notes.append(text))
    monkeypatch.setattr(Viewer, "status", lambda _, text: said.append(text))
    work(relay.websocket, viewer="on")
    is_live(people.viewer)
    people.producer.link.tell("status", state="away", text="no camera 0")
    until(lambda: notes == ["no picture: no camera 0"])
    until(lambda: said[-1:] == ["no picture: no camera 0"])
    people.producer.link.tell("status", state="live")
    until(lambda: notes == ["no picture: no camera 0", ""])
    until(lambda: said[-1] == "")


def test_the_window_says_that_there_is_no_relay_until_there_is_one(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setattr(Viewer, "start", lambda _: None)
    monkeypatch.setattr(Viewer, "status", lambda _, text: said.append(text))

    def talk(peer: Peer) -> None:
        if peer.number > 1:  # it stays away until this was seen
            until(lambda: any("no relay: " in text for text in said))
            peer.welcome()
            peer.stay()
        peer.welcome()
        until(lambda: said[-1:] == [""])
        peer.cut()

    with scripted_relay(talk) as uri:
        running = work(uri, viewer="on")
        until(lambda: any("no relay: " in text for text in said), what="the loss")
        until(lambda: said[-1] == "", what="another relay")
        running.stop()


def test_a_worker_that_can_show_no_window_says_why(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "viewer_available", lambda: "there is no display")
    with scripted_relay(lambda peer: peer.welcome()) as uri:
        assert work(uri, viewer="auto").program.no_window == "there is no display"
        assert work(uri, viewer="off").program.no_window == ""


def test_the_window_says_what_viewers_see_in_place_of_results(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setattr(Viewer, "start", lambda _: None)
    monkeypatch.setattr(Viewer, "stand_in", lambda _, word: said.append(word))

    def talk(peer: Peer) -> None:
        peer.welcome()
        peer.tell("status", stand_in="pass", held=False)
        peer.tell("status", stand_in="", held=True)
        peer.tell("status", stand_in="", held=False)
        peer.tell("status", stand_in="slate", held=False)
        until(lambda: said.count("slate") >= peer.number)
        peer.cut()

    with scripted_relay(talk) as uri:
        work(uri, viewer="on")
        until(lambda: said.count("pass") > 1, what="a second connection")
    assert said[:5] == ["pass", "held", "", "slate", ""]  # cut off, it does not know


@pytest.mark.parametrize(
    ("relay_inside", "event", "ends"),
    [(True, Closed(), True), (False, Closed(), False), (True, Closed("it crashed"), False)],
)
def test_closing_the_window_ends_the_worker_that_has_its_relay_inside(
    relay: RunningRelay,
    people: People,
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
    relay_inside: bool,
    event: Event,
    ends: bool,
) -> None:
    asked: list[list[Event]] = []

    def events(_: Viewer) -> list[Event]:
        asked.append([event] if len(asked) == 1 else [])
        return asked[-1]

    monkeypatch.setattr(Viewer, "start", lambda _: None)
    monkeypatch.setattr(Viewer, "events", events)
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    port = 0 if relay_inside else None
    running = work(relay.websocket, viewer="on", websocket_port=port)
    until(lambda: len(asked) >= 2)
    if ends:
        assert running.ends() is None
    else:
        until(lambda: len(asked) >= 4)
        assert running.alive
