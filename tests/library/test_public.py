"""What the library promises to its users: names, errors, declarations."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import modelmill
from modelmill import errors
from modelmill.artifacts import DatasetRef, ModelRef, TableRef, parse_reference
from modelmill.component import Port
from modelmill.errors import EXIT_FAILED, EXIT_REFUSED, InputError, ModelmillError, TableError, TransientError
from modelmill.pipeline.catalogue import catalogue

HEAVY = ("torch", "transformers", "pyspark", "mlflow", "deltalake", "sklearn", "matplotlib", "onnxruntime")


def test_the_public_names_exist_and_are_few() -> None:
    assert sorted(modelmill.__all__) == [
        "Model",
        "PipelineSpec",
        "__version__",
        "compress",
        "decide",
        "distill",
        "evaluate",
        "fine_tune",
        "load_pipeline",
        "load_rule_set",
        "parse_pipeline",
        "prune",
        "quantize",
    ]
    assert all(hasattr(modelmill, name) for name in modelmill.__all__)


def test_declarations_import_nothing_heavy() -> None:
    code = (
        "import sys; from modelmill.pipeline.catalogue import catalogue; catalogue();"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_every_component_describes_itself_to_the_canvas() -> None:
    for name, component in catalogue().items():
        assert component.help, name
        assert component.output_ports, name
        properties = component.config.model_json_schema().get("properties", {})
        assert all("description" in field or "$ref" in field for field in properties.values()), name


def test_every_error_says_whether_a_retry_can_help() -> None:
    classes = [value for _, value in inspect.getmembers(errors, inspect.isclass)]
    for kind in classes:
        if issubclass(kind, ModelmillError) and kind is not ModelmillError:
            assert kind.retryable == (not issubclass(kind, InputError)), kind
    assert TableError("a rule").exit_status == EXIT_REFUSED
    assert TransientError("a rule").exit_status == EXIT_FAILED


def test_an_error_is_one_line_with_rule_value_and_remedy() -> None:
    error = TableError("a table must\nexist", got="/x\ny" + "z" * 500, remedy="make one")
    assert "\n" not in str(error)
    assert str(error).startswith("a table must exist; got '/x\\nyzz")
    assert str(error).endswith("; make one")
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    "reference",
    [
        TableRef(uri="/t", version=0),
        DatasetRef(uri="/d", version=3, key="k", text="t", labels=("a", "b"), split="split"),
        ModelRef(uri="models:/m-1", run_id="r", digest="d", format="onnx", role="exported"),
    ],
)
def test_references_survive_json(reference: TableRef | DatasetRef | ModelRef) -> None:
    assert parse_reference(reference.model_dump(mode="json")) == reference


def test_a_dataset_is_a_table_but_a_table_is_no_dataset() -> None:
    table, dataset, model = Port("t", TableRef), Port("d", DatasetRef), Port("m", ModelRef)
    assert table.accepts(dataset)
    assert not dataset.accepts(table)
    assert not table.accepts(model)
