"""A worker on a machine of its own, whose wire to the relay is cut and mended."""

from contextlib import ExitStack
from itertools import pairwise

import pytest

from dreamrelay.packet import Packet
from tests.fakes.machines import machines
from tests.fakes.peers import Camera, Person
from tests.support import ROOT, Program, until

pytestmark = [pytest.mark.xdist_group("e2e"), pytest.mark.timeout(300)]

TOKEN = "a-token-for-this-test"


def follows(before: Packet, packet: Packet) -> bool:
    """Whether a viewer may be shown it next: something newer, or the result of what stood in."""
    result = before.stand_in and not packet.stand_in
    return packet.seq > before.seq or (packet.seq == before.seq and result)


def test_the_show_goes_on_while_a_worker_is_cut_off_and_with_it_afterwards() -> None:
    with machines("r", "w") as net, ExitStack() as stack:
        net.wire("r")
        net.wire("w", "r")

        def start(machine: str, *words: str) -> Program:
            program = Program(*words, f"--token={TOKEN}", before=net.inside(machine))
            stack.callback(program.stop)
            return program

        flags = ["--host=0.0.0.0", "--port=8765", "--speech=off"]
        relay = start("r", str(ROOT / "server.py"), *flags, "--when_lost=pass", "--hold_seconds=1")
        relay.line("studio at")
        uri = f"--websocket_uri=ws://{net.address('r', 'w')}:8765"
        light = ["-m", "dreamrelay.chaos.programs", "worker", "--engine=light", uri]
        worker = start("w", *light, "--viewer=off", "--osc_port=none")
        address = f"ws://{net.address('r')}:8765/?token={TOKEN}"
        viewer = stack.enter_context(Person(address))
        camera = Camera(address)
        camera.start()
        stack.callback(camera.stop)

        def results(after: int) -> list[Packet]:
            return [packet for packet in viewer.results[after:] if not packet.stand_in]

        until(lambda: len(results(0)) > 5, 60, "results")
        net.cut("w", "r")
        until(lambda: viewer.results[-1].stand_in, 60, "the camera's pictures in their place")
        until(lambda: viewer.status.get("stand_in") == "pass", 60, "the word for it")
        worker.line("no relay")  # it has noticed, too, and looks for the relay anew
        before = len(viewer.results)
        net.mend("w", "r")
        until(lambda: len(results(before)) > 5, 60, "results of the worker")
        # What it had sent before it noticed is delivered now, on the connection that it gave up.
        until(lambda: viewer.status.get("workers") == 1, 60, "the end of the old connection")
        until(lambda: viewer.status.get("stand_in") == "", 60, "the word that they are back")
        assert all(follows(*pair) for pair in pairwise(viewer.results))
