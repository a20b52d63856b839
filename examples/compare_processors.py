"""The same picture through both processors, side by side.

::

    python examples/compare_processors.py --image photo.jpg --prompt "Oil painting in autumn colors"
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # from a checkout, not installed

from dreamrelay.codec import Frame, decode, encode_bytes, resize
from dreamrelay.engines.processor_parameters import PROCESSORS, ProcessorParameters
from dreamrelay.errors import ConfigError, DreamRelayError
from dreamrelay.integrations.dreamstream import DiffusionProcessors

COMMAND = "process_with_both_processors"
LABEL = 24


def beside_each_other(pictures: dict[str, Frame]) -> Frame:
    """The pictures in one row, as high as the first, each with its name above it."""
    height = next(iter(pictures.values())).shape[0]
    columns = []
    for name, picture in pictures.items():
        width = max(1, round(picture.shape[1] * height / picture.shape[0]))
        column = Image.new("RGB", (width, height + LABEL), "black")
        column.paste(Image.fromarray(resize(picture, width, height, "stretch")), (0, LABEL))
        ImageDraw.Draw(column).text((6, 5), name, fill="white")
        columns.append(np.asarray(column))
    return np.concatenate(columns, axis=1)


async def compare(arguments: argparse.Namespace, processors: DiffusionProcessors) -> list[Path]:
    """Make the pictures and write them; where they lie."""
    data = arguments.image.read_bytes()
    pictures = {"original": decode(data)}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for name in PROCESSORS:
        print(f"{name} ...", flush=True)
        jpeg, _ = await processors.apply(
            data,
            arguments.prompt,
            name,
            guidance_scale=arguments.guidance,
            use_controlnet=not arguments.no_controlnet,
            strength=arguments.strength,
        )
        pictures[name] = decode(jpeg)
        written.append(arguments.output.with_name(f"{arguments.output.name}_{name}.jpg"))
        written[-1].write_bytes(jpeg)
    written.append(arguments.output.with_name(f"{arguments.output.name}.jpg"))
    written[-1].write_bytes(encode_bytes(beside_each_other(pictures), quality=95))
    return written


def _within(name: str) -> Callable[[str], float]:
    """Reads a number that the processors take; they are loaded, and fetched, only after that."""

    def number(text: str) -> float:
        try:
            value = float(text)
            ProcessorParameters.model_validate({name: value})
        except ValidationError as error:
            raise argparse.ArgumentTypeError(error.errors()[0]["msg"]) from None
        return value

    return number


def main(argv: list[str], processors: DiffusionProcessors) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", nargs="?", choices=[COMMAND], help="may be left out")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--output", type=Path, default=Path("img/comparison"))
    parser.add_argument("--strength", type=_within("strength"), default=0.9)
    parser.add_argument("--guidance", type=_within("guidance_scale"), default=7.0)
    parser.add_argument("--no_controlnet", action="store_true")
    try:
        for path in asyncio.run(compare(parser.parse_args(argv), processors)):
            print(path)
    except (DreamRelayError, OSError) as error:
        print(f"compare_processors: {error}", file=sys.stderr)
        return 2
    finally:
        processors.close()
    return 0


if __name__ == "__main__":
    try:
        models = DiffusionProcessors.from_environment(os.environ)
    except ConfigError as error:
        print(f"compare_processors: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1:], models))
