"""Deciding on tables in process: what is written, once, and what is refused."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from typer.testing import CliRunner

from modelmill.artifacts import TableRef
from modelmill.cli.main import app
from modelmill.component import StepContext
from modelmill.errors import ConfigError, RuleSetError, TableError
from modelmill.rules.lifecycle.registered_rule_sets import rule_set_state
from modelmill.rules.lifecycle.table_sample import sample_table
from modelmill.rules.reading import parse_rule_set
from modelmill.signals import measures
from modelmill.signals.measures import MeasureOptions
from modelmill.steps.decide import DecideConfig, DecideInputs, run
from modelmill.tables.reading import read_arrow

RULES = """
rule_set: moderation
key: id
signals:
  offer: {kind: phrases, column: body, phrases: [free money]}
  digits: {kind: measured, function: digits, columns: [body]}
  trade: {kind: model, column: body, model: MODEL, label: trade}
  shop: {kind: sql, expression: offer OR trade > 0.6}
rules:
  - {name: offer, when: offer, then: remove, severity: high, reason: "free money, {digits:.2f} digits"}
  - {name: trade, when: shop AND digits < 0.5, then: review}
default: allow
on_unknown: look
"""
TEXTS = ["FREE money 123", "bank share", "goal", None, "bank"]


@pytest.fixture
def rules(tmp_path: Path, make_bundle: Callable[..., Path]) -> Path:
    place = tmp_path / "rules.yaml"
    place.write_text(RULES.replace("MODEL", str(make_bundle("a"))))
    return place


@pytest.fixture
def table(tmp_path: Path) -> TableRef:
    rows = pa.table({"id": [f"k{n}" for n in range(5)], "body": TEXTS, "day": ["a", "b", "a", "b", "a"]})
    write_deltalake(str(tmp_path / "in"), rows)
    return TableRef(uri=str(tmp_path / "in"), version=0)


def decided(rules: Path, table: TableRef, context: StepContext, **config: Any) -> TableRef:
    made = DecideConfig(rule_set=str(rules), to=str(Path(table.uri).parent / "out"), **config)
    return run(made, DecideInputs(table=table), context).table


def test_every_row_is_decided_and_says_why(rules: Path, table: TableRef, step_context: StepContext) -> None:
    found = decided(rules, table, step_context, keep=["day"])
    rows = {row["id"]: row for row in read_arrow(found).to_pylist()}
    assert {key: (row["decision"], row["rule"], row["because"]) for key, row in rows.items()} == {
        "k0": ("remove", "offer", "rule"),
        "k1": ("review", "trade", "rule"),
        "k2": ("allow", None, "default"),
        "k3": ("look", "offer", "unknown"),
        "k4": ("review", "trade", "rule"),
    }
    assert rows["k0"]["reason"] == "free money, not needed digits"
    assert [rows[f"k{n}"]["day"] for n in range(5)] == ["a", "b", "a", "b", "a"]
    client, run_id = step_context.run.client, step_context.run.run_id
    metrics = client.get_run(run_id).data.metrics
    assert (metrics["rows"], metrics["rows_default"], metrics["rows_unknown"]) == (5, 1, 1)
    (commit,) = DeltaTable(found.uri).history(1)
    assert commit["modelmill"]["rule_set"].startswith("moderation@")


def test_a_step_writes_once_and_another_run_replaces(
    rules: Path, table: TableRef, step_context: StepContext
) -> None:
    first = decided(rules, table, step_context)
    assert decided(rules, table, step_context) == first
    later = decided(rules, table, dataclasses.replace(step_context, step_key="other"))
    assert later.version == first.version + 1
    assert read_arrow(later).num_rows == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": ["a", "a", "b", "c", "d"]}, "belongs to one row"),
        ({"id": ["a", None, "b", "c", "d"]}, "1 rows without"),
        ({"id": None}, "must have its key column"),
        ({"body": None}, "must be in the input"),
    ],
)
def test_tables_that_cannot_be_decided_on(
    change: dict[str, Any], said: str, rules: Path, table: TableRef, step_context: StepContext
) -> None:
    rows = read_arrow(table).to_pydict() | change
    kept = {name: values for name, values in rows.items() if values is not None}
    write_deltalake(table.uri, pa.table(kept), mode="overwrite", schema_mode="overwrite")
    newest = TableRef(uri=table.uri, version=1)
    with pytest.raises(Exception, match=said) as caught:
        decided(rules, newest, step_context)
    assert isinstance(caught.value, TableError) or "signal" in str(caught.value)
    assert not (Path(table.uri).parent / "out").exists()


def test_places_and_columns_that_collide(rules: Path, table: TableRef, step_context: StepContext) -> None:
    with pytest.raises(ConfigError, match="not written over its source"):
        run(DecideConfig(rule_set=str(rules), to=table.uri), DecideInputs(table=table), step_context)
    with pytest.raises(ConfigError, match="names of their own"):
        decided(rules, table, step_context, keep=["id"])
    with pytest.raises(TableError, match="did you mean 'day'"):
        decided(rules, table, step_context, keep=["dya"])


def test_models_of_earlier_steps_need_the_port(
    rules: Path, table: TableRef, step_context: StepContext
) -> None:
    text = rules.read_text().splitlines()
    text = [
        line.split("model:")[0] + "model: 'signals:x', label: trade}" if "model:" in line else line
        for line in text
    ]
    rules.write_text("\n".join(text))
    with pytest.raises(ConfigError, match="got 'signals:x'; it has none: connect the port"):
        decided(rules, table, step_context)


def test_the_state_outside_follows_the_rules(rules: Path, step_context: StepContext) -> None:
    before = rule_set_state(str(rules), step_context.settings)
    rules.write_text("# a comment\n" + rules.read_text())
    assert rule_set_state(str(rules), step_context.settings) == before
    rules.write_text(rules.read_text().replace("0.6", "0.8"))
    assert rule_set_state(str(rules), step_context.settings) != before


def test_problems_of_a_text_have_their_places() -> None:
    text = (
        RULES.replace("key: id", "key: id\nkye: x")
        .replace("[free money]", "[]")
        .replace("then: review", "than: x")
    )
    with pytest.raises(RuleSetError) as caught:
        parse_rule_set(text, source="rules.yaml")
    said = str(caught.value)
    assert caught.value.args[0].startswith("rules.yaml: ")
    assert "4:1: kye: unknown key; got 'kye'; did you mean 'key'" in said
    assert "signals.offer.phrases: " in said
    assert "rules.1.than: unknown key; got 'than'; did you mean 'then'" in said
    with pytest.raises(RuleSetError, match="trdae"):
        parse_rule_set(RULES.replace("offer OR trade", "offer OR trdae"))


@pytest.mark.parametrize("most", [1, 100, 299, 300, 5000])
def test_rows_to_try_are_random_rows_of_the_table(tmp_path: Path, most: int) -> None:
    for start in range(0, 300, 100):
        numbers = pa.table({"id": list(range(start, start + 100))})
        write_deltalake(str(tmp_path / "t"), numbers, mode="append")
    table = TableRef(uri=str(tmp_path / "t"), version=2)
    found = sample_table(table, rows=most).column("id").to_pylist()
    assert len(found) == len(set(found)) == min(most, 300)
    assert sample_table(table, rows=most).column("id").to_pylist() == found
    if most == 100:
        assert all(20 < sum(start <= one < start + 100 for one in found) < 46 for start in (0, 100, 200))
        assert 35 < sum(one % 2 for one in found) < 65  # what repeats in the table does not in the sample


def test_a_sorted_table_is_planned_as_a_mixed_one(tmp_path: Path) -> None:
    """Of the first 1,000 rows none needs the measure."""
    texts = ["free money"] * 1000 + ["hello there"] * 3000
    write_deltalake(str(tmp_path / "t"), pa.table({"id": list(range(4000)), "text": texts}))
    (tmp_path / "rules.yaml").write_text(
        "{rule_set: r, key: id, default: x, rules: [{name: r, when: offer OR many > 5, then: y}], signals: {"
        "offer: {kind: regex, column: text, pattern: free},"
        "many: {kind: measured, function: words, columns: [text]}}}"
    )
    arguments = ["rules", "decide", str(tmp_path / "rules.yaml"), "--table", str(tmp_path / "t")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    found = re.search(r"2\. .*: 75\.0% of the rows \((\d+\.\d)% expected\)", result.output)
    assert found, result.output
    assert 70 < float(found[1]) < 80


def test_the_command_refuses_keys_as_the_step_does(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(
        "{rule_set: r, key: id, signals: {a: {kind: column}}, default: x,"
        " rules: [{name: r, when: a = 1, then: y}]}"
    )
    for number, (keys, message) in enumerate(
        [([1, 1, 2], "belongs to one row"), ([1, None, 2], "1 rows without"), ([1, 2, 3], "")]
    ):
        place = str(tmp_path / f"t{number}")
        write_deltalake(place, pa.table({"id": pa.array(keys, pa.int64()), "a": [1, 2, 3]}))
        result = CliRunner().invoke(app, ["rules", "decide", str(tmp_path / "rules.yaml"), "--table", place])
        assert (result.exit_code == 0) == (not message)
        assert message in str(result.exception or "")


def test_the_command_says_what_could_not_be_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(texts: pa.Array, _options: MeasureOptions) -> Any:
        return [float(len(text)) for text in texts.to_pylist()]

    monkeypatch.setattr(measures, "_MEASURES", dict(measures.measures()))
    measures.measure("broken", result="float")(broken)
    (tmp_path / "rules.yaml").write_text(
        "{rule_set: r, key: id, default: x, on_unknown: look, rules: [{name: r, when: a > 1, then: y}],"
        " signals: {a: {kind: measured, function: broken, columns: [text]}}}"
    )
    write_deltalake(str(tmp_path / "t"), pa.table({"id": [1, 2, 3], "text": ["a", "b", "c"]}))
    arguments = ["rules", "decide", str(tmp_path / "rules.yaml"), "--table", str(tmp_path / "t")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    decided, failed = result.output.splitlines()[-2:]
    assert decided == "           3 look, since rule r is unknown"
    assert failed == (
        "           3 rows on which a could not be computed, the first: measure broken must return an Arrow "
        "array with a value for each row, 3; got 'list'; fix the measure"
    )
