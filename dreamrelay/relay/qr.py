"""A link as a QR code in a terminal, for a phone's camera."""

import io

import segno

BORDER = 2
"""Modules; the standard asks for four, and all cameras take two."""

BLOCKS = " ▀▄█"


def drawn(link: str, encoding: str | None = "utf-8") -> str:
    """The code as text, two rows to a line, light on dark as terminals are.

    Args:
        encoding: of the terminal; where it has no half blocks, whole modules are drawn in ASCII.
    """
    code = segno.make(link, error="l", micro=False)
    try:
        BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        rows = code.matrix_iter(border=BORDER)
        return "\n".join("".join("  " if dark else "##" for dark in row) for row in rows)
    text = io.StringIO()
    code.terminal(text, border=BORDER, compact=True)
    return text.getvalue().rstrip("\n")
