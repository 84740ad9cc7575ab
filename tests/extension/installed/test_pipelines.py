"""A component and a method of quantisation of another distribution: validated, offered, run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from onnx import numpy_helper
from typer.testing import CliRunner

from modelmill.artifacts import TableRef
from modelmill.cli.main import app
from modelmill.compression.options import GRAPH_METHODS
from modelmill.errors import PipelineError
from modelmill.pipeline.catalogue import catalogue
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.runner import run_step
from modelmill.pipeline.validation import parse_pipeline
from modelmill.settings import Settings
from modelmill.tokens.token_ids import Tokens
from modelmill_operators.operators import operator_for

PIPELINE = """
pipeline: long_texts
steps:
  raw: {component: delta_table, config: {uri: /tables/news}}
  longest:
    component: longest_texts
    inputs: {table: raw.table}
    config: {to: /tables/longest, rows: ROWS}
"""


def test_a_pipeline_with_it_is_checked() -> None:
    assert parse_pipeline(PIPELINE.replace("ROWS", "2")).steps["longest"].component == "longest_texts"
    with pytest.raises(PipelineError, match=r"steps.longest.config.rows: .*must be at least 1; got 0"):
        parse_pipeline(PIPELINE.replace("ROWS", "0"))


def test_the_canvas_the_command_line_and_airflow_have_it() -> None:
    schema = catalogue()["longest_texts"].config.model_json_schema()
    assert schema["properties"]["rows"]["description"] == "Texts to write."
    shown = CliRunner().invoke(app, ["components", "longest_texts", "--json"])
    assert shown.exit_code == 0, shown.output
    assert "Texts to write." in json.dumps(json.loads(shown.output))
    assert operator_for("longest_texts").component == "longest_texts"


def test_it_runs(settings: Settings, tmp_path: Path) -> None:
    texts = ["a", "a longer text", None, "longer"]
    write_deltalake(str(tmp_path / "news"), pa.table({"text": pa.array(texts)}))
    request = StepRequest(
        pipeline="long_texts",
        step="longest",
        component="longest_texts",
        config={"to": str(tmp_path / "longest"), "rows": 2},
        inputs={"table": TableRef(uri=str(tmp_path / "news"), version=0)},
    )
    result = run_step(request, settings)
    written = DeltaTable(str(tmp_path / "longest")).to_pyarrow_table()
    assert written["text"].to_pylist() == ["a longer text", "longer"]
    assert not result.reused
    assert run_step(request, settings).reused


def test_its_method_is_offered_and_works(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    naming = {
        name for name, one in catalogue().items() if "bfloat16_weights" in str(one.config.model_json_schema())
    }
    assert naming == {"quantize", "compress", "trunk", "distill_signals"}
    source, target = make_bundle("source", tweak=1.2345678) / "model.onnx", tmp_path / "small.onnx"
    GRAPH_METHODS.load("bfloat16_weights")(source, target, Tokens.of([[1, 2]]))
    weights = [
        {weight.name: numpy_helper.to_array(weight) for weight in onnx.load(path).graph.initializer}
        for path in (source, target)
    ]
    assert weights[0].keys() == weights[1].keys()
    floats = [name for name, value in weights[0].items() if value.dtype == np.float32]
    assert floats
    for name in floats:
        assert not (weights[1][name].view(np.uint32) & 0xFFFF).any()
        assert weights[1][name] == pytest.approx(weights[0][name], rel=2**-7)
