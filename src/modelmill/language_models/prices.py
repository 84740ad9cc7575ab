"""What tokens cost, in whole units, so that sums are exact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from pydantic import Field, model_validator

from modelmill.language_models.dialects import Usage
from modelmill.options import Options

UNITS_PER_MONEY = 10**12
"""Units of a currency's one: a price of 0.10 for a million tokens is 100,000 units a token."""


class Prices(Options):
    """What an endpoint bills, in any currency."""

    input_per_million: float = Field(ge=0, description="For a million tokens of input.")
    output_per_million: float = Field(ge=0, description="For a million tokens of output.")


class SpendingLimit(Options):
    """What may be spent on one result of the step, over all its attempts: money or tokens."""

    money: float | None = Field(
        None, gt=0, description="In the currency of the prices; empty: there is a budget of tokens."
    )
    tokens: int | None = Field(
        None, gt=0, description="Tokens of input and output; empty: there is a budget of money."
    )

    @model_validator(mode="after")
    def _one(self) -> SpendingLimit:
        if (self.money is None) == (self.tokens is None):
            raise ValueError("a budget is either money or tokens")
        return self


@dataclass(frozen=True)
class Tariff:
    """A budget and prices in whole units."""

    limit: int
    """The budget."""
    input_units: int
    """For a token."""
    output_units: int
    """For a token."""
    unit: Literal["money", "tokens"]

    @classmethod
    def of(cls, budget: SpendingLimit, prices: Prices | None) -> Tariff:
        """Return the tariff of a budget.

        :param budget: money or tokens.
        :param prices: needed for money.
        :return: prices are rounded up, the budget is rounded down.
        :raises ValueError: if a budget of money has no prices.
        """
        if budget.tokens is not None:
            return cls(limit=budget.tokens, input_units=1, output_units=1, unit="tokens")
        if prices is None or budget.money is None:
            raise ValueError("a budget of money needs prices")
        return cls(
            limit=math.floor(_exact(budget.money) * UNITS_PER_MONEY),
            input_units=_per_token(prices.input_per_million),
            output_units=_per_token(prices.output_per_million),
            unit="money",
        )

    def cost(self, usage: Usage) -> int:
        """Return what tokens cost, in units."""
        return usage.input_tokens * self.input_units + usage.output_tokens * self.output_units

    def shown(self, units: float) -> float:
        """Return units as money or tokens."""
        return units / UNITS_PER_MONEY if self.unit == "money" else float(units)


def _exact(value: float) -> Decimal:
    return Decimal(str(value))


def _per_token(per_million: float) -> int:
    return math.ceil(_exact(per_million) * (UNITS_PER_MONEY // 10**6))
