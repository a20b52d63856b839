"""The model card."""

from __future__ import annotations

from typing import Any

from training.pictures import HELD_OUT, PHOTOGRAPHS
from training.prompts import vocabulary

# What this run did that a fresh one will not; empty for a run that was left alone.
STEERED = """This version was steered while it learnt: for the first 3,276 steps the texture of a
seed was a pattern in the noise of the pixels, since then it has had channels of its own; harder
styles were shown more often from step 4,706 on; the copy past the last block was faded out between
steps 7,036 and 8,036. The script holds the final settings; a fresh run follows them from the start
and gives a sibling of these weights, not a copy.

"""


def text(figures: dict[str, Any]) -> str:
    """README.md of the model folder, in Markdown."""
    known = vocabulary()
    photographs = "\n".join(
        f"| {p.path.rsplit('/', 1)[-1]} | {p.package} | {p.licence} |" for p in PHOTOGRAPHS
    )
    kept = ", ".join(f"{p.path.rsplit('/', 1)[-1]} ({p.licence})" for p in HELD_OUT)
    where = "a CUDA card" if figures["device"] == "cuda" else f"{figures['cores']} CPU cores"
    return f"""---
library_name: diffusers
license: mit
tags: [image-to-image, cpu, tiny]
---
# The pocket model

A text-conditioned diffusion model small enough to ship inside a Python package
({figures["megabytes"]} MB). It repaints a picture in a style, a palette and a mood, in one step, on
a CPU. It is for wiring and play: it knows a few dozen words, and it is not Stable Diffusion. It
cannot draw a cat that is not there.

| part | what |
|---|---|
| `unet` | UNet2DConditionModel on 8 x 8 pixels in 192 channels; predicts the clean picture |
| `text_encoder` | CLIPTextModel, 2 layers of width 128, trained together with the U-Net |
| `tokenizer` | known words are one token each, everything else is bytes |
| `vae` | `PixelAutoencoder`: pixels into channels and back, no weights, no loss |
| `scheduler` | DDPM, 1000 steps, betas 1e-6 to 6.5e-4 (scaled linear), prediction type `sample` |

Two more channels say whether the row and the column of a cell are even, so that a pattern may
repeat every 16 pixels; twelve are empty, and the noise that a seed puts there is what texture is
made of. `model.onnx` in `unet` and `text_encoder` is the arithmetic alone: it reads
its weights out of the safetensors file beside it.

## Words it knows

- Styles: {", ".join(known["styles"])}
- Colours: {", ".join(known["colours"])}; two colours share shadows and lights ("red and gold")
- Moods: {", ".join(known["moods"])}

Many synonyms are known too (`training/prompts.py`). Other words do nothing. Strength 0 is the
input, from about 0.42 on the style is complete.

## Figures

Trained for {figures["minutes"]} minutes on {where}: {figures["steps"]} steps, crops of 64, 96 and
160 pixels in turn.

{_measured(figures)}
## How it was trained

{STEERED}`python -m training --minutes 100` (see `requirements-training.txt`).
Targets are classics of image processing (`training/stylise.py`). Pictures are drawn by the script,
or come with installed Python packages:

| picture | package | licence |
|---|---|---|
{photographs}

Held out for checks: {kept}.

## Limits

Faces and fine print lose detail at 256 x 256; the picture decides the content, the prompt only its
look. The training pictures are few: unusual scenes may come out plain. The weights are under the
licence of this repository.
"""


def _measured(figures: dict[str, Any]) -> str:
    """What `training.measure` found, if it was asked."""
    if "styles" not in figures:
        return "Not measured yet.\n"
    rows = "\n".join(
        f"| {axis} | {figures[axis]} | {figures[f'{axis}_error']:.3f} |"
        f" {', '.join(figures[f'{axis}_missed']) or 'none'} |"
        for axis in ("styles", "colours", "moods")
    )
    return f"""Pictures it never saw, at strength 0.5: is the output nearer to the reference
stylisation asked for than to any other of its kind?

| kind | top 1 | mean error (0..1) | taken for another |
|---|---|---|---|
{rows}

| measure | figure |
|---|---|
| mean difference from the input at strength 0 (0..1) | {figures["identity_error"]:.3f} |
| likeness of structure to the input (SSIM), and of the references | {figures["ssim"]:.2f}, {
        figures["ssim_reference"]:.2f} |
| change between frames over that of the input, mean and worst style | {
        figures["steadiness"]:.2f}, {figures["steadiness_worst"]:.2f} |
| synonyms that look like their word | {figures["synonyms"]} |

`docs/pocket.md` has more, and the tables.
"""
