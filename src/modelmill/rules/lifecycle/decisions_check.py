"""The gate's check of rule sets: how their decisions change if a challenger is promoted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from modelmill.registry.gate_check import GateCheck
from modelmill.rules.lifecycle.options import DecisionLimits

if TYPE_CHECKING:
    from modelmill.registry.comparison import Comparison, NotJudged
    from modelmill.registry.contest import Contest
    from modelmill.settings import Settings


class DecisionsCheck(DecisionLimits, GateCheck):
    """Rule sets that read the model decide no worse with the challenger, all else in them being the same."""

    check: Literal["decisions"] = "decisions"

    def compare(self, contest: Contest) -> Iterable[Comparison | NotJudged]:
        """See :meth:`GateCheck.compare`."""
        from modelmill.rules.lifecycle.decision_changes import compare_decisions

        return compare_decisions(self, contest)

    def outside_state(self, name: str, settings: Settings) -> str:
        """See :meth:`GateCheck.outside_state`."""
        from modelmill.rules.lifecycle.decision_changes import rule_sets_of
        from modelmill.rules.lifecycle.registered_rule_sets import rule_set_state

        return " ".join(rule_set_state(source, settings) for source in rule_sets_of(self, name, settings))
