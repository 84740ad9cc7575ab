"""Steps over signals that are compared with each other: looked up, they are what computing them gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modelmill.rules.engine import Engine
from modelmill.rules.explanation import joint_states, single_changes
from modelmill.rules.explanation.loose_values import JointStates
from modelmill.rules.rule_set import RuleSet

KINDS = {
    "a": pa.float64(),
    "b": pa.float64(),
    "n": pa.int64(),
    "m": pa.int64(),
    "w": pa.timestamp("us"),
    "t": pa.string(),
}
RULES = {
    "one pair": ["CASE WHEN a > b THEN a ELSE b END > 0.6 OR n > 5", "NOT (a < 0.2) AND t = 'x'"],
    "two pairs": ["a > b AND n > m", "nullif(n, m) IS NULL AND a > 0.5"],
    "a number and a written time": ["a + 1 > 1.5", "w > TIMESTAMP '2020-01-01 00:00:00' AND n * 2 = m"],
    "three, which are too many": ["a > b AND a > n", "coalesce(a, b) > 0.5"],
}


def rows(count: int) -> pa.RecordBatch:
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {"id": pa.array(range(count))}
    for name, kind in KINDS.items():
        if kind == pa.string():
            values = random.choice(["x", "y"], count).tolist()
        elif kind == pa.float64():
            values = random.choice([0.1, 0.5, 0.6, 0.7, 0.1 + 2**-55], count).tolist()
        else:
            values = random.integers(0, 9, count).tolist()
        gaps = random.random(count) < 0.1
        known = [None if gap else one for one, gap in zip(values, gaps, strict=True)]
        columns[name] = pa.array(known, kind)
    return pa.RecordBatch.from_pydict(columns)


@pytest.mark.parametrize("name", RULES)
def test_what_is_looked_up_is_what_is_computed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule_set = RuleSet.model_validate(
        {
            "rule_set": "joint",
            "key": "id",
            "signals": {one: {"kind": "column"} for one in KINDS},
            "rules": [
                {"name": f"r{at}", "when": when, "then": f"d{at}"} for at, when in enumerate(RULES[name])
            ],
            "default": "none",
        }
    )
    batch = rows(60)
    made: list[JointStates] = []
    original = joint_states._computed

    def noted(*given: Any) -> JointStates:
        made.append(original(*given))
        return made[-1]

    monkeypatch.setattr(joint_states, "_computed", noted)
    found = Engine(rule_set, batch.schema).decide(batch, explain=True)
    assert len(made) == {"one pair": 1, "three, which are too many": 0}.get(name, 2)
    monkeypatch.setattr(joint_states, "_MOST_PAIRS", 0)
    monkeypatch.setattr(single_changes, "_MOST_STATES", 0)
    before = len(made)
    assert Engine(rule_set, batch.schema).decide(batch, explain=True) == found
    assert len(made) == before
