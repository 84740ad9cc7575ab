"""The signals that a cheap model can answer first, and the thresholds that the rules have for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.errors import ConfigError
from modelmill.rules.evaluation.full_evaluation import FullEvaluation
from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.explanation.domains import domains_of
from modelmill.rules.pinned_rule_set import PinnedRuleSet
from modelmill.rules.rule_set import RuleSet
from modelmill.signals.model_config import ModelSignal


def with_probability(rule_set: RuleSet, first: Iterable[str]) -> dict[str, ModelSignal]:
    """Return the model signals that answer with a probability.

    :param rule_set: the rule set.
    :param first: signals that must be among them.
    :return: these signals by name, without their cheap models.
    :raises ConfigError: if one of ``first`` is not among them.
    """
    known = {
        name: one.model_copy(update={"first": None})
        for name, one in rule_set.signals.items()
        if isinstance(one, ModelSignal) and one.output == "probability"
    }
    for name in first:
        if name not in known:
            raise ConfigError(
                "a cheap model stands before a model signal that answers with a probability",
                got=name,
                choices=known,
            )
    return known


def thresholds(program: RuleProgram, name: str, signal: ModelSignal) -> list[float]:
    """Return the thresholds of a signal: what it is compared with, and the ends of its band of abstention.

    :param program: the rules.
    :param name: one of the signals that rules read.
    :param signal: see :func:`with_probability`.
    :return: probabilities in ascending order, at least one.
    :raises ConfigError: if the rules do anything else with it than comparing it with thresholds.
    """
    domain = domains_of(program.analysis, program.compiled.kinds)[name]
    band = signal.abstain
    found = {float(one) for one in domain.landmarks} | ({band.low, band.high} if band else set())
    found = {one for one in found if 0 < one < 1}
    if not domain.exact or len(domain.company) > 1:
        how = "whose value they use"
    elif found:
        return sorted(found)
    elif domain.landmarks:
        how = f"compared with {', '.join(f'{one:g}' for one in sorted(domain.landmarks))} only"
    else:
        how = "without a threshold"
    raise ConfigError(
        "a cheap model stands before a signal that the rules compare with thresholds between 0 and 1, and "
        "use for nothing else",
        got=f"{name}, {how}",
        remedy="leave this signal out",
    )


def replaced(rule_set: RuleSet, signals: Mapping[str, ModelSignal]) -> RuleSet:
    """Return a rule set with some signals replaced."""
    return rule_set.model_copy(update={"signals": {**rule_set.signals, **signals}})


def evaluated(
    pinned: PinnedRuleSet, signals: Mapping[str, ModelSignal], rows: pa.RecordBatch
) -> FullEvaluation:
    """Evaluate a rule set on rows, with some signals replaced.

    :param pinned: the rule set, and the models of these signals.
    :param signals: the replacements, by name.
    :param rows: the rows.
    :return: every signal on every row.
    """
    made = pinned.with_rule_set(replaced(pinned.rule_set, signals))
    return made.engine(rows.schema).evaluate_fully(rows)


def floats(values: pa.Array) -> npt.NDArray[np.float64]:
    """Return numbers as a NumPy array, with NaN for null."""
    found: npt.NDArray[np.float64] = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return found
