"""The door for Daydream Scope: what its entry point names.

Scope imports this at its start, wanted or not. So nothing heavy is imported here, and nothing of
Scope itself: the pipeline (:mod:`scope_pipeline`) is imported when Scope asks what there is.
"""

import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pluggy

from dreamrelay.importer import Entry

logger = logging.getLogger(__name__)

# What ``scope.core.plugins.hookspecs`` has by this name: a marker with the project's name.
hookimpl = pluggy.HookimplMarker("scope")

PIPELINE = Entry(
    "dreamrelay.integrations.scope_pipeline:StreamDiffusionPipeline",
    "the StreamDiffusion pipeline for Scope",
    "scope",
)

OTHER_PLUGIN = "scope_streamdiffusion"
"""Package of the plugin whose place this one takes: same id, same fields."""


@hookimpl
def register_pipelines(register: Callable[[type[Any]], None]) -> None:
    """Tell Scope of the pipeline.

    Raises:
        MissingExtra: torch or diffusers is not installed.
    """
    pipeline = PIPELINE.load()
    if find_spec(OTHER_PLUGIN) is not None:
        logger.warning(
            "scope-streamdiffusion is installed too: both are the pipeline %r, and Scope takes "
            "the one that comes last; uninstall one of them",
            pipeline.get_config_class().pipeline_id,
        )
    register(pipeline)
