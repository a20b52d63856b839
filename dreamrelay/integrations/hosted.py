"""A relay with a worker beside it as one ASGI app, for hosts that bring the server themselves.

The relay listens on this machine alone, where its worker finds it. Everybody else comes through
:attr:`Hosted.app`, as from another machine: with the relay's token.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from dreamrelay.config import RelaySettings, WorkerSettings
from dreamrelay.engines import Engine
from dreamrelay.errors import ConfigError
from dreamrelay.img2img import Transformed, transform
from dreamrelay.relay.app import Relay
from dreamrelay.relay.auth import make_token, write_private
from dreamrelay.worker import Worker

logger = logging.getLogger(__name__)

T = TypeVar("T")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DENIAL = "websocket.http.response"
LOOK_SECONDS = 0.05
STOP_SECONDS = 15.0


class Hosted:
    """One relay and its worker: ``start``, serve :attr:`app`, ``stop``.

    Args:
        relay: address and port do not count.
        worker: address, window and OSC do not count.
        open_to_all: ask nobody for a token.
        engine: one's own; else the settings say which.

    Raises:
        ConfigError: there is no token.
    """

    def __init__(
        self,
        relay: RelaySettings,
        worker: WorkerSettings,
        *,
        open_to_all: bool = False,
        engine: Engine | None = None,
    ) -> None:
        if relay.token is None and not open_to_all:
            raise ConfigError(
                "token: expected one, since everybody can reach this; set DREAMRELAY_RELAY_TOKEN"
            )
        if relay.tokens_file is not None and open_to_all:
            raise ConfigError("choose one: a file of tokens, or open to all")
        self._running = ExitStack()
        self._token = relay.token or make_token()
        self._guest = make_token() if open_to_all else None
        own: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": 0,
            "token": self._token,
            # The host is the proxy: it knows its names, and nobody is local but by a token.
            "behind_proxy": True,
            "allow_host": ["*"],
        }
        if self._guest is not None:
            own["tokens_file"] = str(self._guest_file(self._guest))
        self._relay = Relay(relay.model_copy(update=own))
        self.worker = worker
        self._engine = engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: BaseException | None = None

    @property
    def address(self) -> str:
        """Where the relay listens on this machine (``ws://127.0.0.1:port``)."""
        return f"ws://127.0.0.1:{self._relay.bind()}"

    def start(self) -> None:
        """Start relay and worker; return when the model is loaded.

        Raises:
            DreamRelayError: the worker cannot work; it says why.
        """
        try:
            self._start_relay()
            self._start_worker()
        except BaseException:  # whatever ends it, what was started ends too
            self.stop()
            raise

    def stop(self) -> None:
        """End both; idempotent."""
        self._running.close()

    def picture(self, data: bytes, prompt: str | None = None) -> Transformed:
        """Have one encoded picture transformed.

        Args:
            prompt: None: that of the stream.

        Raises:
            ProtocolError: no picture.
            EngineError: it could not be computed.
        """
        with TemporaryDirectory() as folder:
            path = Path(folder) / "picture"
            path.write_bytes(data)
            return transform(self.address, path, prompt, binary=True, token=self._token)

    def _guest_file(self, token: str) -> Path:
        """What somebody without a token may do: all but be a worker."""
        folder = self._running.enter_context(TemporaryDirectory())
        path = Path(folder) / "tokens.toml"
        write_private(path, f'[guest]\ntoken = "{token}"\nmay = ["publish", "control"]\n'.encode())
        return path

    def _start_relay(self) -> None:
        started = threading.Event()

        def ready() -> None:
            self._loop = asyncio.get_running_loop()
            started.set()

        def serve() -> None:
            try:
                asyncio.run(self._relay.serve(ready))
            finally:
                self._loop = None
                started.set()

        self._relay.bind()
        thread = threading.Thread(target=serve, name="relay", daemon=True)
        thread.start()
        self._running.callback(thread.join, STOP_SECONDS)
        self._running.callback(self._relay.stop)
        started.wait()

    def _start_worker(self) -> None:
        here: dict[str, Any] = {
            "websocket_uri": self.address,
            "websocket_port": None,
            "token": self._token,
        }
        alone: dict[str, Any] = {"viewer": "off", "osc_port": None, "osc_out": []}
        worker = Worker(self.worker.model_copy(update={**here, **alone}), engine=self._engine)

        def work() -> None:
            try:
                worker.run()
            except BaseException as error:  # noqa: BLE001 - raised by start(), or logged
                self._failure = error
                logger.error("the worker has ended: %s", error)

        thread = threading.Thread(target=work, name="worker", daemon=True)
        thread.start()
        self._running.callback(thread.join, STOP_SECONDS)
        self._running.callback(worker.stop)
        while thread.is_alive() and worker.state != "live":
            thread.join(LOOK_SECONDS)
        if self._failure is not None:
            raise self._failure

    # For everybody else --------------------------------------------------------------------------

    async def app(self, scope: Message, receive: Receive, send: Send) -> None:
        """The relay as an ASGI app, in whatever event loop it is called."""
        if scope["type"] == "lifespan":
            return  # it has its own: start() and stop()
        if self._loop is None:
            raise ConfigError("the relay does not run: start() comes before")
        here, there = asyncio.get_running_loop(), self._loop
        denies = scope["type"] == "websocket" and DENIAL not in scope.get("extensions", {})

        async def receive_here() -> Message:
            return await _in(here, receive)

        async def send_here(message: Message) -> None:
            if denies and message["type"].startswith(DENIAL):
                # This host cannot answer a WebSocket's request with a page.
                if message["type"] == f"{DENIAL}.body":
                    return
                message = {"type": "websocket.close", "code": 1008, "reason": ""}
            await _in(here, lambda: send(message))

        seen = self._seen(scope)
        await _in(there, lambda: self._relay.app(seen, receive_here, send_here))

    def _seen(self, scope: Message) -> Message:
        """The request as a proxy would hand it on."""
        client = (scope.get("client") or ("", 0))[0]
        headers = [pair for pair in scope["headers"] if pair[0] != b"x-forwarded-for"]
        headers.append((b"x-forwarded-for", str(client).encode()))
        if self._guest is not None and all(name != b"authorization" for name, _ in headers):
            headers.append((b"authorization", f"Bearer {self._guest}".encode()))
        # A connection of uvicorn's is not what is at the other end.
        state = {
            name: scope["state"][name] for name in scope.get("state", {}) if name != "transport"
        }
        extensions = {**(scope.get("extensions") or {}), DENIAL: {}}
        return {**scope, "headers": headers, "extensions": extensions, "state": state}


async def _in(loop: asyncio.AbstractEventLoop, work: Callable[[], Awaitable[T]]) -> T:
    """Await something in another thread's event loop; cancelled with this.

    Raises:
        BrokenPipeError: that loop has ended.
    """
    handed: Future[T] = Future()

    async def awaited() -> T:
        return await work()

    def begin() -> None:  # only here is there anything to await: a loop that has ended leaves none
        task = loop.create_task(awaited())
        task.add_done_callback(settle)
        handed.add_done_callback(lambda _: _call(loop, task.cancel))

    def settle(task: asyncio.Task[T]) -> None:
        if task.cancelled():
            handed.cancel()
            return
        error = task.exception()
        if not handed.set_running_or_notify_cancel():
            return  # nobody waits any more
        if error is not None:
            handed.set_exception(error)
        else:
            handed.set_result(task.result())

    if not _call(loop, begin):
        raise BrokenPipeError("the event loop at the other end has ended")
    return await asyncio.wrap_future(handed)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> bool:
    """Call something in another thread's event loop, soon; False if that has ended."""
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        return False
    return True
