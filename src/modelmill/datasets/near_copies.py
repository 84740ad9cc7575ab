"""Which of texts that are nearly alike stay: a text is dropped only if one that stays is nearly the same.

Texts are taken in their order, and each stays unless one that stays already is nearly the same: the
lexicographically first maximal independent set of the graph of pairs (Blelloch, Fineman, Shun, "Greedy
sequential maximal independent set and matching are parallel on average", 2012). It depends on the graph and
the order alone. Of a chain of texts, each nearly the next one, those stay that no kept one is nearly like.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Compare = Callable[[Ints, Ints], Floats]
"""Returns the similarity of pairs of texts."""

_LEADERS = 4
"""Neighbours of a dropped text that the others are compared with, in each round."""
_ROUNDS = 8


@dataclass(frozen=True)
class NearPairs:
    """Pairs of texts whose similarity reaches the threshold, each pair once."""

    first: Ints
    second: Ints
    similarity: Floats
    crowded: Bools
    """Whether a pair is from a crowded bucket, where not all texts were compared."""
    threshold: float = 1.0

    @classmethod
    def none(cls) -> NearPairs:
        """Return no pairs."""
        no = np.empty(0, np.int64)
        return cls(no, no, np.empty(0), np.empty(0, bool))

    def __len__(self) -> int:
        return len(self.first)

    def renamed(self, names: Ints, places: Ints) -> NearPairs:
        """Return the pairs of texts that are known, under other names.

        :param names: texts, sorted.
        :param places: the new name of each.
        :return: the pairs of which both texts are known.
        """
        if not len(names):
            return self.only(np.zeros(len(self), bool))
        one, other = (
            np.minimum(np.searchsorted(names, end), len(names) - 1) for end in (self.first, self.second)
        )
        found = self.only((names[one] == self.first) & (names[other] == self.second))
        first, second = (places[np.searchsorted(names, end)] for end in (found.first, found.second))
        return NearPairs(first, second, found.similarity, found.crowded, self.threshold)

    def only(self, chosen: Bools | Ints) -> NearPairs:
        """Return some of the pairs."""
        ends = (self.first[chosen], self.second[chosen])
        return NearPairs(*ends, self.similarity[chosen], self.crowded[chosen], self.threshold)

    def with_more(self, first: Ints, second: Ints, similarity: Floats) -> NearPairs:
        """Return these pairs and others of crowded buckets."""
        ends = (np.concatenate([self.first, first]), np.concatenate([self.second, second]))
        more = np.ones(len(first), bool)
        crowded, alike = np.concatenate([self.crowded, more]), np.concatenate([self.similarity, similarity])
        return NearPairs(*ends, alike, crowded, self.threshold)


def twins(pairs: NearPairs, *, count: int, fixed: int, compare: Compare | None) -> tuple[Ints, Floats]:
    """Return for each text the one that stands for it.

    In a crowded bucket only a few texts were compared with all others. If one of those is dropped, the first
    texts near it that stay are compared with all texts near it.

    :param pairs: pairs of the numbers of texts; a text comes before those of larger numbers.
    :param count: number of texts.
    :param fixed: number of texts, the first ones, that stay in any case.
    :param compare: gives the similarity of texts, by their numbers; None: no pair is from a crowded bucket.
    :return: number of the most similar text that stays, of a fixed one if there is any, and -1 for texts that
        stay, ``(texts,)``; and the similarity, 1 there.
    """
    pairs = pairs.only((pairs.first >= fixed) | (pairs.second >= fixed))
    led, compared = np.empty(0, np.int64), _coded(pairs.first, pairs.second, count)
    rounds = 0
    while compare is not None and rounds < _ROUNDS:
        stays = _first_independent(pairs, count)
        stars = _stars(pairs, stays)
        if not len(stars):
            break
        first, second, leads = _among_neighbours(*stars.T, stays=stays, led=led)
        if not len(leads):
            break
        led = np.append(led, leads)
        code, places = np.unique(_coded(first, second, count), return_index=True)
        fresh = places[~np.isin(code, compared) & (np.maximum(first, second)[places] >= fixed)]
        if not len(fresh):
            continue
        rounds += 1
        first, second = first[fresh], second[fresh]
        compared = np.append(compared, _coded(first, second, count))
        similarity = compare(first, second)
        near = similarity >= pairs.threshold
        pairs = pairs.with_more(first[near], second[near], similarity[near])
    stays = _first_independent(pairs, count)
    return _most_similar(pairs, stays, fixed)


def _first_independent(pairs: NearPairs, count: int) -> Bools:
    """Return which texts stay."""
    earlier, later = np.minimum(pairs.first, pairs.second), np.maximum(pairs.first, pairs.second)
    order = np.argsort(earlier, kind="stable")
    nodes, starts = np.unique(earlier[order], return_index=True)
    ends = np.append(starts, len(order))[1:].tolist()
    others = later[order].tolist()
    stays = [True] * count
    for node, start, end in zip(nodes.tolist(), starts.tolist(), ends, strict=True):
        if stays[node]:
            for other in others[start:end]:
                stays[other] = False
    return np.array(stays, bool)


def _stars(pairs: NearPairs, stays: Bools) -> Ints:
    """Return dropped texts of crowded buckets, each with all texts near it, ``(edges, 2)``."""
    found = pairs.only(pairs.crowded)
    both = np.stack([np.append(found.first, found.second), np.append(found.second, found.first)], axis=1)
    both = both[~stays[both[:, 0]]]
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    many = np.zeros(len(both), bool)
    many[1:] = both[1:, 0] == both[:-1, 0]
    many[:-1] |= many[1:]
    return np.asarray(both[many], np.int64)


def _among_neighbours(center: Ints, leaf: Ints, *, stays: Bools, led: Ints) -> tuple[Ints, Ints, Ints]:
    """Return pairs of the first neighbours of each dropped text, that stay and have not led, with all others.

    :param center: dropped texts, sorted.
    :param leaf: a neighbour of each, sorted within those of one text.
    :param stays: which texts stay.
    :param led: codes of text and neighbour that have led before.
    :return: both texts of each pair; codes of those that lead now.
    """
    codes = center * len(stays) + leaf
    starts = np.flatnonzero(np.append(True, center[1:] != center[:-1]))
    sizes = np.diff(np.append(starts, len(center)))
    group = np.repeat(np.arange(len(starts)), sizes)
    may = stays[leaf] & ~np.isin(codes, led)
    rank = np.cumsum(may) - np.repeat(np.append(0, np.cumsum(may))[starts], sizes)
    leaders = np.flatnonzero(may & (rank <= _LEADERS))
    width = sizes[group[leaders]]
    others = np.arange(width.sum()) - np.repeat(np.cumsum(width) - width, width)
    others += np.repeat(starts[group[leaders]], width)
    first, second = np.repeat(leaf[leaders], width), leaf[others]
    return first[first != second], second[first != second], codes[leaders]


def _most_similar(pairs: NearPairs, stays: Bools, fixed: int) -> tuple[Ints, Floats]:
    text, near = np.append(pairs.first, pairs.second), np.append(pairs.second, pairs.first)
    similarity = np.append(pairs.similarity, pairs.similarity)
    chosen = ~stays[text] & stays[near]
    text, near, similarity = text[chosen], near[chosen], similarity[chosen]
    order = np.lexsort((near, -similarity, near >= fixed, text))
    text, places = np.unique(text[order], return_index=True)
    found, alike = np.full(len(stays), -1, np.int64), np.ones(len(stays))
    found[text], alike[text] = near[order][places], similarity[order][places]
    return found, alike


def _coded(first: Ints, second: Ints, count: int) -> Ints:
    return np.minimum(first, second) * count + np.maximum(first, second)
