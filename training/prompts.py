"""Prompts as people type them, and the words the model knows.

A look (style, colours, moods) becomes text with synonyms, any order, subjects, filler and words
the model has never heard, so that it learns which words matter and that the others do not.
"""

from __future__ import annotations

import numpy as np

from training.stylise import COLOURS, MOODS, STYLES, Look

Rng = np.random.Generator

# The first word of each is the name people see in the studio.
STYLE_WORDS: dict[str, tuple[str, ...]] = {
    "photo": ("photo", "photograph", "photorealistic", "realistic photo", "film still"),
    "pencil": ("pencil sketch", "pencil", "pencil drawing", "sketch", "graphite drawing"),
    "charcoal": ("charcoal", "charcoal drawing", "chalk drawing", "charcoal sketch"),
    "ink": ("ink", "ink drawing", "ink wash", "line art", "manga", "black ink", "calligraphy"),
    "watercolor": ("watercolor", "watercolour", "watercolor painting", "aquarelle", "gouache"),
    "oil": ("oil painting", "oil", "painting", "oil on canvas", "impressionist", "renaissance"),
    "impasto": ("impasto", "van gogh", "palette knife", "thick paint", "expressionist"),
    "pointillism": ("pointillism", "pointillist", "dots", "seurat", "confetti"),
    "comic": ("comic", "comic book", "cartoon", "anime", "pop art", "cel shading", "graphic novel"),
    "halftone": ("halftone", "newspaper print", "halftone dots", "screen print", "risograph"),
    "pixel art": ("pixel art", "8 bit", "pixelated", "retro game", "pixels", "voxel"),
    "mosaic": ("mosaic", "tiles", "mosaic tiles", "roman mosaic", "lego"),
    "stained glass": ("stained glass", "church window", "stained glass window"),
    "neon": ("neon", "neon lights", "neon glow", "glowing neon", "cyberpunk", "tron", "glowing"),
    "blueprint": ("blueprint", "technical drawing", "cyanotype", "architect plan", "schematic"),
    "woodcut": ("woodcut", "linocut", "woodblock print", "block print", "wood carving"),
    "engraving": ("engraving", "etching", "banknote", "copperplate", "steel engraving"),
    "thermal": ("thermal", "thermal camera", "infrared", "heat map", "heatmap"),
    "low poly": ("low poly", "polygons", "geometric", "triangles", "origami", "cubism"),
    "glitch": ("glitch", "vhs", "glitch art", "crt", "scanlines", "analog video"),
}
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet", "ruby", "blood red"),
    "orange": ("orange", "tangerine", "amber", "copper"),
    "gold": ("gold", "golden", "brass", "honey"),
    "yellow": ("yellow", "lemon", "bright yellow"),
    "green": ("green", "emerald", "lime", "matrix", "forest green"),
    "teal": ("teal", "turquoise", "cyan", "aqua"),
    "blue": ("blue", "azure", "cobalt", "deep blue", "navy", "electric blue"),
    "purple": ("purple", "violet", "lavender", "indigo"),
    "pink": ("pink", "magenta", "hot pink", "rose"),
    "brown": ("brown", "chocolate", "coffee brown"),
    "black and white": ("black and white", "monochrome", "grayscale", "greyscale", "noir", "b&w"),
    "sepia": ("sepia", "vintage", "antique", "old photo"),
    "vaporwave": ("vaporwave", "synthwave", "retrowave"),
    "rainbow": ("rainbow", "psychedelic", "multicolored", "iridescent", "holographic"),
}
MOOD_WORDS: dict[str, tuple[str, ...]] = {
    "night": ("night", "at night", "midnight", "moonlight", "starry night", "moonlit"),
    "galaxy": ("galaxy", "outer space", "space", "nebula", "cosmic"),
    "winter": ("winter", "snow", "frozen", "ice", "icy", "snowy", "in winter"),
    "sunrise": ("sunrise", "sunset", "at sunset", "golden hour", "dusk", "dawn", "at sunrise"),
    "autumn": ("autumn", "fall leaves", "in autumn", "autumnal"),
    "underwater": ("underwater", "under water", "deep sea", "ocean", "aquarium"),
    "fire": ("fire", "on fire", "burning", "flames", "lava", "inferno"),
    "pastel": ("pastel", "pastel colors", "soft colors", "candy colors", "pastel colours"),
    "faded": ("faded", "washed out", "pale", "bleached", "desaturated"),
    "vivid": ("vivid", "vibrant", "colorful", "colourful", "saturated", "vivid colors"),
    "dark": ("dark", "gloomy", "low key", "moody", "shadowy"),
    "light": ("light", "bright", "sunny", "high key", "bright light", "daylight"),
    "foggy": ("foggy", "fog", "misty", "mist", "smoke", "hazy"),
}

SUBJECTS = (
    "a portrait of a woman|portrait of a man|a cat|a dog|a portrait|a city street|a dancer|people"
    "|a house|a landscape|mountains|the sea|a forest|a robot|an astronaut|a tiger|a crowd|a face"
    "|a singer on stage|a dj|a band|flowers|a garden|a car|a train|a castle|a dragon|a bird|a fox"
    "|a horse|a wizard|a knight|a queen|a girl with headphones|a skull|trees|a river|a room"
    "|a cup of coffee|a motorcycle|hands|an old man|a child|a statue|a temple|a bridge|a rocket"
).split("|")
FILLER = (
    "highly detailed|masterpiece|best quality|trending on artstation|4k|8k|beautiful|cinematic"
    "|dramatic lighting|intricate|sharp focus|award winning|dreamy|surreal|abstract|elegant"
    "|ultra hd|studio lighting|wide angle|close up|full body|soft|very|epic|stunning|amazing"
    "|high quality|in the style of|modern|ancient|futuristic|fantasy|minimal|illustration|art"
    "|artwork|digital art|concept art|render|texture|style|live|video|frame|scene|picture|image"
).split("|")
_TEMPLATES = (
    "{c} {s}",
    "{s}, {c}",
    "a {c} {s}",
    "{c} {s} of {x}",
    "{x}, {s}, {c}",
    "{x} in {s} style, {c}",
    "{s} of {x}, {c}",
    "{x} as {s} in {c}",
    "{c}, {s}",
    "{s} in {c}",
    "{f} {c} {s} of {x}, {f}",
    "{x}, {c} {s}, {f}, {f}",
)


def _pick(rng: Rng, words: tuple[str, ...] | list[str]) -> str:
    return words[int(rng.integers(len(words)))]


def _synonym(rng: Rng, words: tuple[str, ...]) -> str:
    return words[0] if rng.random() < 0.5 else _pick(rng, words)


def _nonsense(rng: Rng) -> str:
    letters = np.array(list("abcdefghijklmnoprstuvwyz"))
    return "".join(rng.choice(letters, rng.integers(3, 10)))


def _colour_text(rng: Rng, colours: tuple[str, ...]) -> str:
    names = [_synonym(rng, COLOUR_WORDS[colour]) for colour in colours]
    return _pick(rng, (" and ", " and ", " ", ", ")).join(names)


# Harder textures are shown more often.
_STYLE_WEIGHTS = {
    "photo": 2.0,
    "oil": 2.4,
    "impasto": 2.4,
    "watercolor": 2.2,
    "stained glass": 2.2,
    "low poly": 2.2,
    "comic": 2.0,
    "pointillism": 1.8,
    "mosaic": 1.6,
    "woodcut": 1.4,
    "pixel art": 1.3,
    "charcoal": 1.2,
    "pencil": 1.2,
    "neon": 1.2,
    "blueprint": 0.8,
    "halftone": 0.7,
    "thermal": 0.4,
}


def draw_look(rng: Rng) -> Look:
    """A random look: any style, a colour half of the time, a mood a quarter of the time."""
    weights = np.array([_STYLE_WEIGHTS.get(style, 1.0) for style in STYLES])
    style = STYLES[int(rng.choice(len(STYLES), p=weights / weights.sum()))]
    colours: tuple[str, ...] = ()
    moods: tuple[str, ...] = ()
    if rng.random() < 0.5:
        colours = (_pick(rng, COLOURS),)
        if rng.random() < 0.25:
            second = _pick(rng, COLOURS[:10])
            colours = (_pick(rng, COLOURS[:10]), second)
            colours = colours if colours[0] != colours[1] else colours[:1]
    if rng.random() < (0.2 if colours else 0.4):
        moods = (_pick(rng, MOODS),)
    return Look(style, colours, moods)


def write(rng: Rng, look: Look) -> str:
    """The look as text, with subjects, filler and unknown words around it."""
    style = _synonym(rng, STYLE_WORDS[look.style])
    if look.style == "photo" and rng.random() < 0.7:
        style = ""
    colour = _colour_text(rng, look.colours) if look.colours else ""
    subject = _pick(rng, SUBJECTS) if rng.random() < 0.8 else _nonsense(rng)
    moods = [_synonym(rng, MOOD_WORDS[mood]) for mood in look.moods]
    if rng.random() < 0.25:
        parts = [part for part in (style, colour, *moods) if part]
        rng.shuffle(parts)
        text = _pick(rng, (", ", " ")).join(parts)
    else:
        text = _pick(rng, _TEMPLATES)
        while "{f}" in text:
            text = text.replace("{f}", _pick(rng, FILLER), 1)
        text = text.format(s=style, c=colour, x=subject)
        for mood in moods:
            text = f"{mood} {text}" if rng.random() < 0.3 else f"{text}, {mood}"
    if rng.random() < 0.15:
        extra = _nonsense(rng) if rng.random() < 0.5 else _pick(rng, FILLER)
        text = f"{extra} {text}" if rng.random() < 0.5 else f"{text}, {extra}"
    return _tidy(text)


def _tidy(text: str) -> str:
    words = " ".join(text.replace(" ,", ",").split())
    while ", ," in words or ",," in words:
        words = words.replace(", ,", ",").replace(",,", ",")
    return words.strip(" ,")


def words() -> list[str]:
    """Every word worth a token of its own."""
    phrases: list[str] = [*SUBJECTS, *FILLER, *_TEMPLATES]
    for table in (STYLE_WORDS, COLOUR_WORDS, MOOD_WORDS):
        for synonyms in table.values():
            phrases.extend(synonyms)
    phrases.append("with and without the to on by from for not no blurry ugly low quality deformed")
    found: dict[str, None] = {}
    for phrase in phrases:
        for word in phrase.replace(",", " ").split():
            if word.isalpha():
                found[word] = None
    return list(found)


def vocabulary() -> dict[str, list[str]]:
    """What the studio may suggest: the names of styles, colours and moods."""
    return {
        "styles": [STYLE_WORDS[style][0] for style in STYLES],
        "colours": [COLOUR_WORDS[colour][0] for colour in COLOURS],
        "moods": [MOOD_WORDS[mood][0] for mood in MOODS],
    }
