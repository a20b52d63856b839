"""What a model may be used for, said when it is loaded.

Known are the models that people run here most, from their cards; of others the card itself is
read, where it was downloaded. Who uses a model reads its licence; this is a reminder, not advice.
"""

import re
from pathlib import Path

_STABILITY = "Stability AI's own licence, with conditions on commercial use"
_RAIL = "CreativeML OpenRAIL-M, with restrictions on use"
_RAIL_PP = "CreativeML OpenRAIL++-M, with restrictions on use"
_NOT_COMMERCIAL = "CC BY-NC 4.0: not for commercial use"

KNOWN: tuple[tuple[str, str], ...] = (
    (r"pocket", "MIT, as this package"),
    (r"stabilityai/(sd|sdxl)-turbo", _STABILITY),
    (r"(stable-diffusion-v1-5|runwayml|CompVis)/stable-diffusion-v1-\d", _RAIL),
    (r"stabilityai/stable-diffusion-2(-1)?(-base)?", _RAIL_PP),
    (r"stabilityai/stable-diffusion-xl-(base|refiner)-1\.0", _RAIL_PP),
    (r"ByteDance/SDXL-Lightning", _RAIL_PP),
    (r"latent-consistency/lcm-lora-sd(v1-5|xl)", _RAIL_PP),
    (r"madebyollin/taesd(xl)?", "MIT"),
    (r"lllyasviel/control_v11.*", "CreativeML OpenRAIL, with restrictions on use"),
    (r"diffusers/controlnet-(depth|canny)-sdxl-1\.0.*", _RAIL_PP),
    (r"xinsir/controlnet-scribble-sdxl-1\.0", "Apache-2.0"),
    (r"h94/IP-Adapter", "Apache-2.0"),
    (r"depth-anything/Depth-Anything-V2-Small-hf", "Apache-2.0"),
    (r"depth-anything/Depth-Anything-V2-(Base|Large)-hf", _NOT_COMMERCIAL),
    (r"Intel/dpt-(large|hybrid-midas)", "Apache-2.0"),
)
"""Pattern of a hub id, and its licence."""


def licence(model: str, folder: Path | None = None) -> str:
    """The licence of a model, in one line for people.

    Args:
        model: hub id, ``pocket`` or a path.
        folder: where its files are; its model card is read if there is one.
    """
    for pattern, text in KNOWN:
        if re.fullmatch(pattern, model):
            return text
    card = _of_card(folder / "README.md") if folder is not None else None
    return card or "not known here: read the page of the model"


def _of_card(path: Path) -> str | None:
    """The line ``license:`` of the block of settings that a model card begins with."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            head = file.read(4096)
    except OSError:
        return None
    block = re.match(r"---\s*\n(.*?)\n---", head, re.DOTALL)
    found = re.search(r"^licen[sc]e:\s*[\"']?([\w.+ -]{1,60})", block[1], re.M) if block else None
    return f"{found[1].strip()}, says its card" if found else None
