"""A text that is not UTF-8 is unknown on its own row, with the reason, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from modelmill.errors import SignalError
from modelmill.rules.engine import Engine
from modelmill.rules.rule_set import RuleSet

PLAIN = pa.string()
RAW = [b"spam one", b"\xff broken spam", None, b"spam two", b"caf\xc3", b"fine"]
GOOD = [raw if raw in (b"spam one", b"spam two", b"fine") else None for raw in RAW]
BROKEN = "the text in column 'text' is not UTF-8 (byte 0xff at 0)"
SIGNALS: dict[str, dict[str, Any]] = {
    "text": {"kind": "column"},
    "found": {"kind": "regex", "column": "text", "pattern": "spam"},
    "count": {"kind": "regex", "column": "text", "pattern": "spam", "output": "count"},
    "listed": {"kind": "phrases", "column": "text", "phrases": ["spam"]},
    "words": {"kind": "measured", "function": "words", "columns": ["text"]},
    "low": {"kind": "sql", "expression": "lower(text)"},
    "tags": {"kind": "column"},
}


def strings(raw: list[bytes | None], kind: pa.DataType) -> pa.Array:
    binary = pa.array(raw, pa.large_binary() if kind == pa.large_string() else pa.binary())
    if pa.types.is_dictionary(kind):
        coded = binary.dictionary_encode()
        return pa.DictionaryArray.from_arrays(coded.indices, coded.dictionary.view(pa.string()), safe=False)
    return binary.view(pa.string()).cast(kind) if kind == pa.string_view() else binary.view(kind)


def rows_of(raw: list[bytes | None], kind: pa.DataType = PLAIN) -> pa.RecordBatch:
    texts = strings(raw, kind)
    items = strings([one or b"" for one in raw], pa.string())
    tags = pa.ListArray.from_arrays(pa.array(range(len(raw) + 1), pa.int32()), items)
    return pa.RecordBatch.from_arrays([pa.array(range(len(raw))), texts, tags], names=["id", "text", "tags"])


def rule_set(when: str, reason: str = "", signals: dict[str, Any] = SIGNALS, **changes: Any) -> RuleSet:
    rule = {"name": "rule", "when": when, "then": "remove", "reason": reason}
    content = {"rule_set": "r", "key": "id", "signals": signals, "rules": [rule], "default": "keep"}
    return RuleSet.model_validate({**content, "on_unknown": "review", **changes})


CONDITIONS = ("found", "count = 1", "listed", "words = 2", "low LIKE 'spam%'", "text <> 'fine'")


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
@pytest.mark.parametrize("when", CONDITIONS)
def test_only_its_own_row_is_unknown(when: str, kind: pa.DataType) -> None:
    batch = rows_of(RAW, kind)
    engine = Engine(rule_set(when, "{text} {found} {count}"), batch.schema)
    found = engine.decide(batch, explain=True)
    assert found.column("decision").to_pylist() == ["remove", "review", "review", "remove", "review", "keep"]
    for row in range(batch.num_rows):
        assert engine.decide(batch.slice(row, 1), explain=True).to_pylist() == found.slice(row, 1).to_pylist()
    signals = found.column("explanation")[1].as_py()["signals"]
    assert BROKEN in [one["unknown"] for one in signals]
    full = engine.evaluate_fully(batch)
    assert full.decisions() == found.column("decision")
    assert set(full.failures.values()) == {2}


def test_a_list_with_such_a_text_is_unknown() -> None:
    batch = rows_of(RAW)
    engine = Engine(rule_set("tags IS NOT NULL"), batch.schema)
    found = engine.decide(batch, explain=True)
    assert found.column("decision").to_pylist() == ["remove", "keep", "remove", "remove", "keep", "remove"]


def test_a_run_stops_if_the_rule_set_says_so_and_only_where_the_text_is_needed() -> None:
    batch = rows_of(RAW)
    with pytest.raises(SignalError, match=r"row 1: the text in column 'text' is not UTF-8"):
        Engine(rule_set("found", on_failure="stop"), batch.schema).decide(batch)
    spared = rule_set("found AND id <> 1 AND id <> 4", signals={**SIGNALS, "id": {"kind": "column"}})
    engine = Engine(spared.model_copy(update={"on_failure": "stop"}), batch.schema)
    assert engine.decide(batch).column("decision").to_pylist()[:2] == ["remove", "keep"]


def test_a_key_that_is_not_utf_8_stays_as_it_is() -> None:
    batch = rows_of(RAW)
    engine = Engine(rule_set("found", key="text"), batch.schema)
    found = engine.decide(batch, explain=True)
    assert found.column("text").view(pa.binary()).to_pylist() == RAW


def test_plans_are_measured_on_such_rows() -> None:
    batch = rows_of(RAW * 10)
    engine = Engine(rule_set("found OR low = 'x' OR words > 9"), batch.schema)
    engine.use(engine.measure_plan(batch))
    assert engine.decide(batch).column("decision").to_pylist()[:2] == ["remove", "review"]


def test_a_model_is_asked_about_the_other_rows(make_bundle: Callable[..., Path]) -> None:
    model = str(make_bundle("model"))
    signals = {"p": {"kind": "model", "column": "text", "model": model, "label": "trade"}}
    found = [
        Engine(rule_set("p >= 0", signals=signals), rows_of(raw).schema).decide(rows_of(raw), explain=True)
        for raw in (RAW, GOOD)
    ]
    assert found[0].column("decision").to_pylist() == found[1].column("decision").to_pylist()
    assert found[0].column("decision").to_pylist()[:2] == ["remove", "review"]
    assert found[0].column("explanation")[1].as_py()["signals"][0]["unknown"] == BROKEN


def test_the_text_of_evidence_is_bounded() -> None:
    signals = {"long": {"kind": "regex", "column": "text", "pattern": "a+"}}
    batch = rows_of([b"a" * 1_000_000])
    found = Engine(rule_set("long", signals=signals), batch.schema).decide(batch, explain=True)
    (place,) = found.column("explanation")[0].as_py()["evidence"]
    assert (place["start"], len(place["text"])) == (0, 501)
