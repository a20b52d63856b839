"""Draws the slate that a relay shows when none is given: ``python docs/images/make_slate.py``.

It is drawn here once, because the relay itself has no means to draw or encode a picture.
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIZE = (1280, 720)
PLACE = Path(__file__).parents[2] / "dreamrelay" / "relay" / "static" / "slate.jpg"


def draw() -> Image.Image:
    """A dark card, a ring, three words."""
    width = SIZE[0]
    picture = Image.new("RGB", SIZE, (16, 16, 20))
    pen = ImageDraw.Draw(picture)
    for step in range(24):  # a ring that fades out along its way
        shade = int(40 + 200 * step / 23)
        pen.arc(
            (width // 2 - 60, 220, width // 2 + 60, 340),
            step * 14 - 90,
            step * 14 - 76,
            (shade, shade // 2, shade),
            width=10,
        )
    font = ImageFont.load_default(44)
    pen.text((width // 2, 450), "back in a moment", (210, 205, 220), font, anchor="mm")
    return picture


if __name__ == "__main__":
    draw().save(PLACE, "JPEG", quality=88, optimize=True)
