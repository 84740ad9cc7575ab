"""The gate's check of rule sets: what becomes of their decisions if a challenger is promoted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from modelmill.registry.gate_check import GateCheck

if TYPE_CHECKING:
    from modelmill.registry.comparison import Comparison, NotJudged
    from modelmill.registry.contest import Contest
    from modelmill.settings import Settings


class DecisionsCheck(GateCheck):
    """Rule sets that read the model decide no worse with the challenger, all else in them being the same."""

    check: Literal["decisions"] = "decisions"
    rule_sets: tuple[str, ...] = Field(
        (),
        description="Paths or URLs of rule sets, or models:/NAME@ALIAS; empty: the champion of every "
        "registered rule set that reads the model's champion.",
    )
    max_changed: float | None = Field(
        0.05,
        ge=0,
        le=1,
        description="Largest accepted share of test rows with another decision (0.05: 5 %); empty: any.",
    )
    label: str | None = Field(
        None,
        description="Column of the dataset with labels that say the right decision, null where none does.",
    )
    decision_of: dict[str, str] = Field(
        {}, description="Right decision of each label; a label that is not listed is a decision itself."
    )
    max_drop: float = Field(
        0.005, ge=0, lt=1, description="Largest accepted drop of the share of right decisions, beyond chance."
    )
    examples: int = Field(3, ge=0, le=100, description="Keys that are named for each kind of change.")

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if self.max_changed is None and self.label is None:
            raise ValueError("at least one of max_changed and label is needed")
        return self

    def compare(self, contest: Contest) -> Iterable[Comparison | NotJudged]:
        """See :meth:`GateCheck.compare`."""
        from modelmill.rules.lifecycle.decision_changes import compare_decisions

        return compare_decisions(self, contest)

    def outside_state(self, name: str, settings: Settings) -> str:
        """See :meth:`GateCheck.outside_state`."""
        from modelmill.rules.lifecycle.decision_changes import rule_sets_of
        from modelmill.rules.lifecycle.table_decisions import outside_state

        return " ".join(outside_state(source, settings) for source in rule_sets_of(self, name, settings))
