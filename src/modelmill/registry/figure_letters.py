"""Letters of a plot that its font does not have: another font of this machine shows them, or it is said.

Matplotlib's own font, DejaVu Sans, knows Latin, Greek, Cyrillic, Arabic and Hebrew, but no Chinese, Japanese,
Korean or Thai. It draws a box for a letter that it lacks, and warns once for each.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MISSING = re.compile(r"Glyph (\d+) .*missing from font")
_BOXES_ONLY = "Last Resort"
"""Matplotlib's font of boxes, which has one for every letter."""
_SHOWN = 8
"""Letters that a line about missing ones shows."""
_MOST_FONTS = 4
"""Fonts that are tried one after the other for each letter."""


def draw_letters(figure: Figure, draw: Callable[[], None]) -> set[str]:
    """Draw a figure; where its fonts lack letters, once more with fonts of this machine that have them.

    :param figure: a figure. Its texts get these fonts.
    :param draw: draws it.
    :return: the letters that no font has; boxes are drawn for them.
    """
    missing = _drawn(draw)
    fonts = _fonts_for(missing)
    if not fonts:
        return missing
    from matplotlib.text import Text

    for text in figure.findobj():
        if isinstance(text, Text):
            text.set_fontfamily([*text.get_fontfamily(), *fonts])
    return _drawn(draw)


def missing_letters(path: str, letters: set[str]) -> str:
    """Return a line about letters that a plot has boxes for.

    :param path: the plot's path.
    :param letters: at least one.
    :return: the line.
    """
    shown = "".join(sorted(letters)[:_SHOWN]) + ("…" if len(letters) > _SHOWN else "")
    return (
        f"{path} has boxes for {len(letters)} letters ({shown}): no font on this machine has them; install "
        "one, such as Debian's fonts-noto-cjk or fonts-noto-core"
    )


def _drawn(draw: Callable[[], None]) -> set[str]:
    """Draw, and return the letters that are missing; other warnings are passed on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        draw()
    missing = set()
    for warning in caught:
        if found := _MISSING.match(str(warning.message)):
            missing.add(chr(int(found.group(1))))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return missing


def _fonts_for(letters: set[str]) -> list[str]:
    """Return fonts of this machine that have letters, each time the one that has most of the rest."""
    fonts: list[str] = []
    left = {ord(letter) for letter in letters}
    while left and len(fonts) < _MOST_FONTS:
        known = _known_letters()
        best = max(sorted(known), key=lambda name: len(left & known[name]))
        if not left & known[best]:
            break
        fonts.append(best)
        left -= known[best]
    return fonts


@functools.lru_cache(maxsize=1)
def _known_letters() -> dict[str, frozenset[int]]:
    """Return the code points that each upright font of this machine has."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    known: dict[str, frozenset[int]] = {}
    for entry in fontManager.ttflist:
        if entry.name in known or entry.style != "normal" or entry.name.startswith(_BOXES_ONLY):
            continue
        if Path(entry.fname).exists():
            known[entry.name] = frozenset(FT2Font(entry.fname).get_charmap())
    return known
