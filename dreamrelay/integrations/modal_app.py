"""The relay and a worker on Modal's cards: ``modal deploy -m dreamrelay.integrations.modal_app``.

Streams live in one process, so there is one container, and everybody meets in it. What it runs is
said when it is deployed, by the environment: all of ``DREAMRELAY_WORKER_...`` and
``DREAMRELAY_RELAY_...`` (but no token), and

- ``DREAMRELAY_MODAL_GPU``: the card, ``L4`` if not set;
- ``DREAMRELAY_MODAL_OPEN``: ``1`` asks nobody for a token;
- ``DREAMRELAY_MODAL_SECRET``: name of the secret with ``DREAMRELAY_RELAY_TOKEN`` and, for gated
  models, ``HF_TOKEN``; ``dreamrelay`` if not set, empty for none.

Models are kept in the volume ``dreamrelay-models``.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import modal

from dreamrelay.config import RelaySettings, WorkerSettings
from dreamrelay.errors import ConfigError
from dreamrelay.integrations.hosted import Hosted

NAME = "dreamrelay"
GPU = "L4"
MODEL = "stabilityai/sd-turbo"
MODELS = "/models"
PYTHON = "3.12"
DAY = 24 * 60 * 60
IDLE_SECONDS = 300
LOAD_SECONDS = 30 * 60
"""A large model is fetched once, and then lies in the volume."""

PEERS = 256

_CARRIED = ("DREAMRELAY_WORKER_", "DREAMRELAY_RELAY_", "DREAMRELAY_MODAL_")
_NAMING = ("MODEL", "MODEL_ID_OR_PATH", "ENGINE")
"""One of these says what is to run."""

_OWN = re.compile(r"dreamrelay\[(?P<extras>[^\]]+)\]")


def requirements(pyproject: Path, *extras: str) -> list[str]:
    """What a package with these extras needs, its own extras followed.

    Raises:
        ConfigError: there is no such file: this is no checkout.
    """
    try:
        project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    except FileNotFoundError:
        raise ConfigError(f"expected {pyproject}: deploy from a checkout of dreamrelay") from None

    def needed(entries: list[str]) -> Iterator[str]:
        for entry in entries:
            own = _OWN.fullmatch(entry)
            if own is None:
                yield entry
                continue
            for extra in own["extras"].split(","):
                yield from needed(project["optional-dependencies"][extra.strip()])

    return list(
        dict.fromkeys(needed([*project["dependencies"], f"dreamrelay[{','.join(extras)}]"]))
    )


def carried(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the environment goes with the app; tokens do not: they belong into a secret."""
    return {
        name: value
        for name, value in environ.items()
        if name.startswith(_CARRIED) and not name.endswith("_TOKEN")
    }


def hosted(environ: Mapping[str, str], **options: Any) -> Hosted:
    """The relay and the worker that the environment asks for.

    Raises:
        ConfigError: something of it is wrong, or there is no token.
    """
    if not any(environ.get(f"DREAMRELAY_WORKER_{name}") for name in _NAMING):
        environ = {**environ, "DREAMRELAY_WORKER_MODEL": MODEL}
    return Hosted(
        RelaySettings.load(environ=environ),
        WorkerSettings.load(environ=environ),
        open_to_all=environ.get("DREAMRELAY_MODAL_OPEN") == "1",
        **options,
    )


def make_image(environ: Mapping[str, str], package: Path) -> modal.Image:
    """The container: Python, what relay and worker need, and this package with its data."""
    needed = requirements(package.parent / "pyproject.toml", "relay", "worker")
    return (
        modal.Image.debian_slim(python_version=PYTHON)
        .uv_pip_install(*needed)
        .env({"HF_HOME": f"{MODELS}/huggingface", **carried(environ)})
        .add_local_dir(package, f"/root/{package.name}", ignore=["**/__pycache__", "**/*.pyc"])
    )


def make_secrets(environ: Mapping[str, str]) -> list[modal.Secret]:
    name = environ.get("DREAMRELAY_MODAL_SECRET", NAME)
    return [modal.Secret.from_name(name)] if name else []


# In the container this module is read again. What it is made of was decided when it was deployed,
# but there must be as many secrets, images and volumes: so the environment goes along.
image = (
    make_image(os.environ, Path(__file__).resolve().parent.parent)
    if modal.is_local()
    else modal.Image.debian_slim(python_version=PYTHON)
)

app = modal.App(NAME, image=image, include_source=False)  # the image has all of it, data too


@app.cls(
    gpu=os.environ.get("DREAMRELAY_MODAL_GPU", GPU),
    secrets=make_secrets(os.environ),
    volumes={MODELS: modal.Volume.from_name("dreamrelay-models", create_if_missing=True)},
    max_containers=1,
    scaledown_window=IDLE_SECONDS,
    startup_timeout=LOAD_SECONDS,
    timeout=DAY,
)
@modal.concurrent(max_inputs=PEERS)
class Studio:
    """The container with the card: everybody meets here."""

    @modal.enter()
    def start(self) -> None:
        """Load the model."""
        self.hosted = hosted(os.environ)
        self.hosted.start()

    @modal.asgi_app()
    def web(self) -> Any:
        """The relay: studio, WebSockets, MJPEG, REST."""
        return self.hosted.app

    @modal.method()
    def picture(self, data: bytes, prompt: str | None = None) -> bytes:
        """One encoded picture there and back."""
        return self.hosted.picture(data, prompt).data

    @modal.exit()
    def stop(self) -> None:
        self.hosted.stop()


@app.function()
@modal.fastapi_endpoint(method="GET")
def health() -> dict[str, str]:
    """Whether the app is deployed; wakes no card."""
    return {"status": "ok", "service": "livestream-processor"}
