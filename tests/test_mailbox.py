"""The mailbox: newest wins, nothing is counted twice or lost, and everybody is woken."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dreamrelay.errors import ClosedError
from dreamrelay.mailbox import Mailbox, MailboxStatistics

T = TypeVar("T")
PATIENCE = 20.0


def assert_books_balance(box: Mailbox[int]) -> MailboxStatistics:
    books = box.statistics()
    assert books.put == books.taken + books.replaced + books.waiting
    return books


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def putting(box: Mailbox[int], count: int) -> Callable[[], None]:
    def put_all() -> None:
        for number in range(count):
            box.put(number)

    return put_all


def taken_until_closed(box: Mailbox[T]) -> Iterator[T]:
    while True:
        try:
            item = box.take(PATIENCE)
        except ClosedError:
            return
        assert item is not None
        yield item


def joined(thread: threading.Thread) -> bool:
    thread.join(PATIENCE)
    return not thread.is_alive()


def test_the_newest_wins_and_the_old_one_is_counted() -> None:
    box: Mailbox[int] = Mailbox()
    assert box.try_take() is None
    assert box.put(1) is False
    assert box.put(2) is True
    assert box.take() == 2
    assert box.try_take() is None
    assert box.statistics() == MailboxStatistics(put=2, taken=1, replaced=1, waiting=0)


def test_taking_times_out() -> None:
    assert Mailbox[int]().take(timeout=0) is None
    assert Mailbox[int]().take(timeout=0.001) is None


def test_none_and_other_false_things_are_items_too() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(0)
    assert box.statistics().waiting == 1
    assert box.take(timeout=0) == 0


def test_merged_patches_lose_no_key() -> None:
    box: Mailbox[dict[str, int]] = Mailbox(merge=lambda old, new: old | new)
    box.put({"a": 1, "b": 1})
    assert box.put({"b": 2}) is True
    box.put({"c": 3})
    assert box.take() == {"a": 1, "b": 2, "c": 3}
    box.put({"d": 4})
    assert box.take() == {"d": 4}
    assert box.statistics() == MailboxStatistics(put=4, taken=2, replaced=2, waiting=0)


def test_a_merge_that_fails_leaves_everything_as_it_was() -> None:
    def refuse(old: int, new: int) -> int:
        raise ValueError("no")

    box: Mailbox[int] = Mailbox(merge=refuse)
    box.put(1)
    with pytest.raises(ValueError, match="no"):
        box.put(2)
    assert_books_balance(box)
    assert box.take(timeout=0) == 1


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(), min_size=1), min_size=1))
def test_merging_from_a_thread_ends_in_the_sum_of_all(patches: list[dict[str, int]]) -> None:
    box: Mailbox[dict[str, int]] = Mailbox(merge=lambda old, new: old | new)

    def write() -> None:
        for patch in patches:
            box.put(patch)
        box.close()

    thread = in_thread(write)
    seen: dict[str, int] = {}
    for patch in taken_until_closed(box):
        seen |= patch
    expected: dict[str, int] = {}
    for patch in patches:
        expected |= patch
    assert seen == expected
    assert joined(thread)


def test_after_closing_the_last_item_can_still_be_taken() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(1)
    box.close()
    box.close()
    assert box.closed
    with pytest.raises(ClosedError):
        box.put(2)
    assert box.take() == 1
    with pytest.raises(ClosedError):
        box.take()
    assert box.try_take() is None


async def test_after_closing_the_last_item_can_still_be_received() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(1)
    box.close()
    assert await box.receive() == 1
    with pytest.raises(ClosedError):
        await box.receive()


@pytest.mark.parametrize("writers", [1, 4])
def test_threads_lose_no_order_no_count_and_not_the_last_item(writers: int) -> None:
    """Each writer's items come in its order; what was put last of all is taken last."""
    box: Mailbox[tuple[int, int]] = Mailbox()
    count = 8000 // writers

    def put_last() -> None:
        box.put((-1, 0))

    start = threading.Barrier(writers + 1)
    end = threading.Barrier(writers, action=put_last)

    def write(writer: int) -> None:
        start.wait(PATIENCE)
        for number in range(count):
            box.put((writer, number))
        end.wait(PATIENCE)

    newest = [-1] * writers
    with ThreadPoolExecutor(writers) as pool:
        written = [pool.submit(write, writer) for writer in range(writers)]
        start.wait(PATIENCE)
        while True:
            item = box.take(PATIENCE)
            assert item is not None
            writer, number = item
            if writer < 0:
                break
            assert number > newest[writer]
            newest[writer] = number
            books = box.statistics()
            assert books.put == books.taken + books.replaced + books.waiting
        for future in written:
            future.result(PATIENCE)
    assert box.statistics().put == writers * count + 1
    assert box.statistics().waiting == 0


async def test_a_loop_receives_from_a_thread_in_order_and_always_the_last() -> None:
    box: Mailbox[int] = Mailbox()
    count = 20_000
    thread = in_thread(putting(box, count))
    newest = -1
    async with asyncio.timeout(PATIENCE):
        while newest < count - 1:
            item = await box.receive()
            assert item > newest
            newest = item
    assert joined(thread)
    assert assert_books_balance(box).put == count


async def test_a_slow_loop_sees_the_newest_next() -> None:
    box: Mailbox[int] = Mailbox()
    reading = asyncio.ensure_future(box.receive())
    await asyncio.sleep(0)
    for number in range(5):
        box.put(number)
    assert await reading == 4
    assert assert_books_balance(box).replaced == 4


def wait_for_readers(box: Mailbox[int], count: int) -> None:
    """Return when so many threads hang in ``take``: nothing public tells."""
    while len(vars(box._condition)["_waiters"]) < count:
        threading.Event().wait(0.001)


def test_putting_wakes_a_thread_that_waits() -> None:
    box: Mailbox[int] = Mailbox()
    taken: list[int | None] = []
    thread = in_thread(lambda: taken.append(box.take()))
    wait_for_readers(box, 1)
    box.put(5)
    assert joined(thread)
    assert taken == [5]


@pytest.mark.parametrize("readers", [1, 3])
def test_closing_wakes_every_thread(readers: int) -> None:
    box: Mailbox[int] = Mailbox()
    ends: list[str] = []

    def read() -> None:
        try:
            box.take()
        except ClosedError:
            ends.append("closed")

    threads = [in_thread(read) for _ in range(readers)]
    wait_for_readers(box, readers)
    box.close()
    assert all(joined(thread) for thread in threads)
    assert ends == ["closed"] * readers


async def test_closing_wakes_a_loop_from_another_thread() -> None:
    box: Mailbox[int] = Mailbox()
    reading = asyncio.ensure_future(box.receive())
    await asyncio.sleep(0)
    thread = in_thread(box.close)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ClosedError):
            await reading
    assert joined(thread)


async def test_a_cancelled_receive_loses_nothing() -> None:
    box: Mailbox[int] = Mailbox()
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: complaints.append(what))
    reading = asyncio.ensure_future(box.receive())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    box.put(1)
    await asyncio.sleep(0)  # the loop runs what the writer asked for
    assert complaints == []
    assert await box.receive() == 1


async def test_a_receive_cancelled_while_it_is_woken_loses_nothing() -> None:
    """The item comes, and before the reader runs again it is cancelled."""
    box: Mailbox[int] = Mailbox()
    reading = asyncio.ensure_future(box.receive())
    await asyncio.sleep(0)
    box.put(1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert box.try_take() == 1
    assert_books_balance(box)


async def test_timeouts_under_fire_lose_nothing() -> None:
    """A reader with a tiny time limit against a thread: each item is taken, replaced or waiting."""
    box: Mailbox[int] = Mailbox()
    count = 3000
    thread = in_thread(putting(box, count))
    seen: list[int] = []
    async with asyncio.timeout(PATIENCE):
        while not seen or seen[-1] < count - 1:
            try:
                async with asyncio.timeout(0.00001):
                    seen.append(await box.receive())
            except TimeoutError:
                continue
    assert joined(thread)
    assert seen == sorted(set(seen))
    books = assert_books_balance(box)
    assert books.taken == len(seen)


def test_a_reader_whose_loop_has_ended_costs_the_writer_nothing() -> None:
    box: Mailbox[int] = Mailbox()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await box.receive()

    asyncio.run(give_up())
    assert box.put(1) is False
    assert box.put(2) is True
    assert asyncio.run(box.receive()) == 2


class MailboxModel(RuleBasedStateMachine):
    """A mailbox is an optional item and three counts."""

    def __init__(self) -> None:
        super().__init__()
        self.box: Mailbox[int] = Mailbox()
        self.item: int | None = None
        self.closed = False

    @rule(item=st.integers())
    def put(self, item: int) -> None:
        if self.closed:
            with pytest.raises(ClosedError):
                self.box.put(item)
        else:
            assert self.box.put(item) is (self.item is not None)
            self.item = item

    @rule()
    def try_take(self) -> None:
        assert self.box.try_take() == self.item
        self.item = None

    @rule()
    def take(self) -> None:
        if self.closed and self.item is None:
            with pytest.raises(ClosedError):
                self.box.take(timeout=0)
        else:
            assert self.box.take(timeout=0) == self.item
            self.item = None

    @rule()
    def receive(self) -> None:
        if self.item is not None:
            assert asyncio.run(self.box.receive()) == self.item
            self.item = None

    @rule()
    def close(self) -> None:
        self.box.close()
        self.closed = True

    @invariant()
    def books_balance(self) -> None:
        books = assert_books_balance(self.box)
        assert books.waiting == (self.item is not None)


TestMailboxModel = MailboxModel.TestCase
TestMailboxModel.settings = settings(max_examples=60, deadline=None)
