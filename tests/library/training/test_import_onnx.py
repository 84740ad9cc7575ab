"""A model that was made elsewhere passes the gate, is served, and is a signal in a rule set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.library.training.photos import KINDS, picture

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.component import StepContext
from modelmill.errors import ModelError
from modelmill.steps import decide, gate, import_onnx, promote
from modelmill.system.digests import file_digest
from modelmill.tables.reading import read_arrow

RULES = """
rule_set: kinds
key: id
signals:
  stripes: {kind: model, column: photo, model: "signals:kind", label: stripes}
rules:
  - {name: striped, when: stripes > 0.5, then: reject, reason: "stripes {stripes:.2f}"}
default: keep
"""


def edge_finder(path: Path) -> Path:
    """Write a graph that tells the kinds of the photos by their edges: across, down, or none."""
    kernels = np.zeros((2, 3, 2, 2), np.float32)
    kernels[0, :, 0] = kernels[1, :, :, 0] = np.array([-1, 1], np.float32) / 3
    # Of edges across and down: noise, plain, stripes.
    weights = np.array([[0, 0, 1], [1, 0, -2]], np.float32)
    constants = {"kernels": kernels, "weights": weights, "bias": np.array([0, 5, 0], np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "kernels"], ["edges"]),
        helper.make_node("Abs", ["edges"], ["sizes"]),
        helper.make_node("GlobalAveragePool", ["sizes"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["numbers"]),
    ]
    graph = helper.make_graph(
        nodes,
        "edges",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 20, 24])],
        [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def config(path: Path, **options: Any) -> import_onnx.ImportOnnxConfig:
    given = {"path": str(path), "label": "kind", "divide_by": 1, "image": "photo"}
    return import_onnx.ImportOnnxConfig(**{**given, "classes": ("noise", "plain", "stripes"), **options})


def test_an_imported_model_is_promoted_served_and_read_by_rules(
    photos: DatasetRef, step_context: StepContext, tmp_path: Path
) -> None:
    import mlflow
    import pandas as pd

    path = edge_finder(tmp_path / "edges.onnx")
    made = import_onnx.run(
        config(path, sha256=file_digest(path)), import_onnx.ImportOnnxInputs(dataset=photos), step_context
    )
    assert (made.model.role, made.model.format, made.signals.count) == ("imported", "onnx", 1)
    judged = gate.run(
        gate.GateConfig(name="kinds", resamples=200),
        gate.GateInputs(dataset=photos, challenger=made.model),
        step_context,
    )
    champion = promote.run(
        promote.PromoteConfig(), promote.PromoteInputs(verdict=judged.verdict), step_context
    ).model
    assert champion.digest == made.model.digest
    asked = pd.DataFrame({"photo": [*(picture(kind, 500) for kind in KINDS), None]})
    answers = mlflow.pyfunc.load_model(champion.uri).predict(asked)["prediction"].tolist()
    assert answers == [*KINDS, None]
    (tmp_path / "rules.yaml").write_text(RULES)
    decided = decide.run(
        decide.DecideConfig(rule_set=str(tmp_path / "rules.yaml"), to=str(tmp_path / "decided"), plan_rows=0),
        decide.DecideInputs(table=TableRef(uri=photos.uri, version=0), signals=made.signals),
        step_context,
    )
    kinds = {row["id"]: row["kind"] for row in read_arrow(photos, columns=["id", "kind"]).to_pylist()}
    found = {row["id"]: row["decision"] for row in read_arrow(decided.table).to_pylist()}
    assert found == {key: "reject" if kind == "stripes" else "keep" for key, kind in kinds.items()}


def test_another_file_than_the_one_that_was_meant_is_refused(
    step_context: StepContext, tmp_path: Path
) -> None:
    path = edge_finder(tmp_path / "edges.onnx")
    with pytest.raises(ModelError, match="must have the digest"):
        import_onnx.run(config(path, sha256="0" * 64), import_onnx.ImportOnnxInputs(), step_context)
    settings = step_context.settings
    state = import_onnx.import_onnx.outside_state
    assert state is not None
    before = state(config(path), import_onnx.ImportOnnxInputs(), settings)
    path.write_bytes(path.read_bytes() + b"\0")
    assert before != state(config(path), import_onnx.ImportOnnxInputs(), settings)
    assert state(config(tmp_path / "none"), import_onnx.ImportOnnxInputs(), settings) == "missing"
