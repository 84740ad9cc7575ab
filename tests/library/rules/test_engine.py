"""The engine: which rows need which signals, what becomes of failures, and what a decision says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modelmill.errors import ConfigError, ModelError, RuleSetError, SignalError, TableError
from modelmill.rules.engine import Engine
from modelmill.rules.planning.plan import EvaluationPlan, StagePlan
from modelmill.rules.rule_set import RuleSet
from modelmill.signals.groups import Evaluation, Rows, SignalGroup, SignalInfo, SignalValues
from modelmill.signals.values import Kind

BATCH = pa.RecordBatch.from_pydict(
    {"id": ["a", "b", "c", "d"], "size": [5, 1, None, 1], "spam": [0.1, 0.9, 0.9, 0.2]}
)


def rule_set(**changes: Any) -> RuleSet:
    content = {
        "rule_set": "moderation",
        "key": "id",
        "signals": {
            "size": {"kind": "column"},
            "spam": {"kind": "column"},
            "odds": {"kind": "sql", "expression": "spam / (1 - spam)"},
        },
        "rules": [
            {"name": "big", "when": "size > 3", "then": "remove", "reason": "{size} is big, {odds:.1f}"},
            {
                "name": "spam",
                "when": "odds > 1",
                "then": "flag",
                "severity": "high",
                "reason": "odds {odds:.2f}",
            },
        ],
        "default": "allow",
    }
    return RuleSet.model_validate({**content, **changes})


class Lookup(SignalGroup):
    """Signals that are looked up in lists, and count what they are asked for."""

    def __init__(
        self,
        name: str,
        columns: Mapping[str, Sequence[Any]],
        kind: Kind = "float",
        *,
        fails: Callable[[Rows], None] = lambda rows: None,
    ) -> None:
        infos = {one: SignalInfo(kind) for one in columns}
        super().__init__(name, tier="model", signals=infos, columns=["id"])
        self.lists = columns
        self.fails = fails
        self.asked: list[tuple[list[str], list[str]]] = []

    def begin(self, chunk: pa.RecordBatch) -> Evaluation:
        return _LookedUp(self, chunk)


class _LookedUp(Evaluation):
    def __init__(self, group: Lookup, chunk: pa.RecordBatch) -> None:
        self.group = group
        self.keys = chunk.column("id").to_pylist()

    def compute(self, names: Sequence[str], rows: Rows) -> dict[str, SignalValues]:
        keys = [self.keys[row] for row in rows]
        self.group.asked.append((list(names), keys))
        places = np.array([BATCH.column("id").to_pylist().index(key) for key in keys])
        self.group.fails(places)
        return {
            name: SignalValues(pa.array([self.group.lists[name][place] for place in places]))
            for name in names
        }


def test_a_decision_names_its_rule_and_its_reason() -> None:
    engine = Engine(rule_set(), BATCH.schema)
    assert engine.columns == ("id", "size", "spam")
    found = engine.decide(BATCH)
    assert found.select(["id", "decision", "rule", "severity", "reason", "because"]).to_pylist() == [
        {
            "id": "a",
            "decision": "remove",
            "rule": "big",
            "severity": "medium",
            "reason": "5 is big, 0.1",
            "because": "rule",
        },
        {
            "id": "b",
            "decision": "flag",
            "rule": "spam",
            "severity": "high",
            "reason": "odds 9.00",
            "because": "rule",
        },
        {
            "id": "c",
            "decision": "flag",
            "rule": "spam",
            "severity": "high",
            "reason": "odds 9.00",
            "because": "rule",
        },
        {
            "id": "d",
            "decision": "allow",
            "rule": None,
            "severity": None,
            "reason": None,
            "because": "default",
        },
    ]
    assert set(found.column("rule_set").to_pylist()) == {f"moderation@{rule_set().digest[:12]}"}


def test_a_condition_that_is_null_decides_where_the_rule_set_says_so() -> None:
    found = Engine(rule_set(on_unknown="review"), BATCH.schema).decide(BATCH)
    assert found.column("decision").to_pylist() == ["remove", "flag", "review", "allow"]
    assert found.column("because").to_pylist() == ["rule", "rule", "unknown", "default"]
    assert found.column("rule").to_pylist()[2] == "big"


@pytest.mark.parametrize("rows", [0, 1, 3, 4])
def test_a_row_is_decided_alike_in_every_batch(rows: int) -> None:
    engine = Engine(rule_set(), BATCH.schema)
    alone = [engine.decide(BATCH.slice(row, 1)).to_pylist()[0] for row in range(rows)]
    assert engine.decide(BATCH.slice(0, rows)).to_pylist() == alone


LISTS = {"cheap": [0.0, 1.0, 0.0, None], "dear": [9.0, 9.0, 1.0, 9.0]}


def two_groups(**options: Any) -> tuple[RuleSet, Lookup, Lookup]:
    signals = {name: {"kind": "measured", "function": "length", "columns": ["id"]} for name in LISTS}
    rules = [{"name": "both", "when": "cheap > 0 AND dear > 5", "then": "remove"}]
    cheap, dear = (
        Lookup("cheap", {"cheap": LISTS["cheap"]}),
        Lookup("dear", {"dear": LISTS["dear"]}, **options),
    )
    return rule_set(signals=signals, rules=rules), cheap, dear


def test_a_signal_is_computed_only_on_rows_that_need_it() -> None:
    rules, cheap, dear = two_groups()
    engine = Engine(rules, BATCH.schema, groups=[cheap, dear])
    assert engine.decide(BATCH).column("decision").to_pylist() == ["allow", "remove", "allow", "allow"]
    assert cheap.asked == [(["cheap"], ["a", "b", "c", "d"])]
    # false AND anything is false; NULL AND anything is not true
    assert dear.asked == [(["dear"], ["b"])]
    assert [stage.rows for stage in engine.statistics.stages] == [4, 1]
    other = EvaluationPlan(
        rule_set=rules.digest,
        stages=(StagePlan(group="dear", signals=("dear",)), StagePlan(group="cheap", signals=("cheap",))),
    )
    engine.use(other)
    assert engine.decide(BATCH).column("decision").to_pylist() == ["allow", "remove", "allow", "allow"]
    assert cheap.asked[-1] == (["cheap"], ["a", "b", "d"])


def test_null_asks_for_more_where_it_decides() -> None:
    rules, cheap, dear = two_groups()
    rules = rules.model_copy(update={"on_unknown": "review"})
    engine = Engine(rules, BATCH.schema, groups=[cheap, dear])
    assert engine.decide(BATCH).column("decision").to_pylist() == ["allow", "remove", "allow", "review"]
    assert dear.asked == [(["dear"], ["b", "d"])]  # NULL AND false is false


def test_a_row_that_fails_is_unknown_and_costs_no_other_row_its_value() -> None:
    def fails(places: Rows) -> None:
        if 1 in places:
            raise ZeroDivisionError("row 1")

    rules, cheap, dear = two_groups(fails=fails)
    cheap.lists = {"cheap": [1.0, 1.0, 1.0, 1.0]}
    engine = Engine(rules, BATCH.schema, groups=[cheap, dear])
    (chunk,) = engine.chunks(BATCH)
    assert engine.decide(BATCH).column("decision").to_pylist() == ["remove", "allow", "allow", "remove"]
    assert chunk.settlement.failures == {"dear": {1: "ZeroDivisionError: row 1"}}
    stopping = Engine(rules.model_copy(update={"on_failure": "stop"}), BATCH.schema, groups=[cheap, dear])
    with pytest.raises(SignalError, match=r"dear of dear.*ZeroDivisionError: row 1.*on_failure: unknown"):
        stopping.decide(BATCH)


def test_a_signal_that_fails_everywhere_is_tried_a_bounded_number_of_times() -> None:
    def fails(places: Rows) -> None:
        raise RuntimeError

    rules, cheap, dear = two_groups(fails=fails)
    cheap.lists = {"cheap": [1.0] * 4}
    engine = Engine(rules, BATCH.schema, groups=[cheap, dear])
    assert set(engine.decide(BATCH).column("decision").to_pylist()) == {"allow"}
    assert len(dear.asked) == 2 * 4 - 1


def test_an_error_of_the_model_itself_is_not_tried_again() -> None:
    def fails(places: Rows) -> None:
        raise ModelError("the version must exist", got="models:/spam/3")

    rules, cheap, dear = two_groups(fails=fails)
    cheap.lists = {"cheap": [1.0] * 4}
    engine = Engine(rules, BATCH.schema, groups=[cheap, dear])
    (chunk,) = engine.chunks(BATCH)
    assert len(dear.asked) == 1
    assert chunk.settlement.failures["dear"][3] == "the version must exist; got 'models:/spam/3'"


def test_nan_is_a_failure_and_no_value() -> None:
    rules, cheap, dear = two_groups()
    cheap.lists = {"cheap": [1.0] * 4}
    dear.lists = {"dear": [9.0, float("nan"), None, float("inf")]}
    engine = Engine(rules, BATCH.schema, groups=[cheap, dear])
    (chunk,) = engine.chunks(BATCH)
    assert engine.decide(BATCH).column("decision").to_pylist() == ["remove", "allow", "allow", "remove"]
    assert chunk.settlement.failures == {"dear": {1: "the value is NaN"}}


@pytest.mark.parametrize(
    "answer", [{}, {"dear": SignalValues(pa.array([1.0]))}, {"dear": SignalValues(pa.array([[1], [2]]))}]
)
def test_a_group_that_breaks_its_contract_is_named(answer: dict[str, SignalValues]) -> None:
    class Broken(Evaluation):
        def compute(self, names: Sequence[str], rows: Rows) -> Mapping[str, SignalValues]:
            return answer

    rules, cheap, dear = two_groups()
    cheap.lists = {"cheap": [1.0, 1.0, 0.0, 0.0]}
    dear.begin = lambda chunk: Broken()  # type: ignore[method-assign]
    stopping = rules.model_copy(update={"on_failure": "stop"})
    with pytest.raises(SignalError, match=r"dear.*fix its evaluator"):
        Engine(stopping, BATCH.schema, groups=[cheap, dear]).decide(BATCH)


def test_what_cannot_begin_is_refused() -> None:
    with pytest.raises(TableError, match="must have its key column; got 'key'"):
        Engine(rule_set(key="key"), BATCH.schema)
    batch = BATCH.rename_columns(["rule", "size", "spam"])
    with pytest.raises(ConfigError, match="name of a column of decisions"):
        Engine(rule_set(key="rule"), batch.schema).decide(batch)
    with pytest.raises(ConfigError, match="a plan must be one for this rule set"):
        Engine(rule_set(), BATCH.schema, plan=Engine(rule_set(default="x"), BATCH.schema).plan)


def test_everything_that_is_wrong_with_the_rules_is_listed_at_once() -> None:
    signals = {
        "size": {"kind": "column"},
        "one": {"kind": "sql", "expression": "two + 1"},
        "two": {"kind": "sql", "expression": "one + 1"},
        "three": {"kind": "sql", "expression": "siz + 1"},
    }
    rules = [
        {"name": "r", "when": "size > 'x'", "then": "a", "reason": "{siez} {size:q}"},
        {"name": "r", "when": "size", "then": "a", "reason": "{"},
        {"name": "s", "when": "three > 1 AND sice = 1", "then": "a"},
    ]
    with pytest.raises(RuleSetError) as caught:
        Engine(rule_set(signals=signals, rules=rules), BATCH.schema)
    assert [(problem.path, problem.message.split(";")[0]) for problem in caught.value.problems] == [
        ("rules.0.reason", "a reason names signals"),
        ("rules.0.reason", "a value's format must fit the signal 'size'"),
        ("rules.0.when", "1:1: > takes values of one kind"),
        ("rules.1.name", "a rule's name stands once"),
        ("rules.1.reason", "a reason must be text with signals in curly brackets"),
        ("rules.1.when", "1:1: the expression must be a condition"),
        ("rules.2.when", "1:15: a signal must exist"),
        ("signals.one.expression", "signals must not be made of each other in a circle"),
        ("signals.three.expression", "1:1: a signal must exist"),
    ]
    assert "did you mean 'size'?" in str(caught.value)
    assert "    siz + 1\n    ^" in caught.value.report


def test_a_row_that_is_settled_before_any_signal_needs_none() -> None:
    rules = [{"name": "always", "when": "TRUE OR size > 3", "then": "remove"}]
    engine = Engine(rule_set(rules=rules), BATCH.schema)
    assert set(engine.decide(BATCH).column("decision").to_pylist()) == {"remove"}
    assert engine.statistics.settled_before == 4
    assert engine.statistics.seconds == 0


def test_groups_of_one_name_are_refused() -> None:
    rules, cheap, dear = two_groups()
    dear.name = "cheap"
    with pytest.raises(SignalError, match="a group's name must be unique"):
        Engine(rules, BATCH.schema, groups=[cheap, dear])


def test_planning_and_probing_do_not_stop_a_run_that_no_row_stops() -> None:
    def fails(places: Rows) -> None:
        raise RuntimeError("needed by no row")

    rules, cheap, dear = two_groups(fails=fails)
    cheap.lists = {"cheap": [0.0] * 4}
    stopping = rules.model_copy(update={"on_failure": "stop"})
    engine = Engine(stopping, BATCH.schema, groups=[cheap, dear])
    engine.use(engine.measure_plan(BATCH))
    engine.use(
        engine.plan.model_copy(update={"stages": sorted(engine.plan.stages, key=lambda one: one.group)})
    )
    assert set(engine.decide(BATCH).column("decision").to_pylist()) == {"allow"}


def test_ten_thousand_rules_decide() -> None:
    rules = [{"name": f"r{n}", "when": f"n = {n}", "then": f"d{n % 7}"} for n in range(10_000)]
    content = {"rule_set": "many", "key": "id", "signals": {"n": {"kind": "column"}}, "rules": rules}
    numbers = [None if row % 5 == 0 else row * 37 % 12_000 for row in range(300)]
    rows = pa.RecordBatch.from_pydict({"id": list(range(300)), "n": numbers})
    engine = Engine(RuleSet.model_validate({**content, "default": "none"}), rows.schema)
    expected = ["none" if n is None or n >= 10_000 else f"d{n % 7}" for n in numbers]
    assert engine.decide(rows)["decision"].to_pylist() == expected
