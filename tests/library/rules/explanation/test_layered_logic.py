"""Layers of steps: what they compute and demand is what one step after the other computes and demands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from modelmill.rules.evaluation import possible_values as possible
from modelmill.rules.evaluation.layered_logic import layers_of
from modelmill.rules.language import kernels
from modelmill.rules.language.program import Step

_ALONE: dict[Callable[..., Any], Callable[..., Any]] = {
    kernels.conjunction: possible.conjunction,
    kernels.disjunction: possible.disjunction,
    kernels.negation: possible.negation,
    kernels.is_true: possible.is_true,
    kernels.is_null: possible.is_null,
}


@pytest.mark.parametrize("seed", range(20))
def test_steps_side_by_side_are_what_they_are_one_by_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    leaves, count = 5, 40
    # Leaves, a value that is no condition, and steps over all of them; some steps are not laid out at all.
    steps = [Step(lambda batch: batch, (), "boolean") for _ in range(leaves)]
    steps.append(Step(lambda batch: batch, (), "float"))
    while len(steps) < count:
        kernel = list(_ALONE)[random.integers(len(_ALONE))]
        width = 2 if kernel in (kernels.conjunction, kernels.disjunction) else 1
        operands = tuple(random.choice(len(steps), width).tolist())
        is_logical = random.random() < 0.8
        steps.append(Step(lambda *values: values, operands, "boolean", kernel if is_logical else None))
    logical = {
        number
        for number, step in enumerate(steps)
        if step.kernel is not None and all(steps[one].kind == "boolean" for one in step.operands)
    }
    computed = list(range(leaves + 1, count))
    row = {number: int(place) for number, place in enumerate(random.permutation(count))}
    layers = layers_of(steps, [*range(leaves), *computed], row, set(range(leaves)))
    assert sorted(number for layer in layers for number in layer.others) == sorted(set(computed) - logical)
    assert sorted(place for layer in layers for place in layer.every) == list(range(count))

    given = random.integers(1, 8, (count, 30)).astype(np.uint8)
    sets, expected = given.copy(), given.copy()
    for layer in layers:
        layer.forward(sets)
        for number in layer.others:  # any function of its operands
            sets[row[number]] = np.bitwise_or.reduce([sets[row[one]] for one in steps[number].operands])
    for number in computed:
        values = [expected[row[one]] for one in steps[number].operands]
        own = steps[number].kernel if number in logical else None
        expected[row[number]] = np.bitwise_or.reduce(values) if own is None else _ALONE[own](*values)
    assert (sets == expected).all()

    asked, unclear = random.integers(0, 256, (2, count, 4)).astype(np.uint8)
    asked[random.random(count) < 0.7] = 0
    demand, wanted = asked.copy(), asked.copy()
    for layer in reversed(layers):
        layer.backward(demand, unclear)
    for number in reversed(range(count)):
        for parent in logical:
            if number in steps[parent].operands:
                wanted[row[number]] |= wanted[row[parent]]
        wanted[row[number]] &= unclear[row[number]]
    assert (demand == wanted).all()
