"""A picture to imitate and a ControlNet's maps, from the pages' doors to the engine and back."""

from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from dreamrelay.codec import decode, encode_bytes
from dreamrelay.hub import Hub
from tests.engines.pictures import noise_frame
from tests.engines.tiny_controls import save_guides, shapes_frame
from tests.engines.tiny_models import save_model
from tests.fakes.peers import People, Person
from tests.relay.pages import CameraPage
from tests.support import Program, RunningRelay, until

SHAPES = encode_bytes(shapes_frame(), quality=95)


@pytest.mark.timeout(400)
def test_pictures_to_imitate_and_maps(programs: Callable[..., Program], tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "sd15")
    guides = save_guides(folder)
    url = programs("server.py", "--port=0").line(r"studio at (http://[^/]+/)", 60)[1]
    relay = RunningRelay(url, Hub())
    programs(
        "main.py", f"--websocket_uri={relay.websocket}", f"--model={folder}", "--offline",
        f"--controlnet={guides['controlnets'][0]}", f"--ip_adapter={guides['ip_adapter']}",
        "--width=64", "--height=64", "--device=cpu", "--acceleration=none", "--osc-port=0",
        "--viewer=off", "--t_index_list=[10]", "--seed=3", "--text_to_picture=off", "--verbose=2",
    ).line("is ready", 200)  # fmt: skip
    http = httpx.Client(base_url=url, timeout=30)
    with http, People(relay.websocket) as people:
        viewer = people.viewer
        until(lambda: "ip_adapter_scale" in viewer.values, what="the worker's parameters")
        viewer.link.patch({"ip_adapter_scale": 4.0, "controlnet_scale": 0.0}, "test")
        until(lambda: viewer.values["ip_adapter_scale"] == 4.0)
        seq = 0

        def await_results(count: int) -> None:
            until(lambda: len(viewer.results) >= count, 60, "a result")

        def result() -> "np.ndarray[tuple[int, ...], np.dtype[np.int16]]":
            """The picture that is made now; the first ones may be on their way already."""
            nonlocal seq
            for _ in range(3):
                seq += 1
                people.producer.send(SHAPES, seq)
                await_results(seq)
            return decode(viewer.results[-1].data).astype(np.int16)

        plain = result()
        noise = encode_bytes(noise_frame(5), quality=95)
        told = http.put("/streams/default/reference", content=noise)
        assert (told.status_code, told.json()["reference"]) == (200, True)
        imitating = result()
        assert np.abs(imitating - plain).mean() > 2
        shapes = {"file": ("reference.jpg", SHAPES, "image/jpeg")}
        assert http.post("/api/ip_ref_image", files=shapes).json()["status"] == "success"
        assert http.get("/streams/default/reference").content == SHAPES
        assert np.abs(result() - imitating).mean() > 1
        assert http.post("/api/ip_ref_image/clear").json()["status"] == "success"
        assert np.abs(result() - plain).mean() < 1
        # The page's own pictures, which the worker makes as single ones, imitate it too.
        with CameraPage(relay, viewer.values["prompt"], empty=0) as page:
            page.camera = SHAPES
            until(lambda: len(page.shown) > 3, 60, "pictures on the page")
            before = decode(page.shown[-1]).astype(np.int16)
            files = {"file": ("reference.jpg", noise, "image/jpeg")}
            assert http.post("/api/ip_ref_image", files=files).status_code == 200
            seen = len(page.shown)
            until(lambda: len(page.shown) > seen + 3, 60, "more pictures on the page")
            assert np.abs(decode(page.shown[-1]).astype(np.int16) - before).mean() > 1
            assert http.post("/api/ip_ref_image/clear").status_code == 200
        # Maps are made while somebody watches them.
        with Person(relay.websocket, "viewer", "control") as watcher:
            viewer.link.patch({"controlnet_scale": 1.0}, "test")
            until(lambda: viewer.values["controlnet_scale"] == 1.0)
            result()
            maps = until(lambda: watcher.packets, what="maps")
            assert {track for _, track in maps} == {"control"}
            edges = decode(maps[-1][0].data)
            assert edges.shape == (64, 64, 3)
            assert 0.01 < (edges > 128).mean() < 0.3, "lines on black"
