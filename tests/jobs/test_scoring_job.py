"""The scoring job on the embedded engine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from onnx import numpy_helper

from modelmill.artifacts import ModelRef, TableRef
from modelmill.models.bundle import BundleInfo, bundle_digest
from modelmill.serving.scoring import ScoreTableRequest
from modelmill.tables.reading import read_arrow
from modelmill.tasks.base import AnswerType
from modelmill_jobs import score_table

TEXTS = ["grain grain", "bank", None, "  \u00a0", "grain bank bank", "else"]


def write(path: Path) -> None:
    rows = {"id": list(range(len(TEXTS))), "text": TEXTS, "odd name.x": ["é"] * len(TEXTS)}
    write_deltalake(str(path), pa.table(rows))


def score(
    spark: Any,
    tmp_path: Path,
    bundle: tuple[Path, ModelRef],
    key: str,
    *keep: str,
    answer_type: AnswerType = "string",
) -> Any:
    request = ScoreTableRequest(
        table=TableRef(uri=str(tmp_path / "in"), version=0),
        model=bundle[1],
        bundle=str(bundle[0]),
        text="text",
        answer_type=answer_type,
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


def one_output(path: Path) -> None:
    model = onnx.load(path)
    weights = numpy_helper.to_array(model.graph.initializer[0])[:, :1]
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(model, path)


def test_sets_and_numbers_have_columns_of_their_types(
    sail: Any, tmp_path: Path, bundle: tuple[Path, ModelRef]
) -> None:
    write(tmp_path / "in")
    score(sail, tmp_path, bundle, "k1", "id")  # the columns' types change from run to run
    info, found = BundleInfo.load(bundle[0]), {}
    kinds: list[tuple[AnswerType, dict[str, Any]]] = [
        ("array<string>", {"target": "classes"}),
        ("double", {"target": "number", "classes": ()}),
    ]
    for answer_type, changes in kinds:
        folder = tmp_path / str(changes["target"])
        shutil.copytree(bundle[0], folder)
        info.model_copy(update=changes).save(folder)
        if answer_type == "double":
            one_output(folder / "model.onnx")
        model = bundle[1].model_copy(update={"digest": bundle_digest(folder)})
        result = score(sail, tmp_path, (folder, model), str(folder), "id", answer_type=answer_type)
        table = read_arrow(result.table).sort_by("id")
        assert (result.rows, result.unscored) == (6, 2)
        found[answer_type] = (
            str(table.schema.field("prediction").type),
            table["prediction"].to_pylist(),
            result,
        )
    type_, sets, result = found["array<string>"]
    assert (type_, sets) == ("list<element: string>", [["grain"], ["money"], None, None, ["money"], []])
    assert result.predictions == {"grain": 1, "money": 2}
    type_, numbers, result = found["double"]
    assert (type_, numbers) == ("double", [4.0, -2.0, None, None, -2.0, 0.0])
    assert result.numbers == {"min": -2.0, "mean": 0.0, "max": 4.0}
