"""The rule sets beside the pipelines load."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from modelmill.rules.reading import load_rule_set

FOLDER = Path(__file__).parents[3] / "dags" / "rules"
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("topic", pa.string())])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_rule_set_loads(path: Path) -> None:
    rule_set = load_rule_set(str(path), schema=SCHEMA)
    assert len(rule_set.signals) >= 20
