"""The model card."""

from __future__ import annotations

from typing import Any

from training.pictures import HELD_OUT, PHOTOGRAPHS
from training.prompts import vocabulary


def text(figures: dict[str, Any]) -> str:
    """README.md of the model folder, in Markdown."""
    known = vocabulary()
    photographs = "\n".join(
        f"| {p.path.rsplit('/', 1)[-1]} | {p.package} | {p.licence} |" for p in PHOTOGRAPHS
    )
    kept = ", ".join(f"{p.path.rsplit('/', 1)[-1]} ({p.licence})" for p in HELD_OUT)
    missed = {axis: ", ".join(figures[f"{axis}_missed"]) or "none" for axis in known}
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
repeat every 16 pixels. `model.onnx` in `unet` and `text_encoder` is the arithmetic alone: it reads
its weights out of the safetensors file beside it.

## Words it knows

- Styles: {", ".join(known["styles"])}
- Colours: {", ".join(known["colours"])}; two colours share shadows and lights ("red and gold")
- Moods: {", ".join(known["moods"])}

Many synonyms are known too (`training/prompts.py`). Other words do nothing. Strength 0 is the
input, from about 0.42 on the style is complete.

## Figures

Trained for {figures["minutes"]} minutes on two shared CPU cores ({figures["steps"]} steps of 24
crops of 64 x 64, at the end 8 of 128 x 128). Two photographs it never saw, at strength 0.5: is
the output nearer to the reference stylisation asked for than to any other of its kind?

| kind | top 1 | mean error (0..1) | taken for another |
|---|---|---|---|
| styles | {figures["styles"]} | {figures["styles_error"]} | {missed["styles"]} |
| colours | {figures["colours"]} | {figures["colours_error"]} | {missed["colours"]} |
| moods | {figures["moods"]} | {figures["moods_error"]} | {missed["moods"]} |

Mean difference from the input at strength 0: {figures["identity_error"]}.

## How it was trained

This version was steered while it learnt: the first 1,078 steps saw 8 crops of 128 x 128, oil, comic
and pixel art got plainer targets at step 6,400, and the learning rate was held longer than a cosine
would have. The script holds the final settings; a fresh run follows them from the start and gives
a sibling of these weights, not a copy.

`python -m training --minutes 90 --out dreamrelay/engines/pocket_model` (see
`requirements-training.txt`). Targets are classics of image processing (`training/stylise.py`).
Pictures are drawn by the script, or come with installed Python packages:

| picture | package | licence |
|---|---|---|
{photographs}

Held out for checks: {kept}.

## Limits

Faces and fine print lose detail at 256 x 256; the picture decides the content, the prompt only its
look. The training pictures are few: unusual scenes may come out plain. The weights are under the
licence of this repository.
"""
