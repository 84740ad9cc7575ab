"""A plan as an artifact: which signals are computed in which stage, what that should cost, what it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat

from modelmill.signals.groups import Tier


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GroupCost(_Part):
    """What a group costs, in CPU seconds of all threads."""

    tier: Tier = "explicit"
    batch: NonNegativeFloat = Field(0.0, description="Seconds of each call, whatever the rows.")
    row: NonNegativeFloat = Field(
        0.0, description="Seconds of each row, paid once for all signals of the group (the trunk)."
    )
    signals: dict[str, NonNegativeFloat] = Field(description="Seconds of each row for each signal on top.")


class StagePlan(_Part):
    """One stage: signals of one group, computed on the rows that still need one of them."""

    group: str
    signals: tuple[str, ...] = Field(min_length=1)
    rows: float | None = Field(None, ge=0, le=1, description="Share of all rows that should need it.")
    settled: float | None = Field(None, ge=0, le=1, description="Share of all rows settled after it.")
    seconds: float | None = Field(None, ge=0, description="CPU seconds of it for each row of the input.")


class Plan(_Part):
    """The order in which signals are computed. Any plan leads to the same decisions."""

    rule_set: str
    """Digest of the rule set."""
    stages: tuple[StagePlan, ...]
    costs: dict[str, GroupCost] = {}
    """Measured cost of each group; empty where nothing was measured."""
    method: Literal["tiers", "subsets", "beam", "ratios"] = "tiers"
    """How the order was found: explicit before measured before model; the best of all orders (dynamic
    programming over subsets); a beam of the best orders so far; a ratio of gain and cost for each signal."""
    sample_rows: int = 0
    batch_rows: int = 8192
    """Rows of a chunk that the cost of a call is spread over."""
    seconds: float | None = None
    """Expected CPU seconds of the signals for each row."""
    seconds_of_everything: float | None = None
    """The same where every signal is computed on every row."""

    def lines(self) -> list[str]:
        """Return the plan as text.

        :return: one line for each stage, after one about all.
        """
        head = f"plan for {self.rule_set[:12]}, {len(self.stages)} stages ({self.method})"
        if self.seconds is not None and self.seconds_of_everything:
            share = self.seconds / self.seconds_of_everything
            head += (
                f": {1e6 * self.seconds:,.1f} µs of CPU a row, {share:.1%} of computing everything; "
                f"measured on {self.sample_rows:,} rows"
            )
        lines = [head]
        for number, stage in enumerate(self.stages):
            line = f"{number + 1}. {stage.group}: {named(stage.signals)}"
            if stage.rows is not None and stage.seconds is not None and stage.settled is not None:
                line += f" | on {stage.rows:.1%} of the rows, {1e6 * stage.seconds:,.1f} µs"
                line += f" | {stage.settled:.1%} settled"
            lines.append(line)
        return lines


class StageActual(_Part):
    """What a stage did."""

    rows: int = 0
    """Rows that it was computed on."""
    calls: int = 0
    seconds: float = 0.0
    """CPU seconds of all threads."""
    settled: int = 0
    """Rows that were settled by it."""


class Actual(_Part):
    """What a plan did."""

    rows: int = 0
    overhead: float = 0.0
    """CPU seconds of the engine itself."""
    settled_before: int = 0
    """Rows that needed no signal."""
    stages: tuple[StageActual, ...] = ()

    @property
    def seconds(self) -> float:
        """CPU seconds of the signals."""
        return sum(stage.seconds for stage in self.stages)

    def lines(self, plan: Plan) -> list[str]:
        """Return what happened beside what was expected.

        :param plan: the plan.
        :return: one line for each stage, after one about all.
        """
        rows = max(self.rows, 1)
        expected = "" if plan.seconds is None else f", {1e6 * plan.seconds:,.1f} expected"
        head = f"{self.rows:,} rows: {1e6 * self.seconds / rows:,.1f} µs of CPU a row for signals{expected}"
        lines = [f"{head}, {1e6 * self.overhead / rows:,.1f} for the engine"]
        for number, (stage, actual) in enumerate(zip(plan.stages, self.stages, strict=True)):
            line = f"{number + 1}. {stage.group}: {actual.rows / rows:.1%} of the rows"
            line += "" if stage.rows is None else f" ({stage.rows:.1%} expected)"
            line += f", {1e6 * actual.seconds / rows:,.1f} µs"
            line += "" if stage.seconds is None else f" ({1e6 * stage.seconds:,.1f} expected)"
            lines.append(f"{line}, {actual.settled / rows:.1%} settled")
        return lines


def named(names: Sequence[str], *, most: int = 6) -> str:
    """Return the first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def plan_by_tiers(rule_set: str, groups: Mapping[str, tuple[Tier, tuple[str, ...]]]) -> Plan:
    """Return the plan where nothing was measured: explicit before measured before model.

    :param rule_set: digest of the rule set.
    :param groups: tier and signals of each group.
    :return: the plan.
    """
    order: dict[Tier, int] = {"explicit": 0, "measured": 1, "model": 2}
    ranked = sorted(groups.items(), key=lambda item: order[item[1][0]])
    stages = [StagePlan(group=name, signals=signals) for name, (_, signals) in ranked if signals]
    return Plan(rule_set=rule_set, stages=tuple(stages))
