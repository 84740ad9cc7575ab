"""Rule sets as data: what they are made of, and what their digest says."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from modelmill.errors import SignalError
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings
from modelmill.signals.groups import SignalContext
from modelmill.signals.registry import build_groups

CONTENT: dict[str, Any] = {
    "rule_set": "moderation",
    "key": "id",
    "signals": {
        "size": {"kind": "column"},
        "offer": {"kind": "regex", "column": "text", "pattern": "(?i)free"},
        "spam": {"kind": "model", "column": "text", "model": "models:/spam@champion", "label": "spam"},
    },
    "rules": [{"name": "spam_offer", "when": "spam > 0.9 AND offer", "then": "remove"}],
    "default": "allow",
}


def rule_set(**changes: Any) -> RuleSet:
    return RuleSet.model_validate({**CONTENT, **changes})


def test_the_digest_says_what_decides_and_nothing_else() -> None:
    plain = rule_set()
    signals = CONTENT["signals"]
    same = [
        rule_set(description="for people", input="/tables/a"),
        rule_set(signals=dict(reversed(signals.items()))),
        rule_set(signals={**signals, "size": {"kind": "column", "description": "in words"}}),
        rule_set(on_failure="unknown"),
        RuleSet.model_validate_json(plain.model_dump_json()),
    ]
    assert {one.digest for one in same} == {plain.digest}
    rules = [*CONTENT["rules"], {"name": "big", "when": "size > 9", "then": "review"}]
    other = [
        rule_set(default="review"),
        rule_set(on_unknown="review"),
        rule_set(signals={**signals, "size": {"kind": "sql", "expression": "1"}}),
        rule_set(rules=rules),
        rule_set(rules=rules[::-1]),
    ]
    assert len({plain.digest, *(one.digest for one in other)}) == 6


@pytest.mark.parametrize(
    "signal",
    [
        {"kind": "model", "column": "text", "model": "m"},
        {"kind": "model", "column": "text", "model": "m", "output": "label", "label": "spam"},
        {
            "kind": "model",
            "column": "text",
            "model": "m",
            "label": "a",
            "abstain": {"low": 0.6, "high": 0.4},
        },
        {"kind": "phrases", "column": "text", "phrases": []},
        {"kind": "phrases", "column": "text", "phrases": ["a"], "colour": "red"},
        {"kind": "magic"},
    ],
)
def test_a_signal_that_says_too_little_or_too_much_is_refused(signal: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        rule_set(signals={"one": signal})


def site(schema: pa.Schema) -> SignalContext:
    return SignalContext(schema=schema, settings=Settings.from_environment())


def test_columns_are_read_as_they_are() -> None:
    import numpy as np

    chunk = pa.RecordBatch.from_pydict({"size": [1, None, 3], "x": [0.5, None, 2.0]})
    signals = {"size": rule_set().signals["size"]}
    (group,) = build_groups(signals, site(chunk.schema))
    assert (group.signals["size"].kind, group.columns, group.tier) == ("integer", ("size",), "explicit")
    answers = group.begin(chunk).compute(["size"], np.array([0, 1]))
    assert answers["size"].values.to_pylist() == [1, None]


def test_a_column_that_is_not_there_is_named() -> None:
    signals = {"size": rule_set().signals["size"]}
    with pytest.raises(SignalError, match="must be in the input; got 'size'; did you mean 'sizes'"):
        build_groups(signals, site(pa.schema([("sizes", pa.int64())])))
    with pytest.raises(SignalError, match="simple type; got 'size: struct<x: int64>'"):
        build_groups(signals, site(pa.schema([("size", pa.struct([("x", pa.int64())]))])))
