"""The live scales of the LoRAs, without torch."""

from typing import Annotated

from pydantic import Field, WithJsonSchema

from dreamrelay.engines.parameters import Listed, Live
from dreamrelay.form import ui

MAX_LORAS = 16


class LoraScale(Live):
    """How strongly one of the loaded LoRAs acts."""

    name: str = Field(max_length=100, description="Of a LoRA that the worker was started with.")
    scale: float = Field(
        default=1.0, ge=-10, le=10, description="1 as it was trained, 0 off, below 0 its opposite."
    )


Scaled = Annotated[LoraScale, WithJsonSchema(LoraScale.model_json_schema())]


class LoraParameters(Live):
    """What of the LoRAs can be changed between two frames."""

    loras: Annotated[list[Scaled], Listed] | None = Field(
        default=None,
        max_length=MAX_LORAS,
        description=(
            "The LoRAs that act and how strongly; one that is not in the list is off, and empty "
            "leaves them as the worker was started."
        ),
        json_schema_extra=ui("look", "loras", 50, "LoRAs"),
    )
