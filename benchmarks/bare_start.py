"""What a start costs at least: ``python -m benchmarks.bare_start relay|picture``.

``relay`` imports what the relay imports of others and answers HTTP with nothing behind it.
``picture`` imports what a worker with the pocket model does, and computes one picture with its
graph: no relay, no stream, no prompt, nothing of ours. Each prints a line when it is there.
"""

import socket
import sys
from pathlib import Path
from typing import Any

MODEL = Path(__file__).parent.parent / "dreamrelay" / "engines" / "pocket_model"


def relay() -> None:
    """Listen, say where, answer."""
    # Late, because the other one shall not pay for them.
    import fastapi  # noqa: F401, PLC0415
    import jsonschema  # noqa: F401, PLC0415
    import orjson  # noqa: F401, PLC0415
    import prometheus_client  # noqa: F401, PLC0415
    import pybase64  # noqa: F401, PLC0415
    import uvicorn  # noqa: PLC0415
    import websockets.server  # noqa: F401, PLC0415
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.responses import PlainTextResponse  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    app = Starlette(routes=[Route("/healthz", lambda request: PlainTextResponse("ok"))])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off")).run([listening])


def picture() -> None:
    """Compute one picture of 256 x 256."""
    import cv2  # noqa: F401, PLC0415
    import numpy as np  # noqa: PLC0415
    import PIL.Image  # noqa: F401, PLC0415
    import pydantic  # noqa: F401, PLC0415
    import pythonosc  # noqa: F401, PLC0415
    import tokenizers  # noqa: F401, PLC0415
    import websockets.client  # noqa: F401, PLC0415

    # As ours does: its converters take half of the import.
    sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]
    import openvino  # noqa: PLC0415

    core = openvino.Core()
    graph = core.read_model(str(MODEL / "unet" / "model.onnx"))
    inputs: list[Any] = [
        np.zeros((1, 206, 32, 32), np.float32),
        np.zeros(1, np.int64),
        np.zeros((1, 77, 128), np.float32),
    ]
    graph.reshape(
        {port: list(given.shape) for port, given in zip(graph.inputs, inputs, strict=True)}
    )
    compiled = core.compile_model(graph, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    compiled.create_infer_request().infer(inputs)
    print("picture", flush=True)


if __name__ == "__main__":
    {"relay": relay, "picture": picture}[sys.argv[1]]()
