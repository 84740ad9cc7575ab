"""Near-duplicate videos: buckets of their fingerprints, and how alike two of them are.

Two videos are near-duplicates if, at the same times from their starts, their pictures without borders have
perceptual hashes (Zauner 2010) with few different bits on average: those of whole frames, or those of one
video's frames and of the other's middles, in which case one is a crop of the other. Candidates share a part
of a hash at some time (Indyk and Motwani, Approximate nearest neighbors, 1998: bit sampling); each is then
compared over all common times, so chance can hide a pair, but never make one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from modelmill.videos.duplicate_request import Relation
from modelmill.videos.fingerprints import CROPS, Hashes

Numbers = npt.NDArray[np.float64]

_EVERY = 3
"""One of so many places in time has buckets: copies have theirs at the same ones."""
_FEW = 8
"""Frames up to which all have buckets."""
_GRID = 0.5
"""Seconds between the places that a time may have in a bucket."""
_APART = 0.26
"""Seconds by which the times of two frames that are compared may differ: one sample of four a second."""
_ODD = np.uint64(0x9E3779B97F4A7C15)
_MARGIN = 1.5
"""Bits by which a middle has to be nearer than the whole frame to call it a crop."""


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of a video's frames."""

    times: Numbers
    """In seconds from the first frame, ascending, ``(frames,)``."""
    hashes: Hashes
    """``(frames, crops)``: see :data:`modelmill.videos.fingerprints.CROPS`."""

    @classmethod
    def unpacked(cls, times: npt.ArrayLike, packed: bytes) -> Self:
        """Read a fingerprint as ``measure_videos`` writes it.

        :param times: column ``hash_times``.
        :param packed: column ``hashes``.
        :return: the fingerprint.
        :raises ValueError: if there are not as many hashes as the times ask for.
        """
        found = np.asarray(times, np.float64)
        hashes = np.frombuffer(packed, ">u8").astype(np.uint64).reshape(len(found), len(CROPS))
        return cls(found, hashes)

    def buckets(self) -> npt.NDArray[np.int32]:
        """Return the buckets that the video is in, each once: halves of hashes at places in time.

        A half is two of a hash's four parts of 16 bits: two bits may differ, whichever they are, and chance
        brings few strangers together.
        """
        places = np.floor(self.times / _GRID + 1e-6).astype(np.uint64)
        chosen = (places % np.uint64(_EVERY) == 0) | (len(places) <= _FEW)
        parts = [(self.hashes[chosen] >> np.uint64(16 * part)) & np.uint64(0xFFFF) for part in range(4)]
        keys = [np.empty(0, np.uint64)]
        for number, (one, other) in enumerate(itertools.combinations(parts, 2)):
            kind = (places[chosen, None] * np.uint64(8) + np.uint64(number)) << np.uint64(32)
            keys.append((kind | (one << np.uint64(16)) | other).ravel())
        mixed = np.unique(np.concatenate(keys)) * _ODD
        return np.unique((mixed >> np.uint64(32)).astype(np.uint32).view(np.int32))


@dataclass(frozen=True)
class Likeness:
    """How alike two videos are."""

    distance: float
    """Bits of 64 by which their hashes differ, on average."""
    frames: int
    """Frames that were compared."""
    crop: float
    """Share that was cut off each side of the first one to make the second; negative: the other way round; 0:
    neither."""


def likeness(one: Fingerprint, other: Fingerprint) -> Likeness | None:
    """Compare two videos at their common times.

    :param one: a fingerprint.
    :param other: another one.
    :return: how alike they are; None if they have no common times.
    """
    first, second = _aligned(one.times, other.times)
    if not len(first):
        return None
    theirs, ours = other.hashes[second], one.hashes[first]
    of_one = np.bitwise_count(ours ^ theirs[:, :1]).mean(0)
    of_other = np.bitwise_count(theirs ^ ours[:, :1]).mean(0)
    both = np.concatenate([-of_one, -of_other])
    best = int(np.argmax(both))
    whole, nearest = float(of_one[0]), -float(both[best])
    if best % len(CROPS) == 0 or nearest > whole - _MARGIN:
        return Likeness(min(whole, nearest), len(first), 0.0)
    share = CROPS[best % len(CROPS)]
    return Likeness(nearest, len(first), share if best < len(CROPS) else -share)


def _aligned(one: Numbers, other: Numbers) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the places of times of both that are near each other."""
    if not len(one) or not len(other):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    right = np.clip(np.searchsorted(other, one), 1, max(len(other) - 1, 1)).clip(max=len(other) - 1)
    left = np.maximum(right - 1, 0)
    nearest = np.where(np.abs(other[right] - one) < np.abs(other[left] - one), right, left)
    near = np.flatnonzero(np.abs(other[nearest] - one) <= _APART)
    return near, nearest[near]


def relation(share: float) -> Relation:
    """Say what a video is to another one, by the share that was cut off each side of that other one."""
    if share > 0:
        return "cropped"
    return "wider" if share < 0 else "copy"
