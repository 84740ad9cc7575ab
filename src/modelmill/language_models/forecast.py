"""What the rest of a table will cost, from the answers that are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from modelmill.language_models.prices import Tariff
from modelmill.options import Record

if TYPE_CHECKING:
    from modelmill.language_models.answers import LabelAnswer


class Forecast(Record):
    """What requests will cost. Costs are in the budget's unit: money, or tokens."""

    requests: int
    """That are still to be asked."""
    from_answers: int
    """Answers with a usage that it is made from; 0: it is the worst case."""
    input_tokens: float
    output_tokens: float
    cost: float
    """Of the requests that are still to be asked, if no answer is lost."""
    worst_case: float
    """Of the same requests: no bill is higher."""
    spent: float
    """Accounted for before it."""
    budget: float
    unit: str

    @property
    def fits(self) -> bool:
        """Whether the budget suffices, as far as the forecast tells."""
        return self.spent + self.cost <= self.budget


def forecast(
    sizes: Mapping[str, int],
    todo: Iterable[str],
    answers: Mapping[str, LabelAnswer],
    *,
    tariff: Tariff,
    max_tokens: int,
    spent: int,
    per_minute: int | None = None,
) -> Forecast:
    """Forecast what requests will cost.

    Input tokens are regressed on the size of the request (a regression estimator: Cochran, *Sampling
    Techniques*, chapter 7); output tokens are their mean.

    :param sizes: input tokens in the worst case, by key.
    :param todo: keys that are still to be asked.
    :param answers: of other requests to the same model.
    :param tariff: budget and prices.
    :param max_tokens: output tokens of an answer at most.
    :param spent: units accounted for so far.
    :param per_minute: tokens that a minute has; None: not limited. What needs more is not asked.
    :return: the forecast; without answers it is the worst case.
    """
    wanted = np.array([sizes[key] for key in todo], np.float64)
    seen = [
        (sizes[key], answer.input_tokens, answer.output_tokens)
        for key, answer in answers.items()
        if key in sizes and answer.input_tokens is not None and answer.output_tokens is not None
    ]
    if seen:
        x, inputs, outputs = (np.array(column, np.float64) for column in zip(*seen, strict=True))
        spread = float(((x - x.mean()) ** 2).sum())
        slope = float(((x - x.mean()) * (inputs - inputs.mean())).sum()) / spread if spread > 0 else 0.0
        expected = (inputs.mean() + slope * (wanted - x.mean())).clip(min=0)
        if per_minute is not None:
            fits = expected + outputs.mean() <= per_minute
            wanted, expected = wanted[fits], expected[fits]
        input_tokens, output_tokens = float(expected.sum()), float(outputs.mean()) * len(wanted)
    else:
        input_tokens, output_tokens = float(wanted.sum()), float(max_tokens * len(wanted))
    worst = wanted.sum() * tariff.input_units + len(wanted) * max_tokens * tariff.output_units
    return Forecast(
        requests=len(wanted),
        from_answers=len(seen),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cost=tariff.shown(input_tokens * tariff.input_units + output_tokens * tariff.output_units),
        worst_case=tariff.shown(float(worst)),
        spent=tariff.shown(spent),
        budget=tariff.shown(tariff.limit),
        unit=tariff.unit,
    )
