"""Daydream Scope, as far as a pipeline meets it: its names and defaults from
``scope_contract.json``, its behaviour as its source has it.

- an entry point's module is registered with pluggy and asked for pipelines;
- a pipeline is made with the defaults of its schema that are not None, and the load parameters;
- its ``prepare`` says whether it wants frames; frames come as a list of (1, H, W, C) uint8;
- of updates one is taken up with each call, and eight wait at most;
- ``transition`` is taken back after a call, unless ``state`` says that it goes on;
- out of memory ends the worker, any other error costs the chunk.
"""

import inspect
import json
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy
import torch
from pydantic import BaseModel, ConfigDict, Field, create_model

CONTRACT: dict[str, Any] = json.loads(
    (Path(__file__).parent / "scope_contract.json").read_text(encoding="utf-8")
)

_TYPES: Mapping[str, Any] = {
    "bool": bool,
    "int": int,
    "float": float,
    "bool or none": bool | None,
    "int or none": int | None,
    "float or none": float | None,
    "text or none": str | None,
    "ints or none": list[int] | None,
    "texts or none": list[str] | None,
}

OURS = "dreamrelay.integrations.scope_"


@contextmanager
def installed(**of_ui: Any) -> Iterator[None]:
    """Scope can be imported while the ``with`` lasts.

    Args:
        of_ui: further keywords of ``ui_field_config`` and their defaults, as of a newer version.
    """
    modules = _modules(of_ui)
    assert "scope" not in sys.modules, "the real Scope is here: test against that one"
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in [*modules, *(name for name in sys.modules if name.startswith(OURS))]:
            sys.modules.pop(name, None)


def _modules(of_ui: Mapping[str, Any]) -> dict[str, ModuleType]:
    names = ["scope", "scope.core", "scope.core.plugins", "scope.core.pipelines"]
    modules = {name: ModuleType(name) for name in names}
    schema = ModuleType("scope.core.pipelines.base_schema")
    mode: dict[str, Any] = {
        name: (_TYPES[kind], default) for name, (kind, default) in _of("mode_defaults").items()
    }
    forbid = ConfigDict(extra="forbid")
    vars(schema).update(
        ui_field_config=_ui_field_config(of_ui),
        ModeDefaults=create_model("ModeDefaults", __config__=forbid, **mode),
        BasePipelineConfig=_base_config(),
    )
    interface = ModuleType("scope.core.pipelines.interface")
    kinds: dict[str, Any] = {
        name: (_TYPES[kind], ...) for name, kind in _of("requirements").items()
    }
    requirements: Any = create_model("Requirements", **kinds)
    vars(interface).update(Pipeline=Pipeline, Requirements=requirements)
    return {**modules, schema.__name__: schema, interface.__name__: interface}


def _of(part: str) -> dict[str, Any]:
    found: dict[str, Any] = CONTRACT[part]
    return found


def _ui_field_config(more: Mapping[str, Any]) -> Any:
    known = {**_of("ui_field_config"), **more}

    def ui_field_config(**given: Any) -> dict[str, Any]:
        unknown = given.keys() - known.keys()
        if unknown:
            raise TypeError(f"ui_field_config() got an unexpected keyword argument {unknown}")
        ui = {**known, **given}
        ui["category"] = ui["category"] or CONTRACT["ui_category"]
        always = CONTRACT["ui_keys_always"]
        return {"ui": {name: ui[name] for name in ui if name in always or ui[name] is not None}}

    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in known.items()
    ]
    vars(ui_field_config)["__signature__"] = inspect.Signature(parameters)
    return ui_field_config


def _base_config() -> Any:
    fields: dict[str, Any] = {
        name: (_TYPES[kind], Field(default=default, **bounds))
        for name, (kind, default, bounds) in _of("config_fields").items()
    }
    base: Any = create_model("BasePipelineConfig", __config__=ConfigDict(extra="forbid"), **fields)
    for name, value in _of("config_class_variables").items():
        setattr(base, name, value)
    return base


class Pipeline(ABC):
    """What all pipelines derive from."""

    @classmethod
    def get_config_class(cls) -> Any:
        return None

    @abstractmethod
    def __call__(self, **kwargs: Any) -> dict[str, Any]: ...

    def cleanup(self) -> None:  # noqa: B027 - it may be left as it is
        """Called before a pipeline is dropped."""


# What Scope does with a plugin -------------------------------------------------------------------


def pipelines_of(plugin: ModuleType) -> dict[str, Any]:
    """The pipelines that an entry point's module registers, by their ids."""
    project = CONTRACT["plugins"]["group"]
    specification = ModuleType("specification")
    for hook, arguments in CONTRACT["plugins"]["hooks"].items():
        function: Any = eval(f"lambda {', '.join(arguments)}: None")
        setattr(specification, hook, pluggy.HookspecMarker(project)(function))
    manager = pluggy.PluginManager(project)
    manager.add_hookspecs(specification)
    manager.register(plugin)
    manager.check_pending()
    found: dict[str, Any] = {}

    def register(pipeline: Any) -> None:
        found[pipeline.get_config_class().pipeline_id] = pipeline

    manager.hook.register_pipelines(register=register)
    return found


def load(pipeline: Any, **load_parameters: Any) -> Any:
    """Make a pipeline as Scope does."""
    defaults = pipeline.get_config_class()().model_dump(exclude_none=True)
    return pipeline(**{**defaults, **load_parameters})


class Processor:
    """Calls a pipeline, chunk after chunk.

    Attributes:
        parameters: those of the next call.
        errors: of the chunks that were dropped.
        running: False once it has ended by itself.
    """

    def __init__(self, pipeline: Any, **parameters: Any) -> None:
        self.pipeline = pipeline
        self.parameters = parameters
        self.errors: list[Exception] = []
        self.running = True
        self._updates: deque[dict[str, Any]] = deque()
        self._prepared = False
        self._begin = False

    def update(self, **parameters: Any) -> bool:
        """What a person sets; False: too many wait already."""
        if len(self._updates) >= CONTRACT["processor"]["parameter_updates_kept"]:
            return False
        self._updates.append(parameters)
        return True

    def tick(self, *frames: torch.Tensor, **ports: Any) -> list[torch.Tensor]:
        """One call: the pictures that came, (H, W, 3) uint8.

        Args:
            frames: (H, W, C) uint8, what waits in the input.
            ports: other inputs that are wired in the graph.
        """
        self._take_update()
        reset, scales = (
            self.parameters.pop("reset_cache", None),
            self.parameters.pop("lora_scales", None),
        )
        self._begin = self._begin or bool(reset)
        in_video = self.parameters.get("input_mode") == "video"
        asked = {**self.parameters, **({"video": True} if in_video else {})}
        wants = self.pipeline.prepare(**asked)
        call = {**self.parameters, **ports, "init_cache": not self._prepared or self._begin}
        if wants is not None:
            if len(frames) < wants.input_size:
                return []
            call["video"] = [frame.unsqueeze(0) for frame in frames]
        if scales is not None:
            call["lora_scales"] = scales
        made = self._called(call)
        self._prepared, self._begin = True, False
        return made

    def _take_update(self) -> None:
        if not self._updates:
            return
        new = self._updates.popleft()
        if "prompts" in new and "transition" not in new:
            self.parameters.pop("transition", None)
        self.parameters = {**self.parameters, **new}

    def _called(self, call: dict[str, Any]) -> list[torch.Tensor]:
        try:
            output = self.pipeline(**call).get("video")
        except torch.OutOfMemoryError:
            self.running = False
            raise
        except Exception as error:  # noqa: BLE001 - as Scope does
            self.errors.append(error)
            return []
        if output is None:
            return []
        state = getattr(self.pipeline, "state", {})
        if "transition" in call and not state.get("_transition_active", False):
            self.parameters.pop("transition", None)
        assert output.ndim == 4
        assert output.shape[3] == 3
        if output.dtype is not torch.uint8:
            output = (output * 255.0).clamp(0, 255).to(torch.uint8)
        return list(output)


class AnyModel(BaseModel):
    """Something with a text and a weight, as a node of the graph may hand over."""

    text: str
    weight: float = 1.0
