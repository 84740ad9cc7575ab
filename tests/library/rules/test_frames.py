"""Rule sets on data frames: the type and the index of what comes in come out again."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest

from modelmill.errors import TableError
from modelmill.rules.engine import Engine
from modelmill.rules.explanation.rendering import explanation_text
from modelmill.rules.frames import decide
from modelmill.rules.reading import parse_rule_set

RULES = parse_rule_set(
    """
rule_set: shop
key: id
signals:
  offer: {kind: phrases, column: body, phrases: [free money]}
  price: {kind: column}
rules:
  - {name: offer, when: offer AND price > 10, then: review}
default: allow
"""
)
FRAME = pd.DataFrame(
    {"id": ["a", "b", "c"], "body": ["FREE money", "hello", None], "price": [20.0, 30.0, None]},
    index=[7, 3, 5],
)


def test_a_pandas_frame_is_decided_on_and_explained() -> None:
    found = decide(RULES, FRAME)
    assert found["decision"].to_dict() == {7: "review", 3: "allow", 5: "allow"}
    assert found["rule"].tolist() == ["offer", None, None]
    text = explanation_text(found.iloc[0].to_dict())
    assert text.startswith("review (rule offer, medium)")
    assert "offer = true" in text


def test_an_arrow_table_gives_a_table_with_the_engines_decisions() -> None:
    table = pa.Table.from_pandas(pd.concat([FRAME] * 700, ignore_index=True))
    found = decide(RULES, table, explain=False)
    (batch,) = table.combine_chunks().to_batches()
    assert found.to_pylist() == Engine(RULES, table.schema).decide(batch).to_pylist()
    assert "explanation" not in found.schema.names
    assert decide(RULES, table.slice(0, 0)).num_rows == 0


def test_a_frame_without_the_key_is_refused() -> None:
    with pytest.raises(TableError, match="must have its key column"):
        decide(RULES, FRAME.drop(columns="id"))
