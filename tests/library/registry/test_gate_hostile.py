"""What a gate is not meant for: scores that are no numbers, lost files and classes, few rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.component import StepContext
from modelmill.errors import DatasetError, ModelError
from modelmill.registry import promotion
from modelmill.registry.bundles import log_model
from modelmill.registry.comparison import NotJudged
from modelmill.registry.gate_report import GateReport
from modelmill.steps.gate import GateConfig, GateInputs
from modelmill.steps.gate import run as run_gate

Judged = Callable[..., VerdictRef]
Propose = Callable[..., ModelRef]
Bundle = Callable[..., Path]


def judge(config: GateConfig, dataset: DatasetRef, challenger: ModelRef, context: StepContext) -> VerdictRef:
    return run_gate(config, GateInputs(dataset=dataset, challenger=challenger), context).verdict


def report_of(verdict: VerdictRef, context: StepContext, name: str = "verdict.json") -> str:
    path = context.run.client.download_artifacts(verdict.run_id, f"gate/{name}")
    return Path(path).read_text()


def logged(folder: Path, dataset: DatasetRef, context: StepContext) -> ModelRef:
    return log_model(folder, role="exported", dataset=dataset, context=context)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_no_answers(
    make_bundle: Bundle,
    propose: Propose,
    accepted: Judged,
    topic_dataset: DatasetRef,
    step_context: StepContext,
    value: float,
) -> None:
    promotion.promote(accepted(propose("good")), step_context)
    # The first special token is in every text.
    broken = logged(make_bundle("broken", tweak=value), topic_dataset, step_context)
    config = GateConfig.model_validate(
        {"name": "topics", "resamples": 500, "checks": [{"check": "calibration", "max_error": 0.5}]}
    )
    verdict = judge(config, topic_dataset, broken, step_context)
    assert not verdict.passed
    assert verdict.reasons[0] == (
        "number of rows whose scores are no numbers is 20; such a row has no answer: refused: more than the "
        "accepted 0"
    )
    assert any(
        reason.startswith("accuracy, 0.00%, is 100.00 points worse than the champion")
        for reason in verdict.reasons
    )
    assert any(reason.startswith("calibration error is 100.00%") for reason in verdict.reasons)
    report = GateReport.model_validate_json(report_of(verdict, step_context))
    assert all(np.isfinite([check.drop, check.challenger]).all() for check in report.checks)


def test_a_challenger_that_lacks_a_class_of_the_champion_is_refused(
    make_bundle: Bundle,
    propose: Propose,
    accepted: Judged,
    topic_dataset: DatasetRef,
    step_context: StepContext,
) -> None:
    promotion.promote(accepted(propose("good")), step_context)
    folder = make_bundle("renamed", tweak=0.001)
    info = json.loads((folder / "modelmill.json").read_text())
    (folder / "modelmill.json").write_text(json.dumps({**info, "classes": ["sport", "business"]}))
    other = logged(folder, topic_dataset, step_context)
    # Where the test rows have only what both know, no metric shows it.
    rows = DeltaTable(topic_dataset.uri).to_pyarrow_table()
    kept = rows.filter(pc.or_(pc.not_equal(rows["split"], "test"), pc.equal(rows["topic"], "sport")))
    write_deltalake(topic_dataset.uri, kept, mode="overwrite")
    dataset = topic_dataset.model_copy(update={"version": 1})
    config = GateConfig(name="topics", resamples=500)
    verdict = judge(config, dataset, other, step_context)
    (reason,) = verdict.reasons
    assert reason.startswith(
        "number of classes that are lost is 1; champion answers trade, and the challenger"
    )
    report = GateReport.model_validate_json(report_of(verdict, step_context))
    assert {one.name: one.rows for one in report.not_judged if one.check == "class"} == {
        "class business, champion": 0,
        "class trade, champion": 0,
    }
    allowed = config.model_copy(update={"may_lose_classes": True})
    assert judge(allowed, dataset, other, step_context).passed


def test_one_class_everywhere_is_judged(
    propose: Propose, accepted: Judged, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    promotion.promote(accepted(propose("good")), step_context)
    rows = DeltaTable(topic_dataset.uri).to_pyarrow_table()
    write_deltalake(topic_dataset.uri, rows.filter(pc.equal(rows["topic"], "sport")), mode="overwrite")
    dataset = topic_dataset.model_copy(update={"version": 1})
    config = GateConfig.model_validate(
        {
            "name": "topics",
            "metric": "macro_f1",
            "resamples": 500,
            "checks": [{"check": "calibration"}, {"check": "slice", "column": "topic"}],
        }
    )
    assert judge(config, dataset, propose("same", tweak=0.001), step_context).passed
    worse = judge(config, dataset, propose("bad", skill=-1.0), step_context)
    assert any("worse than the majority class" in reason for reason in worse.reasons)


def test_no_test_rows_are_told(
    propose: Propose, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    rows = DeltaTable(topic_dataset.uri).to_pyarrow_table()
    write_deltalake(topic_dataset.uri, rows.filter(pc.not_equal(rows["split"], "test")), mode="overwrite")
    dataset = topic_dataset.model_copy(update={"version": 1})
    with pytest.raises(DatasetError, match="the test split must have rows with a value in 'topic'"):
        judge(GateConfig(name="topics"), dataset, propose("good"), step_context)


def test_slices_that_are_too_small_are_said_to_be(
    propose: Propose, accepted: Judged, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    promotion.promote(accepted(propose("good")), step_context)
    rows = DeltaTable(topic_dataset.uri).to_pyarrow_table()
    # Test rows are the last twenty: 3 in <fi>, 1 without a language, 4 in sv, 12 in en; de is in train alone.
    languages = ["de"] * 40 + ["en"] * 40 + ["<fi>"] * 3 + [None] + ["sv"] * 4 + ["en"] * 12
    table = rows.append_column("language", pa.array(languages, pa.string()))
    write_deltalake(topic_dataset.uri, table, mode="overwrite", schema_mode="overwrite")
    dataset = topic_dataset.model_copy(update={"version": 1})
    config = GateConfig.model_validate(
        {
            "name": "topics",
            "resamples": 500,
            "checks": [{"check": "slice", "column": "language", "min_rows": 4}],
        }
    )
    verdict = judge(config, dataset, propose("same", tweak=0.001), step_context)
    assert verdict.passed
    report = GateReport.model_validate_json(report_of(verdict, step_context))
    assert tuple(one for one in report.not_judged if one.check == "slice") == (
        small("language (none), champion", 1),
        small("language <fi>, champion", 3),
        small("language de, champion", 0),
    )
    slices = {check.name: check for check in report.checks if check.check == "slice"}
    assert {name: check.too_small for name, check in slices.items()} == {
        "language en, champion": False,
        "language sv, champion": True,  # of 4 rows not even 4 wrong ones are beyond chance
    }
    sentence = slices["language sv, champion"].sentence
    assert sentence.endswith("passed; too small to judge: the champion is right on 4 of 4 rows")
    page = report_of(verdict, step_context, "verdict.html")
    assert "<h2>Not judged</h2>" in page
    assert "language &lt;fi&gt;, champion" in page
    assert "<span class='warning'>too small to judge</span>" in page
    assert "language (none), champion: too small to judge: 1 test rows" in verdict.summary
    assert "language sv, champion: 4 rows" in verdict.summary


def small(name: str, rows: int) -> NotJudged:
    reason = f"too small to judge: {rows} test rows, and 4 are needed"
    return NotJudged(check="slice", name=name, rows=rows, reason=reason)


def test_a_champion_whose_files_are_gone_is_told_with_the_way_back(
    propose: Propose,
    accepted: Judged,
    judged: Judged,
    step_context: StepContext,
) -> None:
    import mlflow

    model = propose("good")
    promotion.promote(accepted(model), step_context)
    challenger = propose("other", tweak=0.001)
    place = mlflow.get_logged_model(model.uri.removeprefix("models:/")).artifact_location
    shutil.rmtree(place.removeprefix("file://"))
    shutil.rmtree(step_context.cache / "models" / model.digest)
    shutil.rmtree(step_context.cache / "logits", ignore_errors=True)
    with pytest.raises(ModelError, match=r"champion of topics .* modelmill registry rollback topics"):
        judged(challenger)
