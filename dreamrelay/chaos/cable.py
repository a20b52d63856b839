"""A cable that can be pulled: a TCP proxy on this machine.

Nothing is closed when it is pulled. Bytes simply come no more, as when a switch loses its power, so
that both ends have to notice it by themselves; plugged in again, it delivers what had been sent.
"""

import asyncio
import threading
from types import TracebackType

PIECE = 64 * 1024


class _Unplugged(Exception):
    """The end."""


class Cable:
    """Leads to a port of this machine while the ``with`` lasts.

    Args:
        target: that port.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        """Where programs connect to."""
        self._loop = asyncio.new_event_loop()
        self._plugged = asyncio.Event()
        self._plugged.set()
        self._ready = threading.Event()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="cable", daemon=True)

    def __enter__(self) -> "Cable":
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def pull(self) -> None:
        """From now on nothing passes."""
        self._loop.call_soon_threadsafe(self._plugged.clear)

    def plug(self) -> None:
        """All passes again."""
        self._loop.call_soon_threadsafe(self._plugged.set)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as joints:

                def connect(near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
                    joints.create_task(self._join(near, to_near))

                server = await asyncio.start_server(connect, "127.0.0.1", 0)
                self.port = int(server.sockets[0].getsockname()[1])
                self._ready.set()
                await self._end.wait()
                server.close()
                raise _Unplugged  # which ends what is joined
        except* _Unplugged:
            pass

    async def _join(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        await self._plugged.wait()
        try:
            far, to_far = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            to_near.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass_on(near, to_far))
                ways.create_task(self._pass_on(far, to_near))
        except* OSError:
            pass
        finally:
            to_near.transport.abort()
            to_far.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            await self._plugged.wait()
            writer.write(data)
            await writer.drain()
        await self._plugged.wait()
        raise ConnectionResetError("this end has gone")
