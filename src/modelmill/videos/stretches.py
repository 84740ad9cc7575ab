"""Stretches of time: shots, frozen and black stretches, slideshows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Interval = tuple[float, float]

_STILL = 0.1
"""Mean absolute difference of frames, of 100, up to which nothing moves."""


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


def slideshow(slides: Sequence[Interval], end: float) -> float:
    """Return how much of a video is a slideshow: still pictures, with cuts or fades between them.

    :param slides: runs of two slides and more, with the changes between them.
    :param end: end of the video.
    :return: the share of time in such runs. A slow zoom moves, so it does not count.
    """
    return min(1.0, covered(slides) / end) if end > 0 else 0.0
