"""Every signal and every condition of a rule set on every row, for trials and for learning from rows.

A rule that never decides because an earlier one always does is only visible this way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from modelmill.rules.evaluation.group_calls import CheckedValues
from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.evaluation.staged_evaluation import settle_fully
from modelmill.rules.language.program import Program, Result
from modelmill.signals.groups import SignalGroup


class FullEvaluation:
    """A rule set on rows, with every signal that a rule reads on every row.

    :param program: the rules.
    :param groups: the groups of the rule set's signals.
    :param rows: the rows.
    :param known: values of the signals on the rows, by name.
    """

    def __init__(
        self,
        program: RuleProgram,
        groups: Sequence[SignalGroup],
        rows: pa.RecordBatch,
        known: Mapping[str, CheckedValues],
    ) -> None:
        self.program = program
        self.compiled = program.compiled
        self.groups = groups
        self.rows = rows
        self.signals = {name: one.values for name, one in known.items()}
        self.failures = {name: len(one.failures) for name, one in known.items() if one.failures}
        """Number of rows on which a signal could not be computed, by its name."""
        self.outcomes = settle_fully(program, self.signals, rows.num_rows)

    def decisions(self) -> pa.Array:
        """Return the decision of each row."""
        kinds, which = np.unique(self.outcomes, return_inverse=True)
        named = [self.compiled.decision(int(one)) for one in kinds]
        return pa.array(named, pa.string()).take(pa.array(which))

    def deciding_rules(self) -> pa.Array:
        """Return the name of the rule that decides each row; null if no rule fires."""
        kinds, which = np.unique(self.outcomes, return_inverse=True)
        numbers = [self.compiled.rule_of(int(one)) for one in kinds]
        names = [None if one is None else self.compiled.rule_set.rules[one].name for one in numbers]
        return pa.array(names, pa.string()).take(pa.array(which))

    def conditions(self) -> dict[str, pa.Array]:
        """Return the value of every rule's condition on every row, by the rule's name."""
        compiled = self.compiled
        results = {
            rule.name: Result(rule.when, "boolean", (), root)
            for rule, root in zip(compiled.rule_set.rules, compiled.roots, strict=True)
        }
        names = list(self.signals)
        arrays = [self.signals[name] for name in names]
        if not names:  # conditions without signals still have one value for each row
            names, arrays = ["_mm_none"], [pa.nulls(self.rows.num_rows)]
        batch = pa.RecordBatch.from_arrays(arrays, names=names)
        return Program(compiled.steps, results, tuple(self.signals)).evaluate(batch)
