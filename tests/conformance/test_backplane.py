"""What every backplane does, and what relays do over each of them: in memory, and over NATS."""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from dreamrelay.config import RelaySettings
from dreamrelay.errors import ConfigError
from dreamrelay.hub import Hub
from dreamrelay.protocol.messages import Limits, StatusReceived
from dreamrelay.relay.backplane import Backplane, MemoryBackplane, MemoryBus, Receiver
from dreamrelay.relay.federation import Federation
from dreamrelay.relay.nats import NatsBackplane
from dreamrelay.relay.tls import made_certificate
from tests.fakes.federations import HELLO, Somebody, picture
from tests.fakes.nats_server import NEEDS_NATS, NatsServer, configured, nats_server

LARGEST = 2_000_000
SECONDS = 60


class Heard(Receiver):
    """Everything that arrives."""

    def __init__(self) -> None:
        self.letters: list[bytes] = []
        self.ways: list[bool] = []

    def received(self, data: bytes | memoryview) -> None:
        self.letters.append(bytes(data))

    def connected(self, there: bool) -> None:
        self.ways.append(there)


class Ground(ABC):
    """A kind of backplane, and what can happen to it."""

    @abstractmethod
    def place(self, name: str, cluster: str = "one") -> Backplane:
        """A place on it, not yet there."""

    @abstractmethod
    def cut(self) -> None:
        """All connections are lost."""

    @abstractmethod
    def mend(self) -> None:
        """They may come back."""

    @abstractmethod
    def halted(self) -> AbstractContextManager[None]:
        """Nothing arrives while this lasts; no connection is lost."""


class InMemory(Ground):
    def __init__(self) -> None:
        self._buses: dict[str, _Bus] = {}
        self._places: list[tuple[_Bus, MemoryBackplane, Receiver]] = []

    def place(self, name: str, cluster: str = "one") -> Backplane:
        return MemoryBackplane(self._buses.setdefault(cluster, _Bus()), name)

    def cut(self) -> None:
        for bus in self._buses.values():
            bus.cut()

    def mend(self) -> None:
        for bus in self._buses.values():
            bus.mend()

    @contextmanager
    def halted(self) -> Iterator[None]:
        for bus in self._buses.values():
            bus.halted = True
        yield
        for bus in self._buses.values():
            bus.halted = False
            bus.deliver()


class _Bus(MemoryBus):
    def __init__(self) -> None:
        super().__init__(lambda call: asyncio.get_running_loop().call_soon(call))
        self.halted = False
        self._all: list[MemoryBackplane] = []

    def join(self, place: MemoryBackplane) -> None:
        super().join(place)
        self._all.append(place)

    def deliver(self) -> None:
        if not self.halted:
            super().deliver()

    def cut(self) -> None:
        for place in self._all:
            place.close()

    def mend(self) -> None:
        places, self._all = self._all, []
        for place in places:
            assert place.receiver is not None
            place.open(place.receiver)


class OverNats(Ground):
    def __init__(self, server: NatsServer, *, short: bool) -> None:
        self._server = server
        self._short = short

    def place(self, name: str, cluster: str = "one") -> Backplane:
        return backplane_at(self._server, relay_name=name, cluster=cluster, short=self._short)

    def cut(self) -> None:
        self._server.stop()

    def mend(self) -> None:
        self._server.start()

    @contextmanager
    def halted(self) -> Iterator[None]:
        self._server.halt()
        yield
        self._server.go_on()


def backplane_at(
    server: NatsServer, *, largest: int = LARGEST, short: bool = True, **settings: str
) -> NatsBackplane:
    loaded = RelaySettings.load({"backplane": server.url, **settings}, environ={})
    return NatsBackplane(loaded, largest, short=short)


BY_LIBRARY = "nats, by its client"


@pytest.fixture(
    params=["memory", *(pytest.param(name, marks=NEEDS_NATS) for name in ("nats", BY_LIBRARY))]
)
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    if request.param == "memory":
        yield InMemory()
        return
    with nats_server(tmp_path, configured(tmp_path, "max_payload: 8MB")) as server:
        yield OverNats(server, short=request.param != BY_LIBRARY)


async def until(happens: Callable[[], object], what: str) -> None:
    """Wait for it."""
    end = time.monotonic() + SECONDS
    while not happens():
        assert time.monotonic() < end, f"{what} did not happen"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def running(backplane: Backplane, receiver: Receiver) -> AsyncIterator[None]:
    await backplane.start()
    async with asyncio.TaskGroup() as tasks:
        carrier = tasks.create_task(backplane.run(receiver))
        await until(lambda: backplane.connected, "a connection")
        yield
        carrier.cancel()


Test = Callable[[AsyncExitStack], Awaitable[None]]


def go(test: Test) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            await test(stack)

    asyncio.run(main())


class Places:
    """Some places on one ground."""

    def __init__(self, ground: Ground, stack: AsyncExitStack) -> None:
        self._ground = ground
        self._stack = stack

    async def add(self, name: str, cluster: str = "one") -> tuple[Backplane, Heard]:
        backplane, heard = self._ground.place(name, cluster), Heard()
        await self._stack.enter_async_context(running(backplane, heard))
        return backplane, heard


class TestLetters:
    def test_one_or_all_others_hear_in_order(self, ground: Ground) -> None:
        async def test(stack: AsyncExitStack) -> None:
            places = Places(ground, stack)
            a, at_a = await places.add("a")
            b, at_b = await places.add("b")
            _, at_c = await places.add("c")
            _, elsewhere = await places.add("d", cluster="two")
            sent = [b"%d" % n for n in range(300)]
            assert all(a.send(b.name, letter) for letter in sent)
            assert a.broadcast(b"all")
            await until(lambda: len(at_b.letters) == 301 and at_c.letters, "all letters")
            assert [letter for letter in at_b.letters if letter != b"all"] == sent
            assert at_c.letters == [b"all"]
            assert at_a.letters == elsewhere.letters == []
            assert a.traffic.sent == 301

        go(test)

    def test_a_large_one_arrives_whole(self, ground: Ground) -> None:
        async def test(stack: AsyncExitStack) -> None:
            places = Places(ground, stack)
            a, _ = await places.add("a")
            b, at_b = await places.add("b")
            large = bytes(range(256)) * (LARGEST // 256)
            assert a.send(b.name, large)
            await until(lambda: at_b.letters, "the large letter")
            assert at_b.letters == [large]

        go(test)

    def test_what_cannot_leave_is_refused_and_never_comes_later(self, ground: Ground) -> None:
        async def test(stack: AsyncExitStack) -> None:
            places = Places(ground, stack)
            a, at_a = await places.add("a")
            b, at_b = await places.add("b")
            ground.cut()
            await until(lambda: not a.connected and not b.connected, "the loss")
            assert not a.send(b.name, b"old")
            assert not a.broadcast(b"old")
            assert a.traffic.refused == 2
            ground.mend()
            await until(lambda: a.connected and b.connected, "the way back")
            assert a.send(b.name, b"new")
            await until(lambda: at_b.letters, "the new letter")
            assert at_b.letters == [b"new"]
            assert at_a.ways == [True, False, True]
            assert a.traffic.connects == 2

        go(test)


class Relays:
    """Two relays over one ground; the stream has its home at the first."""

    def __init__(self, ground: Ground, stack: AsyncExitStack) -> None:
        self._ground = ground
        self._stack = stack
        self.hubs: list[Hub] = []
        self.federations: list[Federation] = []

    async def add(self) -> Hub:
        loop = asyncio.get_running_loop()
        hub = Hub(call_later=lambda seconds, call: loop.call_later(seconds, call))
        name = "abc"[len(self.hubs)]
        federation = Federation(hub, self._ground.place(name), name)
        self.hubs.append(hub)
        self.federations.append(federation)
        await self._stack.enter_async_context(running(federation.backplane, federation))
        await self._stack.enter_async_context(self._ticking(hub, federation))
        stream = hub.stream("default")
        await until(lambda: stream.mirrored.home == "a", "a home")
        return hub

    @asynccontextmanager
    async def _ticking(self, hub: Hub, federation: Federation) -> AsyncIterator[None]:
        async def tick() -> None:
            while True:
                await asyncio.sleep(0.2)
                hub.tick()
                federation.tick()

        async with asyncio.TaskGroup() as tasks:
            ticker = tasks.create_task(tick())
            yield
            ticker.cancel()


class TestRelays:
    def test_pictures_credit_and_words_cross(self, ground: Ground) -> None:
        async def test(stack: AsyncExitStack) -> None:
            relays = Relays(ground, stack)
            a, b = (await relays.add()).stream("default"), (await relays.add()).stream("default")
            viewers = [Somebody(stream, f"viewer-{n}", "viewer") for n, stream in enumerate((a, b))]
            for viewer in viewers:
                viewer.stream.join(viewer, ("output",))
            worker, producer = Somebody(b, "worker", "worker"), Somebody(a, "producer", "producer")
            b.join(worker, (), 1, HELLO)
            b.report(worker, StatusReceived("live"))
            a.join(producer)
            await until(lambda: a.state == "live" and a.status()["viewers"] == 2, "all peers")
            a.update_parameters({"prompt": "x"}, "rest")
            await until(lambda: worker.values.get("prompt") == "x", "the prompt at the worker")
            b.update_parameters({"strength": 1}, "rest")
            await until(lambda: a.values.get("strength") == 1, "the patch at home")
            for n in range(1, 21):
                a.publish(picture(n), "input", producer)
                await until(partial(worker.has, n), "an input")
                b.publish(worker.given[-1], "output", worker)
                b.grant(worker, 1)
            for viewer in viewers:
                await until(partial(viewer.saw, 20), "the last result")
                assert viewer.numbers() == sorted(set(viewer.numbers()))
            assert a.revision == b.revision

        go(test)

    def test_the_newest_is_kept_while_nothing_arrives(self, ground: Ground) -> None:
        async def test(stack: AsyncExitStack) -> None:
            relays = Relays(ground, stack)
            a, b = (await relays.add()).stream("default"), (await relays.add()).stream("default")
            viewer, producer = Somebody(b, "viewer", "viewer"), Somebody(a, "producer", "producer")
            b.join(viewer, ("input",))
            a.join(producer)
            await until(lambda: a.status()["viewers"] == 1, "the viewer")
            with ground.halted():
                for n in range(1, 101):
                    a.publish(picture(n), "input", producer)
                    await asyncio.sleep(0)
            await until(lambda: viewer.numbers("input")[-1:] == [100], "the newest")
            # Two windows of credit, where one came back before the halt; by far not all.
            assert len(viewer.numbers("input")) < 10, viewer.numbers("input")

        go(test)

    def test_after_a_loss_nothing_comes_twice_and_nothing_old(self, ground: Ground) -> None:
        async def test(stack: AsyncExitStack) -> None:
            relays = Relays(ground, stack)
            a, b = (await relays.add()).stream("default"), (await relays.add()).stream("default")
            viewer, producer = Somebody(b, "viewer", "viewer"), Somebody(a, "producer", "producer")
            b.join(viewer, ("input",))
            a.join(producer)
            await until(lambda: a.status()["viewers"] == 1, "the viewer")

            async def send(until_seen: int) -> None:
                while viewer.numbers("input")[-1:] < [until_seen]:
                    a.publish(picture(), "input", producer)
                    await asyncio.sleep(0.01)

            await asyncio.wait_for(send(5), SECONDS)
            ground.cut()
            backplanes = [federation.backplane for federation in relays.federations]
            await until(lambda: not any(b.connected for b in backplanes), "the loss")
            a.publish(picture(), "input", producer)
            ground.mend()
            await until(lambda: all(b.connected for b in backplanes), "the way back")
            await asyncio.wait_for(send(a.status()["seq_in"] + 5), SECONDS)
            numbers = viewer.numbers("input")
            assert all(before < after for before, after in pairwise(numbers)), numbers

        go(test)


@NEEDS_NATS
class TestNats:
    @pytest.mark.parametrize(
        ("rule", "settings", "wrong"),
        [
            ("token: secretsecretsecret", {"backplane_token": "secretsecretsecret"}, "other"),
            ("user: me, password: secret", {}, ""),
        ],
    )
    def test_who_may_not_is_told_what_to_give(
        self, tmp_path: Path, rule: str, settings: dict[str, str], wrong: str
    ) -> None:
        config = configured(tmp_path, f"max_payload: 8MB\nauthorization {{ {rule} }}")
        with nats_server(tmp_path, config) as server:
            stranger = backplane_at(server, backplane_token=wrong)
            with pytest.raises(ConfigError, match="backplane_credentials") as refused:
                asyncio.run(stranger.start())
            assert "other" not in str(refused.value)
            if not settings:
                settings = {"backplane": server.url.replace("//", "//me:secret@")}

            async def test(stack: AsyncExitStack) -> None:
                friend = backplane_at(server, largest=LARGEST, short=True, **settings)
                await stack.enter_async_context(running(friend, Heard()))

            go(test)

    @pytest.mark.parametrize("short", [True, False])
    def test_letters_cross_over_tls(self, tmp_path: Path, *, short: bool) -> None:
        pem = tmp_path / "server.pem"
        made_certificate(["127.0.0.1"], pem)
        config = configured(
            tmp_path, f'max_payload: 8MB\ntls {{ cert_file: "{pem}", key_file: "{pem}" }}'
        )
        with nats_server(tmp_path, config) as server:

            async def test(stack: AsyncExitStack) -> None:
                heard = Heard()
                a, b = (
                    backplane_at(server, short=short, relay_name=name, backplane_ca=str(pem))
                    for name in "ab"
                )
                await stack.enter_async_context(running(a, Heard()))
                await stack.enter_async_context(running(b, heard))
                assert a.is_short == b.is_short == short
                letters = [b"small", bytes(range(256)) * (LARGEST // 256), b"last"]
                for letter in letters:
                    assert a.send(b.name, letter)
                await until(lambda: len(heard.letters) == len(letters), "all letters")
                assert heard.letters == letters

            go(test)

    def test_a_server_that_takes_too_little_is_named_at_start(self, tmp_path: Path) -> None:
        with nats_server(tmp_path) as server:
            backplane = backplane_at(server, largest=2_000_000)
            expected = r"at most 1\.0 MB, .* 2\.0 MB: set max_payload: 3MB .* --max_message_mb"
            with pytest.raises(ConfigError, match=expected):
                asyncio.run(backplane.start())

    def test_a_server_that_is_not_there_yet_is_waited_for(self, tmp_path: Path) -> None:
        with nats_server(tmp_path, configured(tmp_path, "max_payload: 8MB")) as server:
            server.stop()

            async def test(stack: AsyncExitStack) -> None:
                backplane, heard = backplane_at(server), Heard()
                await backplane.start()
                async with asyncio.TaskGroup() as tasks:
                    carrier = tasks.create_task(backplane.run(heard))
                    await asyncio.to_thread(server.start)
                    await until(lambda: heard.ways == [True], "a connection")
                    carrier.cancel()

            go(test)

    def test_who_waits_says_once_why_and_when_it_is_over(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        closed = "max_payload: 8MB\nauthorization { token: secretsecretsecret }"
        with nats_server(tmp_path, configured(tmp_path, closed)) as server:
            server.stop()

            async def test(stack: AsyncExitStack) -> None:
                backplane, heard = backplane_at(server), Heard()
                await backplane.start()
                await asyncio.to_thread(server.start)
                async with asyncio.TaskGroup() as tasks:
                    carrier = tasks.create_task(backplane.run(heard))
                    await until(lambda: "--backplane_token" in caplog.text, "a refusal")
                    server.stop()
                    configured(tmp_path, "max_payload: 8MB")
                    await asyncio.to_thread(server.start)
                    await until(lambda: heard.ways == [True], "a connection")
                    carrier.cancel()

            go(test)
        said = [record.message for record in caplog.records if record.name.endswith(".nats")]
        assert said == list(dict.fromkeys(said)), "each trouble once"
        assert "cannot be reached" in said[0]
        assert said[-1].endswith("is there")

    def test_a_loss_is_one_line_and_its_end_another(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with nats_server(tmp_path, configured(tmp_path, "max_payload: 8MB")) as server:

            async def test(stack: AsyncExitStack) -> None:
                backplane = backplane_at(server)
                federation = Federation(Hub(Limits()), backplane, "a")
                await backplane.start()
                async with asyncio.TaskGroup() as tasks:
                    carrier = tasks.create_task(federation.run())
                    await until(lambda: backplane.connected, "a connection")
                    server.stop()
                    await until(lambda: "cannot be reached" in caplog.text, "a word of it")
                    async with await asyncio.start_server(hang_up, "127.0.0.1", server.port):
                        await until(lambda: len(attempts) > 1, "attempts in vain")
                    await asyncio.to_thread(server.start)
                    await until(lambda: backplane.connected, "a connection")
                    carrier.cancel()

            attempts: list[int] = []

            def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                attempts.append(1)
                writer.close()

            go(test)
        ours = [r for r in caplog.records if r.name.startswith("dreamrelay")]
        said = [record.message for record in ours if record.levelno >= logging.WARNING]
        assert len(said) == 2, said
        assert "cannot be reached" in said[0]
        assert said[1].endswith("is there")

    @pytest.mark.parametrize("name", ["backplane_credentials", "backplane_ca"])
    def test_a_file_that_cannot_be_used(self, tmp_path: Path, name: str) -> None:
        nowhere = {"backplane": "nats://here", name: str(tmp_path / "nothing")}
        settings = RelaySettings.load(nowhere, environ={})
        with pytest.raises(ConfigError, match=name):
            NatsBackplane(settings, LARGEST)
