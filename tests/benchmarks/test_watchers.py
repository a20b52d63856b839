"""Viewers that look at what they are sent, and what is known of other processes."""

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from benchmarks.clients import connect
from benchmarks.machine import can_count_cpu, open_sockets, resident_bytes
from benchmarks.watchers import Stamper, Watcher, play
from benchmarks.worker import make_picture
from dreamrelay.packet import Packet
from dreamrelay.protocol.native import encode_packet

PICTURE = make_picture(64, 64)


def message(opcode: int, payload: bytes) -> bytes:
    """A whole message as a server sends it."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x80 | opcode, size) + payload
    return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload


def picture(seq: int) -> bytes:
    return message(2, encode_packet(Packet.of(PICTURE, seq=seq), "output"))


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's end of a connection, and its server's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(30)
        yield ours, theirs


def test_pictures_are_read_however_they_are_cut(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    watcher = Watcher(ours)
    wire = message(1, b'{"type":"welcome"}') + picture(1) + message(9, b"") + picture(2)
    for at in range(0, len(wire), 11):
        theirs.sendall(wire[at : at + 11])
        watcher.pump()
    assert [seen.seq for seen in watcher.seen] == [1, 2]
    assert all(seen.age >= 0 for seen in watcher.seen)
    credit = theirs.recv(1000)
    assert credit.count(b'"credit"') == 2


def test_a_slow_one_takes_no_more_than_it_may(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    watcher = Watcher(ours, credit=False)
    wire = picture(7)
    theirs.sendall(wire)
    taken = 0
    while not watcher.seen:
        taken += watcher.drain(100)
        assert taken <= len(wire)
    assert taken == len(wire)
    assert watcher.drain(100) == 0


@pytest.mark.parametrize("goodbye", [message(8, b"\x03\xe8"), None])
def test_that_the_relay_goes_is_heard(
    ends: tuple[socket.socket, socket.socket], goodbye: bytes | None
) -> None:
    ours, theirs = ends
    watcher = Watcher(ours)
    if goodbye is None:
        theirs.close()
    else:
        theirs.sendall(goodbye)
    with pytest.raises(RuntimeError, match="the relay"):
        watcher.pump()


def test_each_picture_is_sent_with_its_number(ends: tuple[socket.socket, socket.socket]) -> None:
    stamper = Stamper(ends[0], PICTURE)
    looked: list[int] = []
    sent = play(stamper, [], 0.0, 1000, lambda: looked.append(1), lambda: stamper.sent >= 3)
    assert sent == stamper.sent == len(looked) == 3


def test_who_cannot_connect_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        connect(port)  # a socket that is left open is an error of the test by itself


@pytest.mark.skipif(not can_count_cpu(), reason="needs /proc")
def test_memory_and_sockets_of_a_process_are_known() -> None:
    with socket.socket():
        assert open_sockets(os.getpid()) >= 1
    assert resident_bytes(os.getpid()) > 1_000_000
