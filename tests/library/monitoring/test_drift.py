"""Drift that is there is found; where nothing has changed, alarms are as rare as they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from modelmill.monitoring.drift import (
    MISSING,
    REST,
    BinShares,
    Classes,
    Column,
    Numbers,
    compare,
    stability_index,
)

SEEDS = 100


def draw(
    seed: int, rows: int, *, shift: float = 0.0, tilt: float = 0.0, missing: float = 0.0
) -> list[object]:
    """Return a column of each kind: normal, skewed, whole numbers, classes."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(shift, 1, rows)
    normal[rng.random(rows) < missing] = np.nan
    skewed = rng.exponential(1 + 2 * shift, rows)
    counts = rng.poisson(2 + 2 * shift, rows).astype(float)
    shares = np.array([0.5 - tilt, 0.3, 0.15 + tilt, 0.05])
    classes = {str(n): int(count) for n, count in enumerate(rng.multinomial(rows, shares))}
    return [normal, skewed, counts, classes]


def columns(reference: list[object], current: list[object]) -> list[Column]:
    names = ("normal", "skewed", "counts")
    found: list[Column] = [Numbers(name, reference[n], current[n]) for n, name in enumerate(names)]
    return [*found, Classes("classes", reference[3], current[3])]


@pytest.mark.parametrize("rows", [100, 1000])
def test_without_change_alarms_are_as_rare_as_stated(rows: int) -> None:
    alarms = sum(
        any(
            column.drifted
            for column in compare(
                columns(draw(2 * seed, 2 * rows), draw(2 * seed + 1, rows)), max_psi=0.001, false_alarms=0.05
            )
        )
        for seed in range(SEEDS)
    )
    # More than this has a chance of one in a thousand where the rate is 5 %.
    assert alarms <= binom.ppf(0.999, SEEDS, 0.05)


def test_with_the_default_limits_there_is_no_false_alarm_at_all() -> None:
    for seed in range(SEEDS):
        found = compare(
            columns(draw(2 * seed, 2000), draw(2 * seed + 1, 500)), max_psi=0.1, false_alarms=0.01
        )
        assert not any(column.drifted for column in found), seed


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"shift": 0.5}, {"normal", "skewed", "counts"}),
        ({"tilt": 0.2}, {"classes"}),
        ({"missing": 0.2}, {"normal"}),
    ],
)
def test_planted_drift_is_found_where_it_is(how: dict[str, float], expected: set[str]) -> None:
    for seed in range(20):
        found = compare(
            columns(draw(2 * seed, 2000), draw(2 * seed + 1, 500, **how)), max_psi=0.1, false_alarms=0.01
        )
        assert {column.name for column in found if column.drifted} == expected, seed


def test_a_shift_that_is_certain_and_small_is_no_drift() -> None:
    rng = np.random.default_rng(0)
    (found,) = compare(
        [Numbers("x", rng.normal(0, 1, 100_000), rng.normal(0.05, 1, 100_000))],
        max_psi=0.1,
        false_alarms=0.01,
    )
    assert found.p < 1e-6
    assert not found.drifted


def test_the_index_is_the_symmetric_divergence() -> None:
    shares = [
        BinShares(name="a", reference=0.5, current=0.25),
        BinShares(name="b", reference=0.5, current=0.75),
    ]
    expected = (0.25 - 0.5) * np.log(0.25 / 0.5) + (0.75 - 0.5) * np.log(0.75 / 0.5)
    assert stability_index(shares, 10**9, 10**9) == pytest.approx(expected, abs=1e-6)
    empty = [BinShares(name="a", reference=1.0, current=0.0), BinShares(name="b", reference=0.0, current=1.0)]
    assert np.isfinite(stability_index(empty, 100, 100))


@pytest.mark.parametrize(
    ("column", "drifted"),
    [
        (Numbers("constant", np.ones(500), np.ones(500)), False),
        (Numbers("other constant", np.ones(500), np.full(500, 2.0)), True),
        (Numbers("all missing", np.full(500, np.nan), np.full(500, np.nan)), False),
        (Numbers("gone", np.arange(500.0), np.full(500, np.nan)), True),
        (Numbers("two values", np.repeat([0.0, 1.0], 250), np.repeat([0.0, 1.0], [240, 260])), False),
        (Classes("one class", {"a": 500}, {"a": 300}), False),
        (Classes("new class", {"a": 500}, {"a": 250, "b": 250}), True),
        (Classes("all missing", {MISSING: 500}, {MISSING: 500}), False),
        (Classes("rare ones", {str(n): 1 for n in range(900)}, {str(n): 1 for n in range(900)}), False),
    ],
)
def test_odd_columns(column: Column, drifted: bool) -> None:
    (found,) = compare([column], max_psi=0.1, false_alarms=0.01)
    assert found.drifted is drifted
    assert 0 <= found.p <= 1
    assert found.psi >= 0
    assert sum(share.reference for share in found.shares) == pytest.approx(1)
    if column.name == "rare ones":
        assert found.shares[-1].name == REST
