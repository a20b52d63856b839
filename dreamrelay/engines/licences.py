"""What a model may be used for: said when it is loaded, and published with its name.

Known are the models that people run here most, from their cards; of others the card itself is
read, where it was downloaded. Who uses a model reads its licence; this is a reminder, not advice.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

HUB = "https://huggingface.co/"


@dataclass(frozen=True, slots=True)
class Licence:
    """The licence of a model.

    Attributes:
        name: as people call it; ``unknown`` where nobody said.
        terms: the most important one, in a few words; may be empty.
        link: ``https://`` address to read it at; empty where none is known.
    """

    name: str = "unknown"
    terms: str = ""
    link: str = ""

    def __str__(self) -> str:
        return ", ".join(part for part in (self.name, self.terms) if part)


UNKNOWN = Licence(terms="read the page of the model")

_RESTRICTED = "with restrictions on use"
_NOT_COMMERCIAL = "not for commercial use"

LICENCES: dict[str, Licence] = {
    "mit": Licence("MIT", "", "https://opensource.org/license/mit"),
    "apache-2.0": Licence("Apache-2.0", "", "https://www.apache.org/licenses/LICENSE-2.0"),
    "openrail": Licence("OpenRAIL", _RESTRICTED, "https://www.licenses.ai"),
    "creativeml-openrail-m": Licence(
        "CreativeML OpenRAIL-M", _RESTRICTED, f"{HUB}spaces/CompVis/stable-diffusion-license"
    ),
    "openrail++": Licence(
        "CreativeML OpenRAIL++-M",
        _RESTRICTED,
        f"{HUB}stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
    ),
    "sai-nc-community": Licence(
        "Stability AI's community licence",
        f"{_NOT_COMMERCIAL} but as stability.ai/license allows it",
        "https://stability.ai/license",
    ),
    "stabilityai-ai-community": Licence(
        "Stability AI's community licence",
        "conditions on commercial use",
        "https://stability.ai/license",
    ),
    "cc-by-nc-4.0": Licence(
        "CC BY-NC 4.0", _NOT_COMMERCIAL, "https://creativecommons.org/licenses/by-nc/4.0/"
    ),
}
"""By the names that cards have for them."""

KNOWN: tuple[tuple[str, str], ...] = (
    (r"pocket", "mit"),
    (r"stabilityai/(sd|sdxl)-turbo", "sai-nc-community"),
    (r"(stable-diffusion-v1-5|runwayml|CompVis)/stable-diffusion-v1-\d", "creativeml-openrail-m"),
    (r"stabilityai/stable-diffusion-2(-1)?(-base)?", "openrail++"),
    (r"stabilityai/stable-diffusion-xl-(base|refiner)-1\.0", "openrail++"),
    (r"ByteDance/SDXL-Lightning", "openrail++"),
    (r"latent-consistency/lcm-lora-sd(v1-5|xl)", "openrail++"),
    (r"madebyollin/taesd(xl)?", "mit"),
    (r"lllyasviel/control_v11.*", "openrail"),
    (r"diffusers/controlnet-(depth|canny)-sdxl-1\.0.*", "openrail++"),
    (r"xinsir/controlnet-scribble-sdxl-1\.0", "apache-2.0"),
    (r"h94/IP-Adapter", "apache-2.0"),
    (r"depth-anything/Depth-Anything-V2-Small-hf", "apache-2.0"),
    (r"depth-anything/Depth-Anything-V2-(Base|Large)-hf", "cc-by-nc-4.0"),
    (r"Intel/dpt-(large|hybrid-midas)", "apache-2.0"),
)
"""Pattern of a hub id, and its licence's name in :data:`LICENCES`."""

_ID = re.compile(r"[\w.-]+/[\w.-]+")
_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")


def licence(model: str, folder: Path | None = None) -> Licence:
    """The licence of a model.

    Args:
        model: hub id, ``pocket`` or a path.
        folder: where its files are. Its model card is read if there is one; a folder of the hub's
            cache says of which model it is.
    """
    ids = [model]
    for part in folder.parts if folder is not None else ():
        if cached := _CACHED.fullmatch(part):
            ids.append("/".join(cached.groups()))
    for pattern, name in KNOWN:
        if any(re.fullmatch(pattern, id_) for id_ in ids):
            return LICENCES[name]
    card = _of_card(folder / "README.md") if folder is not None else None
    found = card or UNKNOWN
    of_hub = ids[1:] if Path(model).expanduser().exists() else ids
    page = next((f"{HUB}{id_}" for id_ in of_hub if _ID.fullmatch(id_)), "")
    return found if found.link else replace(found, link=page)


def both(first: Licence, second: Licence) -> Licence:
    """Of what is made of two parts."""
    if first == second:
        return first
    terms = "; ".join(dict.fromkeys(part.terms for part in (first, second) if part.terms))
    return Licence(f"{first.name} and {second.name}", terms, first.link or second.link)


def _of_card(path: Path) -> Licence | None:
    """What the block of settings says that a model card begins with."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            head = file.read(4096)
    except OSError:
        return None
    block = re.match(r"---\s*\n(.*?)\n---", head, re.DOTALL)
    if block is None:
        return None
    said = {
        key: value.strip()
        for key, value in re.findall(
            r"^licen[sc]e(|_name|_link):[ \t]*[\"']?([^\"'\n#]{1,200})", block[1], re.MULTILINE
        )
    }
    name = said.get("", "")
    if name.lower() in ("", "other"):
        name = said.get("_name", name)
    if not name or not re.fullmatch(r"[\w.+ -]{1,60}", name):
        return None
    link = said.get("_link", "")
    link = link if re.fullmatch(r"https://[^\s<>]+", link) else ""
    known = LICENCES.get(name.lower(), Licence(name, "says its card"))
    return replace(known, link=link or known.link)
