"""The engine port, documented for whoever adds an engine."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from dreamrelay.codec import Frame
from dreamrelay.engines.licences import UNKNOWN, Licence
from dreamrelay.errors import ConfigError, EngineError, MissingExtra, ParameterError
from dreamrelay.importer import Entry

Token = TypeVar("Token")
Thing = TypeVar("Thing", covariant=True)
Other = TypeVar("Other")

_SHARED = Entry("dreamrelay.engines.shared:SharedEngine", "a shared engine", "worker")

Mask = NDArray[np.uint8]
"""uint8, H x W: 255 where the picture is shown, 0 where the frame stays, softly between."""

FRAME_ERRORS = (EngineError, ParameterError, MissingExtra, ConfigError)
"""What may be wrong with one picture; the latter two where its mask cannot be made here."""

Stage = Literal["loading", "compiling", "warming"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long piece of work is.

    Attributes:
        stage: what kind of work.
        text: one line for people ("text encoder, 340 MB").
        fraction: 0..1, or None when nobody can say.
    """

    stage: Stage
    text: str
    fraction: float | None = None


Report = Callable[[Progress], None]
"""Called by :meth:`Engine.load` from its thread. It raises ClosedError to stop the work."""


@dataclass(frozen=True, slots=True)
class Result(Generic[Token]):
    """A picture and the token of the frame it was made from.

    ``repeated`` says that it is the previous picture again (the similar-image filter skipped the
    frame).
    """

    frame: Frame
    token: Token
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Coming(Generic[Thing]):
    """What is on its way here, pictures from a card say. It is had by a call, which waits for it.

    Attributes:
        take: the call.
        signal: returns once the call need not wait; None: nothing tells, or it is here.
    """

    take: Callable[[], Thing]
    signal: Callable[[], object] | None = None

    def __call__(self) -> Thing:
        return self.take()

    def wait(self) -> None:
        """Return once a call need not wait. In any thread, and of nothing that is wrong: the call
        says that.
        """
        if self.signal is not None:
            self.signal()

    def then(self, make: Callable[[Thing], Other]) -> "Coming[Other]":
        """What is made of it when it is called for."""
        return Coming(lambda: make(self.take()), self.signal)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one of several streams over one model wants, see :meth:`Engine.infer_together`.

    Attributes:
        engine: the stream.
        frame, token, mask: as :meth:`Engine.infer` takes them.
        patch: a single picture under it, as :meth:`Engine.infer_once` makes it; None: the frame is
            the stream's next.
    """

    engine: "Engine"
    frame: Frame
    token: Any
    mask: Mask | None = None
    patch: Mapping[str, Any] | None = None

    def begin(self) -> Coming[Result[Any] | None]:
        """Begin the stream's next frame, see :meth:`Engine.begin`."""
        return self.engine.begin(self.frame, self.token, self.mask)

    def alone(self) -> Result[Any] | None:
        """What the engine makes of it by itself."""
        if self.patch is None:
            return self.engine.infer(self.frame, self.token, self.mask)
        picture = self.engine.infer_once(self.frame, self.patch, self.mask)
        return Result(picture, self.token)


FrameError = EngineError | ParameterError | MissingExtra | ConfigError

Outcome = Result[Any] | FrameError | None
"""What a turn comes to: a picture, none yet, or what was wrong with it."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What is decided when an engine is opened and cannot be changed between two frames.

    Attributes:
        engine: a name of the catalogue, or ``auto`` (chosen by the model).
        model: ``pocket``, a hub id, or a local folder in diffusers format.
        width, height: pixels of the pictures made, multiples of 8; None: the model's own.
        device: ``auto``, ``cuda``, ``mps``, ``cpu``.
        acceleration: ``auto``, ``none`` (full precision), ``openvino``, ``onnx``, ...; what cannot
            work raises.
        frame_buffer_size: frames in one denoising batch, 1 or more.
        use_denoising_batch: the stream batch (True), or all steps of a frame after one another.
        loras: LoRA file or hub id to its scale.
        use_lcm_lora: add the LCM-LoRA, which lets Stable Diffusion 1.5 do with few steps; None:
            where it fits and can be had.
        use_tiny_vae: decode with the tiny autoencoder (faster, a little softer); None: where it
            fits and can be had.
        parameters: the first patch, over the model's defaults.
        offline: never ask a hub.
        controlnets: what ControlNets see, ``depth``, ``canny``, ``scribble``, each perhaps with the
            model to use (``depth=some/model``).
        depth_model: hub id or folder of the depth estimation; None: the usual one.
        ip_adapter: hub id, folder or file of an IP-Adapter; None: no image prompts.
        prompt_pictures: folder of pictures that may be chosen by name as image prompt.
        profile: what to start from, named after a program that people know; None: the model's own.
        precision: ``auto``, ``float32``, ``float16`` or ``bfloat16``.
        processors: of the processors, those that may be chosen, each perhaps with its model
            (``lightning``, ``standard=some/model``).
        lightning_weights: hub id or folder with the U-Nets of SDXL-Lightning; None: the usual ones.
        lightning_steps: for which numbers of steps to load one; empty: 4.
        compile_warmup: when ``compile`` compiles: ``start``, before the first frame;
            ``background``, in a second process while the plain form serves; ``auto``.
        batch: pictures of several streams in one call of the model, at most; None: as many as pay.
    """

    engine: str = "auto"
    model: str = "pocket"
    width: int | None = None
    height: int | None = None
    device: str = "auto"
    acceleration: str = "auto"
    frame_buffer_size: int = 1
    use_denoising_batch: bool = True
    loras: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    offline: bool = False
    use_lcm_lora: bool | None = None
    use_tiny_vae: bool | None = None
    controlnets: tuple[str, ...] = ()
    depth_model: str | None = None
    ip_adapter: str | None = None
    prompt_pictures: str | None = None
    profile: str | None = None
    precision: str = "auto"
    processors: tuple[str, ...] = ()
    lightning_weights: str | None = None
    lightning_steps: tuple[int, ...] = ()
    batch: int | None = None
    compile_warmup: str = "auto"


class Engine(ABC):
    """Frames in, frames out, under parameters. Used by one thread after :meth:`load`.

    Constructed with an :class:`EngineSettings`; the constructor checks them (ConfigError,
    MissingExtra) and loads nothing.
    """

    name: ClassVar[str]
    parameters_type: ClassVar[type[BaseModel]]
    """The parameters with types, bounds and help; its JSON Schema is what the relay publishes."""

    width: int
    height: int
    """Pixels of the frames that :meth:`infer` takes and returns; known after :meth:`load`.

    Where ``width`` and ``height`` are parameters too, they change when these are applied.
    """

    model_name: str
    """What is loaded, for people ("pocket", "stabilityai/sd-turbo")."""

    device_name: str
    """Where it runs, for people ("cpu", "cuda:0 NVIDIA RTX 4090"); known after :meth:`load`."""

    @abstractmethod
    def load(self, report: Report) -> None:
        """Load the model and warm it up; pictures of the warm-up are never seen by anybody.

        Raises:
            EngineError: missing, gated, pickled or broken model, or too little memory; says the
                next step.
        """

    @property
    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """The values in force, as JSON would have them."""

    @abstractmethod
    def apply(self, patch: Mapping[str, Any]) -> None:
        """Change parameters before the next frame: the whole patch or nothing of it.

        Raises:
            ParameterError: a name is unknown or a value is out of its bounds.
        """

    @abstractmethod
    def infer(self, frame: Frame, token: Token, mask: Mask | None = None) -> Result[Token] | None:
        """Take a frame; return the picture that is ready now, perhaps of an earlier frame.

        Args:
            frame: uint8, ``height`` x ``width`` x 3, RGB.
            token: comes back with the picture made from this frame.
            mask: where this frame's picture is to be shown; elsewhere the frame stays. It stays
                with its frame: a delayed picture is laid over the frame that it was made from.

        Returns:
            None while a stream batch of several steps fills up.

        Raises:
            EngineError: this frame could not be computed; the next one may be (out of memory, say).
        """

    @property
    def overlaps(self) -> bool:
        """Whether :meth:`begin` returns before its picture is made, so that it pays to begin the
        next frame before waiting. From any thread.

        Such an engine shows no previews.
        """
        return False

    def begin(
        self, frame: Frame, token: Token, mask: Mask | None = None
    ) -> Coming[Result[Token] | None]:
        """Take a frame as :meth:`infer` does, without waiting for the picture.

        What is returned is called once, in the thread that uses the engine, and gives what
        :meth:`infer` would have returned. Frames may be begun before that: on a card the next one
        goes up and is computed while this one's picture comes down. Pictures are to be called for
        in the order of their frames. Whatever is asked of the engine before that, a picture is what
        it would have been without: parameters that are applied meanwhile hold for the frames after
        it.

        Raises:
            EngineError: as :meth:`infer`; what is returned may raise it, too.
        """
        result = self.infer(frame, token, mask)
        return Coming(lambda: result)

    @abstractmethod
    def infer_once(self, frame: Frame, patch: Mapping[str, Any], mask: Mask | None = None) -> Frame:
        """Make the picture of this very frame under ``patch``; stream and parameters stay.

        Raises:
            ParameterError, EngineError: as above.
        """

    # Several streams -----------------------------------------------------------------------------

    def beside(self, patch: Mapping[str, Any]) -> "Engine":
        """Another stream over what this engine has loaded: parameters and memory of its own.

        It is closed by itself, and used by the same thread. Here it is one whose pictures are made
        one by one, as :meth:`infer_once` does; an engine with a memory of its frames has its own.

        Args:
            patch: its first parameters, over those in force here.

        Raises:
            ParameterError: as above.
            EngineError: nothing is loaded.
        """
        other: Engine = _SHARED.load()(self, patch)
        return other

    @property
    def batch_limit(self) -> int:
        """So many turns :meth:`infer_together` may be given at once; more than 1 where that pays.

        From any thread.
        """
        return 1

    def infer_together(self, turns: Sequence[Turn]) -> list[Outcome]:
        """What each turn's stream would have made of it by itself, in fewer calls of the model.

        Args:
            turns: of this engine and of those :meth:`beside` it, at most one frame of each stream
                and any number of single pictures.

        Returns:
            Turn by turn; what is wrong with one costs no other its picture.
        """
        outcomes: list[Outcome] = []
        for turn in turns:
            try:
                outcomes.append(turn.alone())
            except FRAME_ERRORS as error:
                outcomes.append(error)
        return outcomes

    # What not every engine has -------------------------------------------------------------------

    def refer(self, picture: Frame | None) -> None:
        """Take a picture as image prompt from the next frame on; None: none any more.

        Args:
            picture: uint8, H x W x 3 of any size.

        Raises:
            EngineError: this engine takes none, or the picture cannot be used; says what to do.
        """
        if picture is not None:
            raise EngineError("no image prompt here: start the worker with --ip_adapter=...")

    @property
    def licence(self) -> Licence:
        """What the model may be used for; known after :meth:`load`."""
        return UNKNOWN

    @property
    def imitates(self) -> bool:
        """Whether :meth:`refer` takes pictures here; known after :meth:`load`."""
        return False

    @property
    def stateful(self) -> bool:
        """Whether a picture depends on the frames before it, as the parameters are now.

        The frames of one stream must then all come to one worker. From any thread.
        """
        return False

    def attend(  # noqa: B027 - an engine that is fast has nothing to show before it is done
        self, newer: Callable[[], bool], show: Callable[[Frame, Any], None]
    ) -> None:
        """Tell a slow engine how it may learn of a newer frame, and where it may show a preview.

        Args:
            newer: whether a frame waits; from the engine's thread, at any time.
            show: takes a rough picture, uint8 of the engine's size, and the token of its frame.
        """

    def forget(self) -> None:  # noqa: B027 - where no picture depends on another, nothing is kept
        """Give up the pictures under way, and what is remembered of those before: after a cut."""

    @property
    def morphing(self) -> bool:
        """Whether a changed prompt is still on its way to take the place of the one before."""
        return False

    @property
    def notice(self) -> str:
        """What people should know while it works ("unet is compiled beside, 20 s"); "": nothing.

        From any thread.
        """
        return ""

    def control_map(self) -> Frame | None:
        """What the ControlNet saw for the last picture, for people to look at; None: nothing."""
        return None

    def schema(self) -> dict[str, Any]:
        """The parameters as JSON Schema; the values in force stand as defaults.

        ``x-vocabulary``, where a model knows only certain words, lists them by kind; ``x-absent``
        says of parameters that the loaded engine cannot use what they would need.
        """
        schema = self.parameters_type.model_json_schema()
        for name, value in self.parameters.items():
            if name in schema.get("properties", {}):
                schema["properties"][name]["default"] = value
        return schema

    def counters(self) -> dict[str, float]:
        """Running totals for the metrics page (prompts encoded, frames skipped, ...)."""
        return {}

    def close(self) -> None:  # noqa: B027 - an engine without a model has nothing to free
        """Free the memory; idempotent."""
