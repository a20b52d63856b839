"""One place, newest wins, and a count of what it replaced.

The mailbox is the only thing that crosses from one thread to another, or from a thread to an event
loop. A queue with a length would be a delay nobody declared; here a slow reader costs the writer
nothing and sees the newest item next. ``merge`` makes the place hold a sum instead: patches of
parameters lose no key.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from dreamrelay.errors import ClosedError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MailboxStatistics:
    """What went through a mailbox: ``put == taken + replaced + waiting``."""

    put: int
    taken: int
    replaced: int
    waiting: int


class Mailbox(Generic[T]):
    """Hand the newest item from any number of writers to one reader.

    ``merge(old, new)`` says what stays when an item is put upon one that nobody has taken; without
    it the new one replaces the old, which counts as replaced (merged ones too: two became one).

    Writers: ``put`` never blocks and may be called from any thread. Readers: ``take`` blocks a
    thread, ``receive`` waits in an event loop. After ``close`` the waiting item can still be taken;
    then both raise :class:`ClosedError`.
    """

    def __init__(self, merge: Callable[[T, T], T] | None = None) -> None:
        self._merge = merge
        self._condition = threading.Condition()
        self._item: list[T] = []
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        self._closed = False
        self._put = self._taken = self._replaced = 0

    def put(self, item: T) -> bool:
        """Leave ``item`` for the reader; True if it replaced (or merged with) one.

        Raises:
            ClosedError: the mailbox was closed.
        """
        with self._condition:
            if self._closed:
                raise ClosedError("the mailbox is closed")
            self._put += 1
            replaced = bool(self._item)
            if replaced:
                self._replaced += 1
                item = self._merge(self._item[0], item) if self._merge else item
            self._item = [item]
            self._wake()
            return replaced

    def try_take(self) -> T | None:
        """Take the item if there is one."""
        with self._condition:
            return self._pop() if self._item else None

    def take(self, timeout: float | None = None) -> T | None:
        """Wait for an item and take it; None after ``timeout`` seconds without one.

        Raises:
            ClosedError: the mailbox was closed and is empty.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._item or self._closed, timeout)
            if self._item:
                return self._pop()
            if self._closed:
                raise ClosedError("the mailbox is closed")
            return None

    async def receive(self) -> T:
        """Wait in an event loop for an item and take it. One reader at a time.

        Raises:
            ClosedError: the mailbox was closed and is empty.
        """
        loop = asyncio.get_running_loop()
        while True:
            with self._condition:
                if self._item:
                    return self._pop()
                if self._closed:
                    raise ClosedError("the mailbox is closed")
                future: asyncio.Future[None] = loop.create_future()
                self._waiter = (loop, future)
            await future

    def close(self) -> None:
        """Let readers and writers go; idempotent."""
        with self._condition:
            self._closed = True
            self._wake()

    @property
    def closed(self) -> bool:
        return self._closed

    def statistics(self) -> MailboxStatistics:
        with self._condition:
            return MailboxStatistics(self._put, self._taken, self._replaced, len(self._item))

    def _pop(self) -> T:
        self._taken += 1
        return self._item.pop()

    def _wake(self) -> None:
        self._condition.notify_all()
        if self._waiter is not None:
            loop, future = self._waiter
            self._waiter = None
            try:
                loop.call_soon_threadsafe(_resolve, future)
            except RuntimeError:
                # The reader's loop has ended, and the reader with it: nobody is left to wake.
                return


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
