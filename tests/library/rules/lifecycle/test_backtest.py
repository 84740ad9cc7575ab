"""Rule sets on trial: rules that do nothing, differences, labels, thresholds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from mlflow.artifacts import load_text

from modelmill.artifacts import TableRef
from modelmill.component import StepContext
from modelmill.errors import DatasetError, TableError
from modelmill.rules.confidence_bounds import lower_bound, upper_bound
from modelmill.rules.engine import Engine
from modelmill.rules.evaluation.full_evaluation import FullEvaluation
from modelmill.rules.lifecycle.backtest import BacktestReport, figures, report_lines
from modelmill.rules.lifecycle.gate import reasons_against
from modelmill.rules.lifecycle.rule_set_diff import compare_rule_sets
from modelmill.rules.lifecycle.rule_statistics import right_decisions, rule_set_statistics
from modelmill.rules.lifecycle.threshold_advice import suggest_threshold, threshold_advice
from modelmill.rules.rule_set import RuleSet
from modelmill.steps.ports import TrialInputs
from modelmill.steps.try_rules import TryRulesConfig, run
from modelmill.tables.reading import read_arrow

ROWS = pa.RecordBatch.from_pydict(
    {
        "id": list(range(8)),
        "n": [1, 2, 3, 4, 5, 6, None, 8],
        "day": ["a", "b", "a", "b", "a", "b", "a", None],
        "label": ["low", "low", "low", "high", "high", None, "high", "high"],
    }
)
RULES = [
    {"name": "small", "when": "n < 4", "then": "drop"},
    {"name": "tiny", "when": "n < 2", "then": "look"},
    {"name": "huge", "when": "n > 100", "then": "look"},
    {"name": "big", "when": "n >= 6", "then": "take"},
]
CONTENT: dict[str, Any] = {
    "rule_set": "r",
    "key": "id",
    "signals": {"n": {"kind": "column"}},
    "rules": RULES,
    "default": "keep",
    "on_unknown": "ask",
}


def evaluated(**changes: Any) -> FullEvaluation:
    return Engine(RuleSet.model_validate(CONTENT | changes), ROWS.schema).evaluate_fully(ROWS)


def test_what_each_rule_does() -> None:
    truth = right_decisions(ROWS.column("label"), {"low": "drop", "high": "take"})
    trial = rule_set_statistics(evaluated(), truth)
    assert trial.decisions == {"ask": 1, "drop": 3, "keep": 2, "take": 2}
    assert (trial.default, trial.unknown, trial.labelled) == (2, 1, 7)
    rules = {rule.name: rule for rule in trial.rules}
    assert {name: (one.decides, one.true, one.unknown) for name, one in rules.items()} == {
        "small": (3, 3, 1),
        "tiny": (0, 1, 1),
        "huge": (0, 0, 1),
        "big": (2, 2, 1),
    }
    assert (rules["tiny"].shadowed, rules["tiny"].shadowed_by) == (True, ("small",))
    assert [name for name, one in rules.items() if one.dead] == ["huge"]
    small, big = rules["small"], rules["big"]
    assert small.precision is not None
    assert small.recall is not None
    assert (small.precision.value, small.recall.value) == (1.0, 1.0)
    assert big.precision is not None
    assert big.recall is not None
    assert (big.precision.value, big.precision.rows, big.recall.value) == (1.0, 1, 0.25)
    assert trial.accuracy is not None
    assert trial.accuracy.value == 4 / 7


def test_the_difference_of_two_rule_sets() -> None:
    after = [dict(RULES[0], when="n < 3"), *RULES[1:3], dict(RULES[3], name="large", when="n >= 5")]
    truth = right_decisions(ROWS.column("label"), {"low": "drop", "high": "take"})
    found = compare_rule_sets(evaluated(), evaluated(rules=after), slices=["day"], examples=1, truth=truth)
    assert (found.rows, found.changed, found.other_rule) == (8, 2, 2)
    assert [
        (one.before, one.after, one.rule_before, one.rule_after, one.examples) for one in found.changes
    ] == [
        ("drop", "keep", "small", None, ("2",)),
        ("keep", "take", None, "large", ("4",)),
    ]
    assert {(one.value, one.rows, one.changed) for one in found.slices} == {
        ("a", 4, 2),
        ("b", 3, 0),
        (None, 1, 0),
    }
    assert found.slices[0].value == "a"
    assert (found.better, found.worse) == (1, 1)


def test_labels_that_are_no_decision_are_named_and_can_refuse() -> None:
    """``low`` stands for itself: a rule set that no longer drops these rows would not be for the worse."""
    labels, lists = ROWS.column("label"), {"high": "take"}
    truth = right_decisions(pa.concat_arrays([labels] * 10), lists)
    rows = pa.Table.from_batches([ROWS] * 10).combine_chunks().to_batches()[0]
    before, after = (
        Engine(RuleSet.model_validate(CONTENT | {"rules": rules}), rows.schema).evaluate_fully(rows)
        for rules in (RULES, RULES[1:])
    )
    trial, against = (rule_set_statistics(one, truth) for one in (after, before))
    assert trial.never_decided == {"low": 30}
    difference = compare_rule_sets(before, after, truth=truth)
    assert (difference.better, difference.worse, difference.unjudged) == (0, 0, 30)
    report = BacktestReport(
        source="t", trial=trial, failures={}, dead=(), shadowed=(), against=against, difference=difference
    )
    lines = "\n".join(report_lines(report))
    assert f"{trial.rule_set} is right on 14.3% (7.9% to 24.3%) of 70 labelled rows" in lines
    assert f"{trial.rule_set} never decides what 30 labels say (low 30): no answer is right there" in lines
    assert "0 get better, 0 worse, 30 have labels that are no decision" in lines
    assert figures(report)["unjudged"] == 30
    limits = {"max_changed": 1.0, "allow_dead": True, "confidence": 0.95}
    (reason,) = reasons_against(report, **limits)
    assert reason.endswith("and 30 cannot be judged: their label is no decision; list it under decision_of")
    known = right_decisions(pa.concat_arrays([labels] * 10), {"high": "take", "low": "drop"})
    assert rule_set_statistics(after, known).never_decided == {"drop": 30}
    judged = report.model_copy(update={"difference": compare_rule_sets(before, after, truth=known)})
    assert reasons_against(judged, **limits) == (
        "of 30 labelled rows with another outcome 30 are for the worse",
    )


def test_rules_without_signals() -> None:
    always = [{"name": "all", "when": "TRUE", "then": "x"}]
    trial = rule_set_statistics(evaluated(rules=always))
    assert (trial.rules[0].decides, trial.rules[0].true) == (8, 8)


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    assert lower_bound(9, 10, doubt=0.025) == pytest.approx(0.5549839, abs=1e-6)
    assert upper_bound(9, 10, doubt=0.025) == pytest.approx(0.9974714, abs=1e-6)
    assert (lower_bound(0, 5, doubt=0.1), upper_bound(0, 0, doubt=0.1)) == (0.0, 1.0)


def test_a_threshold_keeps_its_precision_on_new_rows() -> None:
    """Of 200 draws, at most 5 % may break the promise; a point estimate breaks it in about half."""
    random, broken, found = np.random.default_rng(0), 0, 0
    for _ in range(200):
        probability = random.uniform(size=400)
        truth = random.uniform(size=400) < probability
        one = suggest_threshold(probability, truth, precision=0.8)
        if one is not None:
            found += 1
            broken += (1 + one.threshold) / 2 < 0.8  # what the rows from the threshold on are true of
    assert found > 100
    assert broken <= 10


def test_thresholds_that_cannot_be_shown() -> None:
    few = np.array([0.9, 0.95]), np.array([True, True])
    assert suggest_threshold(*few, precision=0.99) is None
    with pytest.raises(DatasetError, match="labelled rows"):
        suggest_threshold(np.array([np.nan]), np.array([True]), precision=0.9)
    assert threshold_advice(evaluated(), pa.nulls(8, pa.string()), precision=0.9) == ()


def test_the_step_reports_and_writes_what_changes(tmp_path: Path, step_context: StepContext) -> None:
    write_deltalake(str(tmp_path / "in"), pa.Table.from_batches([ROWS]))
    table = TableRef(uri=str(tmp_path / "in"), version=0)
    for name, limit in (("used", 4), ("proposed", 3)):
        rules = [dict(RULES[0], when=f"n < {limit}"), *RULES[1:]]
        (tmp_path / f"{name}.yaml").write_text(json.dumps(CONTENT | {"rules": rules}))
    config = TryRulesConfig(
        rule_set=str(tmp_path / "proposed.yaml"),
        against=str(tmp_path / "used.yaml"),
        slices=("day",),
        label="label",
        decision_of={"low": "drop", "high": "take"},
        keep=("day",),
    )
    found = run(config, TrialInputs(table=table), step_context)
    report, changes = found.report, found.changes
    (row,) = read_arrow(changes).to_pylist()
    assert row == {
        "id": 2,
        "day": "a",
        "decision_before": "drop",
        "rule_before": "small",
        "decision_after": "keep",
        "rule_after": None,
    }
    said = json.loads(load_text(report.uri))
    assert said["difference"]["changed"] == 1
    assert said["dead"] == ["huge"]
    assert said["shadowed"] == ["tiny"]
    assert run(config, TrialInputs(table=table), step_context).changes == changes
    with pytest.raises(TableError, match="did you mean 'day'"):
        run(config.model_copy(update={"slices": ("dya",)}), TrialInputs(table=table), step_context)
