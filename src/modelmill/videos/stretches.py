"""Stretches of time: shots, frozen and black stretches, slideshows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Interval = tuple[float, float]

_STILL = 0.1
"""Mean absolute difference of frames, of 100, up to which nothing moves."""
_FADE_SECONDS = 1.6
"""Longest change from one slide to the next."""
_OVERLAP = 0.1
"""Seconds by which stretches may overlap: times are those of frames."""
_SLIDE_SECONDS = 0.8
"""Shortest slide."""


def shots(cuts: Sequence[float], end: float) -> list[Interval]:
    """Return the shots between cuts.

    :param cuts: times, ascending.
    :param end: end of the video.
    :return: at least one.
    """
    edges = [0.0, *(cut for cut in cuts if 0 < cut < end), max(end, 0.0)]
    return list(pairwise(edges))


def covered(stretches: Sequence[Interval]) -> float:
    """Return the seconds of stretches that do not overlap."""
    return sum(end - start for start, end in stretches)


def without(stretches: Sequence[Interval], others: Sequence[Interval]) -> list[Interval]:
    """Return what is left of stretches without others.

    :param stretches: ascending.
    :param others: ascending.
    :return: ascending.
    """
    found = []
    for start, end in stretches:
        for out, back in others:
            if out < end and back > start:
                if out > start:
                    found.append((start, out))
                start = max(start, back)
        if start < end:
            found.append((start, end))
    return found


def share_still(differences: Sequence[float]) -> float:
    """Return the share of frames that hardly differ from the one before."""
    later = differences[1:]
    return sum(one <= _STILL for one in later) / len(later) if later else 0.0


def slideshow(frozen: Sequence[Interval], cuts: Sequence[float], end: float) -> float:
    """Return how much of a video is a slideshow: still pictures, with cuts or fades between them.

    :param frozen: frozen stretches, ascending.
    :param cuts: hard cuts.
    :param end: end of the video.
    :return: the share of time on slides and short changes between them; 0 if there are not two slides. A slow
        zoom moves, so it does not count.
    """
    slides = _at_cuts(frozen, cuts)
    slides = [one for one in slides if one[1] - one[0] >= _SLIDE_SECONDS]
    if len(slides) < 2 or end <= 0:
        return 0.0
    changes = [
        (before[1], after[0])
        for before, after in pairwise(slides)
        if -_OVERLAP <= after[0] - before[1] <= _FADE_SECONDS
    ]
    return min(1.0, (covered(slides) + covered(changes)) / end) if changes else 0.0


def _at_cuts(frozen: Sequence[Interval], cuts: Sequence[float]) -> list[Interval]:
    """Split stretches at cuts: two slides that follow each other at once may be reported as one."""
    found = []
    for start, end in frozen:
        edges = [start, *(cut for cut in cuts if start + 0.1 < cut < end - 0.1), end]
        found += list(pairwise(edges))
    return found
