"""Which students go on to the next round."""

from __future__ import annotations

from modelmill.compression.search.recipes import Structure
from modelmill.compression.search.students import Standing, survivors


def standings(*drops: float, doubt: float = 0.0) -> list[Standing]:
    return [
        Standing(Structure(number + 1, 16, 1.0), drop=drop, loss=drop + 1, doubt=doubt)
        for number, drop in enumerate(drops)
    ]


def layers(found: list[Structure]) -> list[int]:
    return [structure.layers for structure in found]


def test_the_fastest_within_the_limit_and_the_best_go_on() -> None:
    some = standings(0.2, 0.009, 0.008, 0.03, 0.007, 0.001)
    assert layers(survivors(some, 2, limit=0.01, quality=True)) == [2, 6]
    assert layers(survivors(some, 3, limit=0.01, quality=True)) == [2, 3, 6]
    assert layers(survivors(some, 4, limit=0.01, quality=True)) == [2, 3, 5, 6]
    # Where none is within the limit yet, the best go on.
    assert layers(survivors(some, 2, limit=-1)) == [5, 6]
    assert layers(survivors(some[:1], 2, limit=0.01)) == [1]


def test_doubt_speaks_for_the_fastest_and_against_what_is_to_be_sure() -> None:
    some = standings(0.2, 0.014, 0.009, 0.03, 0.005, 0.001, doubt=0.005)
    assert layers(survivors(some, 2, limit=0.01)) == [2, 5]
    assert layers(survivors(some, 3, limit=0.01)) == [2, 3, 5]
    assert layers(survivors(some, 4, limit=0.01)) == [2, 3, 5, 6]
    assert layers(survivors(some, 2, limit=0.01, quality=True)) == [2, 6]
    assert layers(survivors(some, 2, limit=0.003)) == [5, 6], "none is sure: the best, and the hopeful"
