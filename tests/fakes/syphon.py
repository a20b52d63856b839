"""syphon-python 0.2 without a Mac: signatures from ``syphon_contract.json``, behaviour as its
source has it.

The contract is made from the published wheel by ``tests/fakes/wheels.py``. A call with arguments
that the real one would not take, or of something that is not there, fails here as it would there.
Behaviour, from the source:

- the directory is made by the first look into it and empty until servers have answered; answers
  and news come to the main thread's run loop, and a look turns that of its own thread, for
  ``run_loop_interval`` seconds;
- ``has_new_frame`` is true until ``new_frame_image`` is read, which consumes it;
- a client of a server that has gone is no longer valid;
- textures can be RGBA8 or BGRA8, keep their order, and begin at the bottom.
"""

import inspect
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fakes.wheels import contract

CONTRACT = contract("syphon-python")
RGBA8, BGRA8 = 70, 80

Pixels = NDArray[np.uint8]


class Texture:
    """Of Metal: its rows as they lie there."""

    def __init__(self, width: int, height: int, form: int = RGBA8) -> None:
        self.data = np.zeros((height, width, 4), np.uint8)
        self._form = form

    def width(self) -> int:
        return self.data.shape[1]

    def height(self) -> int:
        return self.data.shape[0]

    def pixelFormat(self) -> int:
        return self._form


@dataclass
class Shared:
    """What a server has published last."""

    name: str
    app_name: str
    texture: Texture | None = None
    frame: int = 0
    uuid: str = ""


@dataclass
class Mac:
    """What the programs of one machine share."""

    servers: dict[str, Shared] = field(default_factory=dict)
    has_metal: bool = True
    asked: bool = False
    """The directory of this process has asked who there is."""
    heard: list[Shared] = field(default_factory=list)
    open_clients: int = 0
    open_directories: int = 0

    def show(self, name: str, rgb: Pixels, form: int = RGBA8, app: str = "Other") -> None:
        """Publish as another program does."""
        shared = self.servers.setdefault(name, Shared(name, app, uuid=f"uuid of {name}"))
        texture = Texture(rgb.shape[1], rgb.shape[0], form)
        texture.data[:, :, :3] = rgb if form == RGBA8 else rgb[:, :, ::-1]
        texture.data[:, :, 3] = 255
        texture.data = texture.data[::-1].copy()
        shared.texture, shared.frame = texture, shared.frame + 1

    def seen(self, name: str) -> Pixels:
        """What a receiver of that name sees, R, G, B, upright."""
        texture = self.servers[name].texture
        assert texture is not None
        return texture.data[::-1, :, :3]

    def modules(self) -> dict[str, ModuleType]:
        """What ``import syphon`` finds."""
        root, utils, raw, images = (
            ModuleType(name)
            for name in ("syphon", "syphon.utils", "syphon.utils.raw", "syphon.utils.numpy")
        )
        for name, behaviour in (
            ("SyphonMetalServer", _Server),
            ("SyphonMetalClient", _Client),
            ("SyphonServerDirectory", _Directory),
        ):
            vars(root)[name] = _class(name, behaviour, self)
        vars(root)["utils"] = utils
        vars(utils).update(raw=raw, numpy=images)
        vars(raw)["create_mtl_texture"] = _function(
            "syphon.utils.raw:create_mtl_texture",
            lambda _, width, height, form: Texture(width, height, form),
        )
        vars(images)["copy_image_to_mtl_texture"] = _function(
            "syphon.utils.numpy:copy_image_to_mtl_texture", _to_texture
        )
        vars(images)["copy_mtl_texture_to_image"] = _function(
            "syphon.utils.numpy:copy_mtl_texture_to_image", _to_image
        )
        return {module.__name__: module for module in (root, utils, raw, images)}


def _to_texture(image: Pixels, texture: Texture) -> None:
    assert image.ndim == 3, "Image has to be of shape (m, n, 4)"
    assert image.shape[2] == 4, "Image has to be of shape (m, n, 4)"
    assert image.shape == texture.data.shape, "the texture has another size: memory is overwritten"
    texture.data[:] = image


def _to_image(texture: Texture) -> Pixels:
    if texture.pixelFormat() not in (RGBA8, BGRA8):
        raise Exception("Not correct pixel format")
    image = np.frombuffer(texture.data.tobytes(), np.uint8)
    return image.reshape(texture.data.shape)


class Device:
    """A graphics processor."""

    def name(self) -> str:
        return "Apple M2"


class _Server:
    def __init__(
        self, mac: Mac, name: str, device: Any, command_queue: Any, is_private: bool
    ) -> None:
        if not mac.has_metal:
            raise RuntimeError("No Metal device is available")
        self.mac, self.name, self.device = mac, name, device or Device()
        self.has_clients = False
        mac.servers[name] = Shared(name, "Python", uuid=f"uuid of {name}")

    def publish_frame_texture(
        self, texture: Texture, region: Any, size: Any, is_flipped: bool, *_: Any
    ) -> None:
        shared = self.mac.servers[self.name]
        copy = Texture(texture.width(), texture.height(), texture.pixelFormat())
        copy.data[:] = texture.data[::-1] if is_flipped else texture.data
        shared.texture, shared.frame = copy, shared.frame + 1

    def stop(self) -> None:
        self.mac.servers.pop(self.name, None)


class _Client:
    def __init__(self, mac: Mac, description: Any, device: Any, *_: Any) -> None:
        if not mac.has_metal:
            raise RuntimeError("No Metal device is available")
        self.mac, self.shared = mac, description
        self.frame = 0
        self.stopped = False
        mac.open_clients += 1

    @property
    def is_valid(self) -> bool:
        return not self.stopped and self.mac.servers.get(self.shared.name) is self.shared

    @property
    def has_new_frame(self) -> bool:
        return self.is_valid and self.shared.frame != self.frame

    @property
    def new_frame_image(self) -> Texture | None:
        if not self.is_valid:
            return None
        self.frame = self.shared.frame
        texture: Texture | None = self.shared.texture
        return texture

    def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            self.mac.open_clients -= 1


class _Directory:
    def __init__(self, mac: Mac) -> None:
        self.mac = mac
        self.run_loop_interval = 1.0
        mac.open_directories += 1

    def update_run_loop(self) -> None:
        assert self.run_loop_interval < 0.1, "each look takes that long"
        if self.mac.asked and threading.current_thread() is threading.main_thread():
            self.mac.heard = list(self.mac.servers.values())

    @property
    def servers(self) -> list[Shared]:
        self.update_run_loop()
        self.mac.asked = True
        return list(self.mac.heard)

    def close(self) -> None:
        self.mac.open_directories -= 1


def _class(name: str, behaviour: type, mac: Mac) -> type:
    """A class with exactly the members of the contract, own and inherited."""
    members: dict[str, Any] = {}
    for base in (*CONTRACT["classes"][name]["bases"], name):
        members.update(CONTRACT["classes"].get(base, {}))
    members.pop("bases")
    made: dict[str, Any] = {}
    for member, form in members.items():
        if member == "__init__":
            made["__init__"] = _initialiser(form, behaviour, mac)
        elif form == "property":
            made[member] = property(_getter(member))
        elif not member.endswith("="):
            made[member] = _method(member, form)
    attributes = {"SyphonMetalServer": ["device"], "SyphonServerDirectory": ["run_loop_interval"]}
    for member in attributes.get(name, []):  # set in the real one's __init__
        made[member] = property(_getter(member), _setter(member))
    return types.new_class(name, (), {}, lambda space: space.update(made))


def _getter(member: str) -> Callable[[Any], Any]:
    return lambda self: getattr(self._real, member)


def _setter(member: str) -> Callable[[Any, Any], None]:
    return lambda self, value: setattr(self._real, member, value)


def _initialiser(form: str, behaviour: type, mac: Mac) -> Callable[..., None]:
    signature = _signature(form)

    def initialise(self: Any, *positional: Any, **named: Any) -> None:
        bound = _bound(signature, self, *positional, **named)
        self._real = behaviour(mac, *bound[1:])

    return initialise


def _method(name: str, form: str) -> Callable[..., Any]:
    signature = _signature(form)

    def call(self: Any, *positional: Any, **named: Any) -> Any:
        return getattr(self._real, name)(*_bound(signature, self, *positional, **named)[1:])

    return call


def _function(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    signature = _signature(CONTRACT["functions"][name])
    return staticmethod(lambda *given, **named: real(*_bound(signature, *given, **named)))


def _bound(signature: inspect.Signature, *positional: Any, **named: Any) -> list[Any]:
    bound = signature.bind(*positional, **named)
    bound.apply_defaults()
    return list(bound.arguments.values())


def _signature(form: str) -> inspect.Signature:
    space: dict[str, Any] = {"Metal": types.SimpleNamespace(MTLPixelFormatRGBA8Unorm=RGBA8)}
    exec(f"def f{form}: ...", space)
    return inspect.signature(space["f"])
