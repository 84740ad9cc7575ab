from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modelmill.errors import SignalError
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings
from modelmill.signals.groups import Rows, SignalContext, SignalGroup
from modelmill.signals.registry import build_groups

ROWS = pa.RecordBatch.from_pydict(
    {
        "id": [1, 2, 3, 4],
        "text": ["Spam SPAM", "free money", None, "NO 12"],
        "title": pa.array(["a", "spam", "c", "d"]).dictionary_encode(),
    }
)
SIGNALS: dict[str, Any] = {
    "spam": {"kind": "regex", "column": "text", "pattern": "(?i)spam"},
    "spams": {"kind": "regex", "column": "text", "pattern": "(?i)spam", "output": "count"},
    "offer": {"kind": "phrases", "column": "text", "phrases": ["free money"]},
    "titled": {"kind": "phrases", "column": "title", "phrases": ["spam"]},
    "shouts": {"kind": "measured", "function": "capitals", "columns": ["text"]},
}


def groups(signals: Mapping[str, Any], tmp_path: Path) -> list[SignalGroup]:
    rules = [{"name": "one", "when": "TRUE", "then": "x"}]
    rule_set = RuleSet.model_validate(
        {"rule_set": "r", "key": "id", "signals": signals, "rules": rules, "default": "y"}
    )
    context = SignalContext(ROWS.schema, replace(Settings.from_environment(), home=tmp_path))
    return build_groups(rule_set.signals, context)


def rows(*numbers: int) -> Rows:
    return np.array(numbers, np.int64)


def test_patterns_of_a_column_are_one_group(tmp_path: Path) -> None:
    found = {group.name: group for group in groups(SIGNALS, tmp_path)}
    assert list(found) == ["patterns on text", "patterns on title", "measure shouts"]
    assert [group.tier for group in found.values()] == ["explicit", "explicit", "measured"]
    assert {name: info.kind for name, info in found["patterns on text"].signals.items()} == {
        "spam": "boolean",
        "spams": "integer",
        "offer": "boolean",
    }


def test_some_patterns_on_some_of_many_rows(tmp_path: Path) -> None:
    texts = [f"spam {n}" if n % 3 else f"free money {n}" for n in range(200)]
    text = groups(SIGNALS, tmp_path)[0].begin(pa.RecordBatch.from_pydict({"text": texts}))
    some = rows(*range(0, 200, 7))
    for names in (["spam", "offer"], ["offer", "spam", "spams"]):  # not the group's order, then all
        found = text.compute(names, some)
        assert found["spam"].values.to_pylist() == [n % 3 > 0 for n in some]
        assert found["offer"].values.to_pylist() == [n % 3 == 0 for n in some]


def test_answers(tmp_path: Path) -> None:
    text, title, shouts = (group.begin(ROWS) for group in groups(SIGNALS, tmp_path))
    assert text.compute(["spam"], rows(0, 3))["spam"].values.to_pylist() == [True, False]
    later = text.compute(["spams", "offer"], rows(0, 1, 2))
    assert later["spams"].values.to_pylist() == [2, 0, None]
    assert later["offer"].values.to_pylist() == [False, True, None]
    assert title.compute(["titled"], rows(1, 2))["titled"].values.to_pylist() == [True, False]
    assert shouts.compute(["shouts"], rows(0, 2, 3))["shouts"].values.to_pylist() == [5 / 8, None, 1.0]


def test_a_pass_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = groups(SIGNALS, tmp_path)[0]
    passes: list[int] = []
    find = type(group.patterns).matrix  # type: ignore[attr-defined]
    monkeypatch.setattr(
        type(group.patterns),  # type: ignore[attr-defined]
        "matrix",
        lambda self, texts: (passes.append(len(texts)), find(self, texts))[1],
    )
    evaluation = group.begin(ROWS)
    evaluation.compute(["spam"], rows(0, 1))
    evaluation.compute(["offer"], rows(0, 1, 3))
    evaluation.compute(["spams"], rows(0, 1, 3))
    assert passes == [2, 1]


def test_evidence(tmp_path: Path) -> None:
    evaluation = groups(SIGNALS, tmp_path)[0].begin(ROWS)
    evaluation.compute(["spam", "offer"], rows(0, 1, 2))
    found = evaluation.evidence(["spam", "offer"], rows(0, 1, 2))
    span = {"column": "text", "start": 0, "end": 4, "text": "Spam", "time": None, "box": None}
    assert found["spam"].to_pylist() == [[span], [], []]
    assert [[one["text"] for one in row] for row in found["offer"].to_pylist()] == [[], ["free money"], []]


@pytest.mark.parametrize(
    ("signal", "said"),
    [
        ({"kind": "regex", "column": "texd", "pattern": "a"}, "did you mean 'text'"),
        ({"kind": "regex", "column": "id", "pattern": "a"}, "must be of kind text; got 'id: int64'"),
        ({"kind": "regex", "column": "text", "pattern": "(?=a)"}, "invalid perl operator"),
        ({"kind": "measured", "function": "capitals", "columns": ["id"]}, "must be of kind text"),
    ],
)
def test_what_a_rule_set_says_wrongly(signal: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(SignalError) as caught:
        groups({"bad": signal}, tmp_path)
    assert said in str(caught.value)
    assert "bad" in str(caught.value)
