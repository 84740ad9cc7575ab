"""A worse challenger is refused for the right reason, and an equal one is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, GateError, TableError
from modelmill.pipeline.validation import parse_pipeline
from modelmill.registry import promotion
from modelmill.registry.bundles import log_model
from modelmill.registry.gate_report import GateReport
from modelmill.steps.gate import GateConfig, GateInputs
from modelmill.steps.gate import run as run_gate
from modelmill.tables.reading import read_arrow

Judged = Callable[..., VerdictRef]
Propose = Callable[..., ModelRef]


def judge(config: GateConfig, dataset: DatasetRef, challenger: ModelRef, context: StepContext) -> VerdictRef:
    return run_gate(config, GateInputs(dataset=dataset, challenger=challenger), context).verdict


def report_of(verdict: VerdictRef, context: StepContext) -> GateReport:
    path = context.run.client.download_artifacts(verdict.run_id, "gate/verdict.json")
    return GateReport.model_validate_json(Path(path).read_text())


def test_an_exported_file_is_compared_with_the_model_it_was_made_from(
    make_bundle: Callable[..., Path],
    topic_dataset: DatasetRef,
    step_context: StepContext,
    judged: Judged,
) -> None:
    parent = log_model(make_bundle("good"), role="student", dataset=topic_dataset, context=step_context)
    exported = log_model(
        make_bundle("bad", skill=-1.0),
        role="exported",
        dataset=topic_dataset,
        context=step_context,
        parent=parent,
    )
    verdict = judged(exported)
    assert any(
        reason.startswith("accuracy, 0.00%, is 100.00 points worse than the parent")
        for reason in verdict.reasons
    )
    assert any(
        "recall of class sport, 0.00%, is 100.00 points worse than the parent" in reason
        for reason in verdict.reasons
    )


def test_the_report_says_what_was_checked(
    propose: Propose, judged: Judged, accepted: Judged, step_context: StepContext
) -> None:
    promotion.promote(accepted(propose("good")), step_context)
    verdict = judged(propose("bad", skill=-1.0))
    report = report_of(verdict, step_context)
    assert not report.passed
    kinds = {check.check: check for check in report.checks}
    assert set(kinds) == {"metric", "baseline", "class", "floor"}
    metric = kinds["metric"]
    assert (metric.name, metric.challenger, metric.other, metric.drop) == ("champion", 0.0, 1.0, 1.0)
    assert metric.p_value is not None
    assert metric.adjusted is not None
    assert metric.p_value <= metric.adjusted <= 0.025
    page = Path(step_context.run.client.download_artifacts(verdict.run_id, "gate/verdict.html")).read_text()
    assert "<span class='refused'>refused</span>" in page
    assert "data:image/png;base64," in page
    assert "**topics: refused.**" in verdict.summary
    assert verdict.reasons[0] in verdict.summary


def test_a_wrong_row_is_found_by_its_key(
    propose: Propose, judged: Judged, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    report = report_of(judged(propose("bad", skill=-1.0)), step_context)
    columns = [topic_dataset.key, topic_dataset.text_column, report.label]
    rows = read_arrow(topic_dataset, columns=columns).to_pylist()
    by_key = {row[topic_dataset.key]: row for row in rows}
    assert len(report.mistakes) > 1
    for one in report.mistakes:
        row = by_key[one.key]
        assert row[topic_dataset.text_column] in one.text  # shown as a literal
        assert one.label == row[report.label]


def test_a_model_registered_by_hand_is_refused_and_told_what_is_missing(
    make_bundle: Callable[..., Path],
    propose: Propose,
    judged: Judged,
    accepted: Judged,
    step_context: StepContext,
) -> None:
    client = step_context.run.client
    client.create_registered_model("topics")
    source = propose("good").uri
    client.create_model_version("topics", source=source, model_id=None)
    by_hand = ModelRef(
        uri="models:/topics/1", run_id="", digest="0" * 64, format="onnx", role="exported", parent=None
    )
    verdict = judged(by_hand)
    assert not verdict.passed
    for tag in ("digest", "dataset", "recipe_hash", "role"):
        assert f"(tag modelmill.{tag})" in verdict.reasons[0]
    unknown = judged(by_hand.model_copy(update={"uri": "models:/m-nowhere"}))
    assert "MLflow does not know it" in unknown.reasons[0]
    client.set_registered_model_alias("topics", "champion", "1")
    with pytest.raises(Exception, match=r"must carry its lineage; missing: digest of its files"):
        judged(propose("other", tweak=0.1))


def test_a_model_without_lineage_is_not_promoted_either(
    propose: Propose, accepted: Judged, step_context: StepContext
) -> None:
    model = propose("good")
    step_context.run.client.delete_logged_model_tag(model.uri.removeprefix("models:/"), "modelmill.dataset")
    with pytest.raises(GateError, match=r"missing: dataset it was trained or checked on"):
        promotion.promote(accepted(model), step_context)
    assert promotion.champion_version("topics", step_context.settings) is None


FURTHER = [
    ({"check": "size", "max_mb": 0.0001}, "size", "refused: more than the accepted 0.0001 MB"),
    ({"check": "size", "max_ratio": 1.5}, "size", "passed"),
    ({"check": "latency", "max_ms": 0.000001}, "latency", "refused: more than the accepted 1e-06 ms"),
    ({"check": "latency", "max_ratio": 50}, "latency", "passed"),
    ({"check": "slice", "column": "topic", "max_drop": 0.1, "min_rows": 5}, "slice", "refused"),
    ({"check": "calibration", "max_error": 0.01}, "calibration", "refused: more than the accepted 1.00%"),
    ({"check": "calibration"}, "calibration", "refused: more than the accepted 2.00 points, beyond chance"),
]


@pytest.mark.parametrize(("check", "kind", "outcome"), FURTHER, ids=lambda value: str(value)[:40])
def test_further_checks(
    propose: Propose,
    accepted: Judged,
    topic_dataset: DatasetRef,
    step_context: StepContext,
    check: dict[str, object],
    kind: str,
    outcome: str,
) -> None:
    promotion.promote(accepted(propose("good")), step_context)
    config = GateConfig.model_validate({"name": "topics", "resamples": 500, "checks": [check]})
    verdict = judge(config, topic_dataset, propose("bad", skill=-1.0), step_context)
    found = [item for item in report_of(verdict, step_context).checks if item.check == kind]
    assert found
    assert any(outcome in item.sentence for item in found), [item.sentence for item in found]


def test_a_student_is_compared_with_the_language_model_that_taught_it(
    propose: Propose, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    # The labels stand in for a language model that is always right; no row's topic is "gold".
    checks = [
        {"check": "answers", "column": "topic", "min_accuracy": 0.9},
        {"check": "answers", "column": "topic", "source": "topic"},
    ]
    config = GateConfig.model_validate({"name": "topics", "resamples": 500, "checks": checks})
    bad, good = (
        report_of(judge(config, topic_dataset, propose(name, skill=skill), step_context), step_context)
        for name, skill in (("bad", -1.0), ("good", 1.0))
    )
    worse, below = (one for one in bad.checks if one.check == "answers")
    assert (worse.passed, worse.name, worse.challenger, worse.other) == (False, "labeller topic", 0.0, 1.0)
    assert (below.passed, below.name, below.limit, below.rows) == (False, "labels by hand", 0.9, worse.rows)
    assert [one.passed for one in good.checks if one.check == "answers"] == [True, True]
    (small,) = (one for one in good.not_judged if one.check == "answers")
    assert small.reason == "too small to judge: 0 test rows, and 20 are needed"


def test_a_slice_needs_its_column(
    propose: Propose, accepted: Judged, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    promotion.promote(accepted(propose("good")), step_context)
    config = GateConfig.model_validate({"name": "topics", "checks": [{"check": "slice", "column": "topik"}]})
    with pytest.raises(TableError, match="did you mean 'topic'"):
        judge(config, topic_dataset, propose("other", tweak=0.1), step_context)


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        ({"check": "sise"}, "does not match any of the expected tags"),
        ({"check": "size"}, "at least one of max_mb and max_ratio is needed"),
        ({"check": "slice"}, "column"),
        ({"check": "latency", "max_ms": -1}, "greater than 0"),
        ({}, "discriminator"),
    ],
)
def test_a_check_that_cannot_be_is_refused_with_its_place(check: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        GateConfig.model_validate({"name": "topics", "checks": [check]})
    text = json.dumps(
        {
            "pipeline": "p",
            "steps": {
                "raw": {"component": "delta_table", "config": {"uri": "/raw"}},
                "verdict": {"component": "gate", "config": {"name": "topics", "checks": [check]}},
            },
        },
        indent=1,
    )
    with pytest.raises(Exception, match=r"steps.verdict.config.checks"):
        parse_pipeline(text)


CHECKS_OF_OTHERS = '''
from typing import Literal

from modelmill.registry.comparison import Comparison
from modelmill.registry.gate_check import GateCheck


class VowelCheck(GateCheck):
    """Answers begin with few vowels."""

    check: Literal["vowels"] = "vowels"
    most: int = 0

    def compare(self, contest):
        count = sum(answer[0] in "aeiou" for answer in contest.challenger.answers)
        yield Comparison(
            check="vowels", name="accepted vowels", metric="vowels", unit="count",
            challenger=count, other=None, worse=count, limit=self.most,
        )
'''


def test_another_distribution_adds_a_check(tmp_path: Path) -> None:
    import subprocess
    import sys

    site = tmp_path / "site"
    info = site / "vowels-1.dist-info"
    info.mkdir(parents=True)
    (site / "vowel_check.py").write_text(CHECKS_OF_OTHERS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vowels\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[modelmill.gate_checks]\nvowels = vowel_check\n")
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r});"
        "from modelmill.steps.gate import GateConfig;"
        "config = GateConfig(name='x', checks=[{'check': 'vowels', 'most': 1}]);"
        "import types;"
        "contest = types.SimpleNamespace(challenger=types.SimpleNamespace(answers=['ox', 'cow']));"
        "(check,) = config.checks;"
        "print(type(check).__name__, [one.worse for one in check.compare(contest)],"
        "config.model_dump(mode='json')['checks'])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "VowelCheck [1] [{'check': 'vowels', 'most': 1}]\n"


def test_two_checks_of_a_name_are_refused() -> None:
    from types import ModuleType

    from modelmill.registry import checks
    from modelmill.registry.gate_check import known_checks

    class OtherSize(checks.SizeCheck):
        """Another check of the name."""

    other = ModuleType("other")
    other.OtherSize = OtherSize
    with pytest.raises(ConfigError, match="two checks of a gate cannot have one name; got 'size'"):
        known_checks([checks, other])
