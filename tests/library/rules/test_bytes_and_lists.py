"""Columns of bytes and of lists: conditions ask whether they are NULL, people see their size and digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pyarrow as pa
import pytest

from modelmill.errors import ExpressionError, RuleSetError
from modelmill.rules.engine import Engine
from modelmill.rules.explanation.rendering import explanation_text
from modelmill.rules.language.expressions import compile_expressions
from modelmill.rules.reading import parse_rule_set
from modelmill.rules.rule_set import RuleSet

PHOTO = b"\x89PNG" * 500
ROWS = pa.RecordBatch.from_arrays(
    [
        pa.array(["a", "b", "c"]),
        pa.array([PHOTO, None, b""], pa.binary()),
        pa.array([["red", "blue"], [], None]),
        pa.array([[0.5, 1.5], None, [2.0, 3.0]], pa.list_(pa.float32(), 2)),
        pa.array([{"x": 1}] * 3),
    ],
    names=["id", "photo", "tags", "embedding", "pair"],
)
SIGNALS: dict[str, Any] = {name: {"kind": "column"} for name in ("photo", "tags", "embedding")}


def rule_set(**rules: str) -> RuleSet:
    return RuleSet.model_validate(
        {
            "rule_set": "photos",
            "key": "id",
            "signals": SIGNALS,
            "rules": [
                {"name": name, "when": when, "then": name, "reason": "{photo} and {tags}"}
                for name, when in rules.items()
            ],
            "default": "keep",
        }
    )


def test_conditions_ask_whether_they_are_null() -> None:
    rules = rule_set(
        bare="photo IS NULL AND embedding IS NULL", untagged="tags IS NULL", shown="photo IS NOT NULL"
    )
    engine = Engine(rules, ROWS.schema)
    assert engine.compiled.kinds == {
        "photo": "bytes",
        "tags": "texts",
        "embedding": "numbers",
    }
    found = engine.decide(ROWS)
    assert found.column("decision").to_pylist() == ["shown", "bare", "untagged"]
    assert [engine.decide(ROWS.slice(row, 1)).column("decision")[0].as_py() for row in range(3)] == [
        "shown",
        "bare",
        "untagged",
    ]


def test_an_explanation_shows_size_and_digest_and_not_the_content() -> None:
    rules = rule_set(bare="photo IS NULL", tagged="tags IS NOT NULL")
    first, second, _ = Engine(rules, ROWS.schema).decide(ROWS, explain=True).to_pylist()
    photo = f"2,000 bytes, SHA-256 {hashlib.sha256(PHOTO).hexdigest()[:12]}"
    signals = {one["signal"]: one for one in first["explanation"]["signals"]}
    assert signals["photo"]["text"] == photo
    assert signals["photo"]["region"] == "not NULL"
    assert signals["tags"]["text"].startswith("list of 2, SHA-256 ")
    assert first["reason"] == f"{photo} and {signals['tags']['text']}"
    assert f"photo = {photo} (not NULL)" in explanation_text(first)
    assert first["explanation"]["other_decision"] == "bare"
    (change,) = first["explanation"]["changes"]
    assert (change["signal"], change["old"], change["new"]) == ("photo", photo, "unknown")
    # What would make the other decision is any photo, not a certain one.
    changes = [(one["signal"], one["old"], one["new"]) for one in second["explanation"]["changes"]]
    assert ("photo", "unknown", "not NULL") in changes
    assert second["explanation"]["minimal"]


@pytest.mark.parametrize(
    ("when", "said"),
    [
        (
            "photo = 'x'",
            "1:1: photo is bytes: an expression can only test whether it is NULL; read its column",
        ),
        ("1 = 1 AND length(photo) > 3", "1:18: photo is bytes: an expression can only test"),
        ("'red' IN (tags)", "1:11: tags is a list of texts: an expression can only test"),
        ("embedding + 1 > 2", "1:1: embedding is a list of numbers: an expression can only test"),
        ("coalesce(photo, photo) IS NULL", "1:10: photo is bytes: an expression can only test"),
        ("photo", "1:1: the expression must be a condition; got bytes; an expression can only test"),
    ],
)
def test_what_expressions_cannot_do_is_refused_with_rule_value_and_remedy(when: str, said: str) -> None:
    text = rule_set(bad=when).model_dump_json()
    with pytest.raises(RuleSetError) as caught:
        parse_rule_set(text, schema=ROWS.schema)
    (problem,) = caught.value.problems
    assert problem.path == "rules.0.when"
    assert problem.message.startswith(said)
    assert "such as a measure" in problem.message


def test_a_column_that_nothing_reads_is_refused_with_its_place() -> None:
    content = rule_set(bare="tags IS NULL").model_dump()
    content["signals"]["tags"]["column"] = "pair"
    with pytest.raises(
        RuleSetError, match=r"signals.tags: the column of signal 'tags' must have a simple type"
    ):
        parse_rule_set(json.dumps(content), schema=ROWS.schema)
    with pytest.raises(ExpressionError, match="a column must have a simple type; got 'pair'"):
        compile_expressions({"bad": "pair IS NULL"}, ROWS.schema)


def test_rows_with_much_in_them_are_settled_in_shorter_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(rule_set(bare="photo IS NULL"), ROWS.schema)
    assert len(list(engine.chunks(ROWS))) == 1
    monkeypatch.setattr("modelmill.rules.engine._MAX_BYTES", 1000)
    assert len(list(engine.chunks(ROWS))) == 3
    assert engine.decide(ROWS).column("decision").to_pylist() == ["keep", "bare", "keep"]
