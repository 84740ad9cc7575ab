"""Rule sets in MLflow: promoted like models, found by name, and scorable anywhere."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from mlflow.exceptions import MlflowException

from modelmill.artifacts import ModelRef, TableRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, GateError, TableError
from modelmill.registry import promotion
from modelmill.rules.lifecycle.registered_rule_sets import open_rule_set, rule_set_state
from modelmill.settings import Settings
from modelmill.steps.gate_rules import GateRulesConfig, run
from modelmill.steps.ports import TrialInputs

CONTENT: dict[str, Any] = {
    "rule_set": "r",
    "key": "id",
    "signals": {"offer": {"kind": "phrases", "column": "text", "phrases": ["free money"]}},
    "rules": [{"name": "offer", "when": "offer", "then": "drop"}],
    "default": "keep",
}


@pytest.fixture
def inputs(tmp_path: Path) -> TrialInputs:
    texts = ["free money", "hello", "Free  money!", "hi"] * 10
    rows = pa.table({"id": list(range(40)), "text": texts, "right": ["drop", "keep"] * 20})
    write_deltalake(str(tmp_path / "in"), rows)
    return TrialInputs(table=TableRef(uri=str(tmp_path / "in"), version=0))


def judged(
    tmp_path: Path, inputs: TrialInputs, context: StepContext, step: str, content: Any, **config: Any
) -> tuple[StepContext, Any]:
    place = tmp_path / f"{step}.json"
    place.write_text(json.dumps(content))
    context = dataclasses.replace(context, step_key=step.ljust(64, "0"))
    made = GateRulesConfig(rule_set=str(place), name="moderation", **config)
    return context, run(made, inputs, context).verdict


def promoted(*args: Any, **config: Any) -> ModelRef:
    context, verdict = judged(*args, **config)
    return promotion.promote(verdict, context)


def test_a_rule_set_is_promoted_like_a_model(
    tmp_path: Path, inputs: TrialInputs, step_context: StepContext
) -> None:
    first = promoted(tmp_path, inputs, step_context, "a", CONTENT)
    assert first.uri == "models:/moderation/1"
    found = open_rule_set("models:/moderation@champion", step_context.settings)
    assert found.canonical()["rules"] == [{"name": "offer", "when": "offer", "then": "drop"}]
    model = mlflow.pyfunc.load_model("models:/moderation@champion")
    decided = model.predict(pd.DataFrame({"id": [7, 8], "text": ["free money", None]}))
    assert decided["decision"].tolist() == ["drop", "keep"]
    assert decided["rule"].astype(str).tolist() == ["offer", None]  # as spark_udf casts it
    assert [row["rule"] for row in decided.to_dict("records")] == ["offer", None]
    outputs = model.metadata.get_output_schema()
    assert outputs.input_names() == ["decision", "rule", "severity", "reason", "because", "rule_set"]
    assert model.metadata.get_input_schema().input_names() == ["id", "text"]
    with pytest.raises(MlflowException, match="missing inputs"):
        model.predict(pd.DataFrame({"id": [7]}))

    none = {**CONTENT, "rules": [{"name": "offer", "when": "NOT offer", "then": "drop"}]}
    context, verdict = judged(tmp_path, inputs, step_context, "b", none)
    assert verdict.reasons == ("100.00% of the rows change their decision; accepted are 5.00%",)
    assert promotion.promote(verdict, context).uri == first.uri
    _, worse = judged(tmp_path, inputs, step_context, "c", none, max_changed=1.0, label="right")
    assert worse.reasons == ("of 40 labelled rows with another outcome 40 are for the worse",)

    other = {**CONTENT, "default": "pass"}
    later = promoted(tmp_path, inputs, step_context, "d", other, max_changed=0.5)
    assert later.uri == "models:/moderation/2"
    assert open_rule_set("models:/moderation/1", step_context.settings).default == "keep"
    assert open_rule_set("models:/moderation@champion", step_context.settings).default == "pass"


def test_dead_rules_are_refused(tmp_path: Path, inputs: TrialInputs, step_context: StepContext) -> None:
    dead = {**CONTENT, "rules": [{"name": "never", "when": "offer AND NOT offer", "then": "drop"}]}
    context, verdict = judged(tmp_path, inputs, step_context, "e", dead)
    assert verdict.reasons == ("rules are true on no row: never",)
    with pytest.raises(GateError, match="must pass the gate"):
        promotion.promote(verdict, context)


def test_names_that_are_no_rule_set(step_context: StepContext) -> None:
    with pytest.raises(ConfigError, match="must exist"):
        open_rule_set("models:/nothing@champion", step_context.settings)


@pytest.mark.parametrize(
    "source",
    [
        *(
            "/etc/passwd",
            "file:///etc/hosts",
            "/proc/self/environ",
            "http://169.254.169.254/latest/meta-data",
        ),
        *("simplecache::http://127.0.0.1/x", "zip://a.yaml::/tmp/a.zip", "{home}/.aws/credentials"),
        "{rules}/../secret.yaml",
    ],
)
def test_a_step_reads_rule_sets_only_from_places_that_are_allowed(
    source: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("secret")
    (tmp_path / "secret.yaml").write_text("secret")
    monkeypatch.setenv("MODELMILL_SOURCES", "")
    if "{rules}" in source:
        monkeypatch.setenv("MODELMILL_SOURCES", str(tmp_path / "landing"))
        monkeypatch.setenv("MODELMILL_PARAM_RULES", str(tmp_path / "rules"))
    place = source.format(home=tmp_path, rules=tmp_path / "rules")
    for read in (open_rule_set, rule_set_state):
        with pytest.raises(TableError, match="MODELMILL_SOURCES") as caught:
            read(place, settings)
        assert "secret" not in str(caught.value).replace(place, "")


def test_the_folder_of_rule_sets_is_allowed_beside_the_sources(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rules" / "desks.yaml"
    file.parent.mkdir()
    file.write_text(json.dumps(CONTENT))
    monkeypatch.setenv("MODELMILL_SOURCES", str(tmp_path / "landing"))
    with pytest.raises(TableError, match="MODELMILL_SOURCES"):
        open_rule_set(str(file), settings)
    assert open_rule_set(str(file), settings, anywhere=True).rule_set
    monkeypatch.setenv("MODELMILL_PARAM_RULES", str(file.parent))
    assert open_rule_set(str(file), settings).rule_set
