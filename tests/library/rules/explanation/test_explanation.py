"""Explanations: the smallest set that settles a row, the nearest other decision, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelmill.rules.engine import Engine
from modelmill.rules.explanation.explainer import EXPLANATION, Explained
from modelmill.rules.explanation.rendering import explanation_html, explanation_text
from modelmill.rules.rule_set import RuleSet
from modelmill.signals.groups import EVIDENCE, Evaluation, Rows, SignalGroup, SignalInfo, SignalValues

ROW = {"id": "k1", "spam": 0.95, "size": 7, "topic": "<b>ads</b>", "trusted": False, "note": None}


def engine_for(rules: list[dict[str, Any]], **changes: Any) -> Engine:
    names = ["spam", "size", "topic", "trusted", "note"]
    content: dict[str, Any] = {
        "rule_set": "moderation",
        "key": "id",
        "signals": {name: {"kind": "column"} for name in names},
        "rules": rules,
        "default": "allow",
    }
    schema = pa.RecordBatch.from_pylist([ROW]).schema
    schema = schema.set(schema.get_field_index("note"), pa.field("note", pa.string()))
    return Engine(RuleSet.model_validate({**content, **changes}), schema)


def explained(rules: list[dict[str, Any]], row: Mapping[str, Any] = ROW, **changes: Any) -> dict[str, Any]:
    engine = engine_for(rules, **changes)
    (found,) = engine.decide(pa.RecordBatch.from_pylist([row], engine.schema), explain=True).to_pylist()
    decision: dict[str, Any] = found
    return decision


def sufficient(decision: Mapping[str, Any]) -> list[str]:
    return [one["signal"] for one in decision["explanation"]["signals"] if one["sufficient"]]


@pytest.mark.parametrize(
    ("when", "names"),
    [
        ("spam > 0.9", ["spam"]),
        ("spam > 0.9 OR size > 5", ["spam"]),
        ("spam > 0.9 AND size > 5", ["spam", "size"]),
        ("(spam > 0.9 AND size > 5) OR NOT trusted", ["trusted"]),
        ("spam > 0.9 OR spam <= 0.9 OR spam IS NULL", []),  # true whatever spam is
        ("size BETWEEN 1 AND 9 AND note IS NULL", ["size", "note"]),
        ("CASE WHEN trusted THEN size > 100 ELSE spam > 0.5 END", ["spam", "trusted"]),
        ("topic IN ('a', '<b>ads</b>')", ["topic"]),
    ],
)
def test_the_smallest_set_that_settles_a_row_is_named(when: str, names: list[str]) -> None:
    decision = explained([{"name": "r", "when": when, "then": "remove"}])
    assert decision["decision"] == "remove"
    assert sufficient(decision) == names
    assert decision["explanation"]["minimal"]


@pytest.mark.parametrize(
    ("when", "changes"),
    [
        ("spam > 0.9", [("spam", "0.95", "0.9")]),
        ("spam >= 0.9", [("spam", "0.95", "below 0.9")]),
        ("spam > 0.9 OR size > 5", [("spam", "0.95", "0.9"), ("size", "7", "5")]),
        ("spam > 0.9 AND size > 5", [("spam", "0.95", "0.9")]),  # 5 % of the way, and not 2 of 7
        ("NOT trusted", [("trusted", "false", "true")]),
        ("note IS NULL", [("note", "unknown", "a")]),
        ("size BETWEEN 6 AND 8", [("size", "7", "9")]),  # in proportion nearer than 5
        ("TRUE OR size > 1", []),
    ],
)
def test_the_nearest_other_decision_is_named(when: str, changes: list[tuple[str, str, str]]) -> None:
    explanation = explained([{"name": "r", "when": when, "then": "remove"}])["explanation"]
    assert [(one["signal"], one["old"], one["new"]) for one in explanation["changes"]] == changes
    assert explanation["other_decision"] == ("allow" if changes else None)


def test_two_rules_with_one_decision_settle_it_together() -> None:
    rules = [
        {"name": "one", "when": "spam > 0.9", "then": "remove"},
        {"name": "two", "when": "NOT trusted", "then": "remove"},
    ]
    decision = explained(rules)
    assert decision["rule"] == "one"
    assert len(sufficient(decision)) == 1
    assert len(decision["explanation"]["changes"]) == 2


def test_an_explanation_does_not_depend_on_the_rows_before_it() -> None:
    rules = [{"name": "r", "when": "spam > 0.9 AND size > 5", "then": "remove"}]
    engine = engine_for(rules)
    rows = [{**ROW, "spam": spam, "size": size} for spam in (0.91, 5.0) for size in (6, 600)]
    batch = pa.RecordBatch.from_pylist(rows, engine.schema)
    together = engine.decide(batch, explain=True).to_pylist()
    alone = [
        engine_for(rules).decide(batch.slice(row, 1), explain=True).to_pylist()[0] for row in range(len(rows))
    ]
    assert together == alone
    assert [one["explanation"]["changes"][0]["signal"] for one in alone] == ["spam", "spam", "size", "spam"]


def test_explanations_are_typed_columns(tmp_path: Any) -> None:
    engine = engine_for([{"name": "r", "when": "spam > 0.9", "then": "remove"}])
    rows = engine.decide(pa.RecordBatch.from_pylist([ROW], engine.schema), explain=True)
    assert rows.schema.field("explanation").type == EXPLANATION
    pq.write_table(pa.Table.from_batches([rows]), tmp_path / "rows.parquet")
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == rows.to_pylist()


class Spans(SignalGroup):
    """A signal that was seen somewhere, and has a version."""

    def __init__(self) -> None:
        super().__init__(
            "spans",
            tier="model",
            signals={"offer": SignalInfo("boolean", "models:/offer/3")},
            columns=["topic"],
        )

    def begin(self, chunk: pa.RecordBatch) -> Evaluation:
        return _Seen()


class _Seen(Evaluation):
    def compute(self, names: Sequence[str], rows: Rows) -> dict[str, SignalValues]:
        return {"offer": SignalValues(pa.array([True] * len(rows)))}

    def evidence(self, names: Sequence[str], rows: Rows) -> dict[str, pa.Array]:
        spans = [{"column": "topic", "start": 3, "end": 6, "text": "ads", "time": 1.5, "box": [0, 1, 2, 3]}]
        return {"offer": pa.array([spans] * len(rows), EVIDENCE)}


def shown() -> dict[str, Any]:
    content: dict[str, Any] = {
        "rule_set": "moderation",
        "key": "id",
        "signals": {
            "offer": {"kind": "measured", "function": "length", "columns": ["topic"]},
            "spam": {"kind": "measured", "function": "length", "columns": ["topic"]},
        },
        "rules": [
            {"name": "r", "when": "offer OR spam > 0.9", "then": "remove", "reason": "<offer> {offer}"}
        ],
        "default": "allow",
    }
    late = Spans()
    late.name, late.signals = "late", {"spam": SignalInfo("float")}
    batch = pa.RecordBatch.from_pylist([ROW])
    engine = Engine(RuleSet.model_validate(content), batch.schema, groups=[Spans(), late])
    (row,) = engine.decide(batch, explain=True).to_pylist()
    found: dict[str, Any] = row
    return found


def test_an_explanation_is_shown_as_text() -> None:
    assert explanation_text(shown()).splitlines() == [
        "remove (rule r, medium): <offer> true",
        "  why this rule:",
        "    offer = true (models:/offer/3)",
        "  no value of another signal changes the decision",
        "  not needed: spam",
        "  allow, if offer were false instead of true and spam were 0.9 instead of not needed",
        "  seen: offer in topic at 3 to 6 at 1.50 s in box 0, 1, 2, 3: 'ads'",
    ]


def test_why_this_rule_and_why_none_before_are_told_apart() -> None:
    rules = [
        {"name": "big", "when": "size > 100", "then": "keep"},
        {"name": "r", "when": "topic IN ('ads', '<b>ads</b>') AND NOT trusted", "then": "remove"},
    ]
    decision = explained(rules)
    assert [one["in_rule"] for one in decision["explanation"]["signals"]] == [False, True, True]
    assert explanation_text(decision).splitlines() == [
        "remove (rule r, medium)",
        "  why this rule:",
        "    topic = <b>ads</b>",
        "    trusted = false",
        "  why none before it:",
        "    size = 7 (below 100)",
        "  no value of another signal changes the decision",
        "  keep, if size were 101 instead of 7",
    ]
    other = explained(rules, {**ROW, "topic": "news"})
    assert "    topic = news (none of <b>ads</b> and ads)" in explanation_text(other).splitlines()


def test_digests_stay_in_the_data() -> None:
    found = shown()
    found["explanation"]["signals"][0]["version"] = "models:/offer/3 ec0cd37cdda37996"
    assert "    offer = true (models:/offer/3)" in explanation_text(found).splitlines()
    assert "ec0cd37cdda37996" not in explanation_html(found)


def test_some_decisions_are_explained() -> None:
    engine = engine_for([{"name": "r", "when": "spam > 0.9", "then": "remove"}])
    rows = [{**ROW, "id": f"k{number}", "spam": number / 200} for number in range(200)]
    batch = pa.RecordBatch.from_pylist(rows, engine.schema)
    every = engine.decide(batch, explain=True).to_pylist()
    some = engine.decide(batch, explain=Explained(decisions=("remove",))).to_pylist()
    assert [one if one["decision"] == "remove" else {**one, "explanation": None} for one in every] == some
    half = engine.decide(batch, explain=Explained(share=0.5)).to_pylist()
    told = [one["id"] for one in half if one["explanation"] is not None]
    assert 70 < len(told) < 130
    again = engine.decide(batch.slice(100), explain=Explained(share=0.5)).to_pylist()
    assert [one["id"] for one in again if one["explanation"] is not None] == [
        one for one in told if int(one[1:]) >= 100
    ]
    assert explanation_text(some[0]) == "allow (no rule fires)"


def test_html_is_escaped() -> None:
    page = explanation_html(shown())
    assert "&lt;offer&gt; true" in page
    assert "<offer>" not in page
    assert "models:/offer/3" in page
    hostile = explained([{"name": "r", "when": "topic = '<b>ads</b>'", "then": "<script>"}])
    assert "<script>" not in explanation_html(hostile)
    assert "<b>" not in explanation_html(hostile)


def test_a_signal_that_failed_says_why() -> None:
    decision = explained([{"name": "r", "when": "note = 'x'", "then": "remove"}], on_unknown="review")
    (signal,) = decision["explanation"]["signals"]
    assert (decision["because"], signal["unknown"], signal["text"]) == ("unknown", "NULL", None)
    assert "the condition of rule r is unknown" in explanation_text(decision)


def test_a_hundred_signals_are_explained_in_a_bounded_search() -> None:
    names = [f"s{number}" for number in range(100)]
    content: dict[str, Any] = {
        "rule_set": "wide",
        "key": "id",
        "signals": {name: {"kind": "column"} for name in names},
        "rules": [{"name": "r", "when": " + ".join(names) + " > 50", "then": "a"}],
        "default": "b",
    }
    batch = pa.RecordBatch.from_pylist([{"id": 1, **dict.fromkeys(names, 0.75)}])
    engine = Engine(RuleSet.model_validate(content), batch.schema)
    (row,) = engine.decide(batch, explain=True).to_pylist()
    assert row["decision"] == "a"
    # Nothing is proved where signals are computed with; what is said is still true.
    assert len(sufficient(row)) == 100
