"""Nights with deaths from a seed; ``benchmarks/simulated_nights.py`` plays any number of them."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import pytest
from benchmarks import simulated_nights
from benchmarks.simulated_nights import play

SEEDS = int(os.environ.get("MODELMILL_SEEDS", "10"))
"""Of one night each: CI plays 500."""


@pytest.fixture(scope="module")
def template(mlflow_database: Path) -> Path:
    """MLflow's database; a process does some things once, which would change where the first seed dies."""
    play(mlflow_database, 0, 1)
    return mlflow_database


@pytest.mark.parametrize("seed", range(4))
def test_after_each_night_all_is_as_if_nothing_had_died(template: Path, seed: int) -> None:
    world, wrong = play(template, seed, 3)
    assert not wrong, "\n".join([wrong, *world.log])


@pytest.mark.parametrize("seed", range(1000, 1000 + SEEDS))
def test_after_one_night_all_is_as_if_nothing_had_died(template: Path, seed: int) -> None:
    world, wrong = play(template, seed, 1)
    assert not wrong, "\n".join([wrong, *world.log])


def test_a_seed_replays(template: Path) -> None:
    first, again = (play(template, 5, 2)[0] for _ in range(2))
    assert first.deaths.total() > 0
    assert again.log == first.log


def test_a_step_that_does_not_commit_under_its_key_is_found(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = simulated_nights.write_rows

    def careless(*args: Any, **how: Any) -> int:
        return real(*args, **how | {"transaction": uuid.uuid4().hex})

    monkeypatch.setattr(simulated_nights, "write_rows", careless)
    # Seeds in which it dies between the commit and its answer.
    found = [play(template, seed, 3)[1] for seed in (2, 4)]
    assert any(wrong.startswith("the rows that were kept") for wrong in found)
