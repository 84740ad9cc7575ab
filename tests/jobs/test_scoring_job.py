"""The scoring job on the embedded engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from modelmill.artifacts import ModelRef, TableRef
from modelmill.serving.scoring import ScoreTableRequest
from modelmill.tables.reading import read_arrow
from modelmill_jobs import score_table

TEXTS = ["grain grain", "bank", None, "  \u00a0", "grain bank bank", "else"]


def write(path: Path) -> None:
    rows = {"id": list(range(len(TEXTS))), "text": TEXTS, "odd name.x": ["é"] * len(TEXTS)}
    write_deltalake(str(path), pa.table(rows))


def score(spark: Any, tmp_path: Path, bundle: tuple[Path, ModelRef], key: str, *keep: str) -> Any:
    request = ScoreTableRequest(
        table=TableRef(uri=str(tmp_path / "in"), version=0),
        model=bundle[1],
        bundle=str(bundle[0]),
        text="text",
        answer_type="string",
        keep=keep,
        to=str(tmp_path / "out"),
        transaction=key,
    )
    return score_table.main(request, spark)


def test_every_row_is_scored_and_a_row_without_text_is_not(
    sail: Any, tmp_path: Path, bundle: tuple[Path, ModelRef]
) -> None:
    write(tmp_path / "in")
    result = score(sail, tmp_path, bundle, "k1", "id", "odd name.x")
    table = read_arrow(result.table).sort_by("id")
    assert table.column_names == ["id", "odd name.x", "prediction", "score", "model"]
    assert table["prediction"].to_pylist() == ["grain", "money", None, None, "money", "grain"]
    expected = 1 / (1 + np.exp(-np.array([8.0, 4.0, 4.0, 0.0])))
    scores = table["score"].to_pylist()
    assert [scores[index] for index in (0, 1, 4, 5)] == pytest.approx(expected, abs=1e-6)
    assert [scores[index] for index in (2, 3)] == [None, None]
    assert set(table["model"].to_pylist()) == {"models:/words/1"}
    assert set(table["odd name.x"].to_pylist()) == {"é"}
    assert result.rows == 6
    assert result.unscored == 2
    assert result.predictions == {"grain": 2, "money": 2}


def test_a_retry_adds_no_version_and_a_new_run_replaces_the_rows(
    sail: Any, tmp_path: Path, bundle: tuple[Path, ModelRef]
) -> None:
    write(tmp_path / "in")
    first = score(sail, tmp_path, bundle, "k1", "id")
    again = score(sail, tmp_path, bundle, "k1", "id")
    assert again == first
    later = score(sail, tmp_path, bundle, "k2", "id", "text")
    assert later.table.version == first.table.version + 1
    assert read_arrow(later.table).num_rows == len(TEXTS)
