"""Plans as data: which signals each stage computes, what it should cost, and what it did cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, NonNegativeFloat

from modelmill.options import Record
from modelmill.signals.groups import TIERS, Tier


class GroupCost(Record):
    """Cost of a group of signals, in CPU seconds of all threads."""

    tier: Tier = "explicit"
    batch: NonNegativeFloat = Field(0.0, description="Seconds for each call, whatever the number of rows.")
    row: NonNegativeFloat = Field(
        0.0, description="Seconds for each row, paid once for all signals of the group (the trunk)."
    )
    signals: dict[str, NonNegativeFloat] = Field(description="Further seconds for each row, by signal.")


class StagePlan(Record):
    """One stage: signals of one group, computed on the rows that still need one of them."""

    group: str
    signals: tuple[str, ...] = Field(min_length=1)
    rows: float | None = Field(None, ge=0, le=1, description="Expected share of all rows that need it.")
    settled: float | None = Field(
        None, ge=0, le=1, description="Expected share of all rows that are settled after it."
    )
    seconds: float | None = Field(None, ge=0, description="Expected CPU seconds for each row of the input.")


class EvaluationPlan(Record):
    """The order in which signals are computed. Every plan leads to the same decisions."""

    rule_set: str
    """Digest of the rule set."""
    stages: tuple[StagePlan, ...]
    costs: dict[str, GroupCost] = {}
    """Measured cost of each group; empty if nothing was measured."""
    method: Literal["tiers", "subsets", "beam", "ratios"] = "tiers"
    """How the order was found. ``tiers``: explicit before measured before model; ``subsets``: the best of all
    orders, by dynamic programming over subsets; ``beam``: a beam search over subsets; ``ratios``: by the
    ratio of cost and gain of each signal."""
    sample_rows: int = 0
    batch_rows: int = 8192
    """Rows of a chunk, over which the cost of a call is spread."""
    seconds: float | None = None
    """Expected CPU seconds of the signals for each row of the input."""
    seconds_of_everything: float | None = None
    """The same if every signal were computed on every row."""

    def lines(self) -> list[str]:
        """Return the plan as text: a line about all of it, and one for each stage."""
        head = f"plan for {self.rule_set[:12]}, {len(self.stages)} stages ({self.method})"
        if self.seconds is not None and self.seconds_of_everything:
            share = self.seconds / self.seconds_of_everything
            head += (
                f": {_micros(self.seconds)} µs of CPU a row, {share:.1%} of computing everything; "
                f"measured on {self.sample_rows:,} rows"
            )
        lines = [head]
        for number, stage in enumerate(self.stages):
            line = f"{number + 1}. {stage.group}: {named(stage.signals)}"
            if stage.rows is not None and stage.seconds is not None and stage.settled is not None:
                line += f" | on {stage.rows:.1%} of the rows, {_micros(stage.seconds)} µs"
                line += f" | {stage.settled:.1%} settled"
            lines.append(line)
        return lines


class StageStatistics(Record):
    """Measured work of one stage."""

    rows: int = 0
    """Rows on which its signals were computed."""
    calls: int = 0
    seconds: float = 0.0
    """CPU seconds of all threads."""
    settled: int = 0
    """Rows that it settled."""


class PlanStatistics(Record):
    """Measured work of a plan."""

    rows: int = 0
    overhead: float = 0.0
    """CPU seconds of the engine, without those of the signals."""
    settled_before: int = 0
    """Rows that needed no signal at all."""
    stages: tuple[StageStatistics, ...] = ()

    @property
    def seconds(self) -> float:
        """CPU seconds of the signals."""
        return sum(stage.seconds for stage in self.stages)

    def lines(self, plan: EvaluationPlan) -> list[str]:
        """Return what was measured beside what the plan expected, in the same lines as the plan."""
        rows = max(self.rows, 1)
        expected = "" if plan.seconds is None else f", {_micros(plan.seconds)} expected"
        head = f"{self.rows:,} rows: {_micros(self.seconds / rows)} µs of CPU a row for signals{expected}"
        lines = [f"{head}, {_micros(self.overhead / rows)} for the engine"]
        for number, (stage, actual) in enumerate(zip(plan.stages, self.stages, strict=True)):
            line = f"{number + 1}. {stage.group}: {actual.rows / rows:.1%} of the rows"
            line += "" if stage.rows is None else f" ({stage.rows:.1%} expected)"
            line += f", {_micros(actual.seconds / rows)} µs"
            line += "" if stage.seconds is None else f" ({_micros(stage.seconds)} expected)"
            lines.append(f"{line}, {actual.settled / rows:.1%} settled")
        return lines


def named(names: Sequence[str], *, most: int = 6) -> str:
    """Return the first names of a list, and the number of further ones."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _micros(seconds: float) -> str:
    return f"{1e6 * seconds:,.1f}"


def plan_by_tiers(rule_set: str, groups: Mapping[str, tuple[Tier, tuple[str, ...]]]) -> EvaluationPlan:
    """Return the plan to use if nothing was measured: explicit before measured before model.

    :param rule_set: digest of the rule set.
    :param groups: tier and signals of each group.
    :return: the plan.
    """
    ranked = sorted(groups.items(), key=lambda item: TIERS.index(item[1][0]))
    stages = [StagePlan(group=name, signals=signals) for name, (_, signals) in ranked if signals]
    return EvaluationPlan(rule_set=rule_set, stages=tuple(stages))
