"""A worse challenger is refused, an equal one is not, and only what passed becomes champion, once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.errors import GateError
from modelmill.evaluation.metrics import paired_difference
from modelmill.pipeline.component import StepContext
from modelmill.registry import gate, promotion
from modelmill.registry.components import GateConfig, promote
from modelmill.registry.ledger import entries
from modelmill.registry.models import log_model
from modelmill.registry.tracking import open_run
from modelmill.training.components import ModelOutputs

CONFIG = GateConfig(name="topics", resamples=500)
Propose = Callable[..., ModelRef]


@pytest.fixture
def propose(
    make_bundle: Callable[..., Path], topic_dataset: DatasetRef, step_context: StepContext
) -> Propose:
    """Return a function that logs a model of a given skill."""

    def log(name: str, **how: float) -> ModelRef:
        return log_model(
            make_bundle(name, **how), role="exported", dataset=topic_dataset, context=step_context
        )

    return log


def next_step(context: StepContext, key: str) -> StepContext:
    """The context of another step: its own run and key."""
    run = open_run(context.run.client, context.run.experiment_id, key, name="next", tags={})
    return replace(context, run=run, step_key=key)


def judged(challenger: ModelRef, dataset: DatasetRef, context: StepContext) -> VerdictRef:
    return gate.run(CONFIG, dataset, challenger, context)


def test_the_first_good_model_becomes_champion_and_answers_by_alias(
    propose: Propose, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    verdict = judged(propose("good"), topic_dataset, step_context)
    assert verdict.passed, verdict.reasons
    champion = promotion.run(verdict, step_context)
    assert champion.uri == "models:/topics/1"
    answers = mlflow.pyfunc.load_model("models:/topics@champion").predict(pd.DataFrame({"body": ["goal"]}))
    assert answers["prediction"].tolist() == ["sport"]
    (row,) = entries(step_context.settings)
    assert (row["action"], row["from_version"], row["to_version"]) == ("promote", None, 1)
    version = step_context.run.client.get_model_version("topics", "1")
    assert version.tags["modelmill.dataset"] == f"{topic_dataset.uri}@0"
    assert version.tags["modelmill.digest"] == verdict.challenger.digest


def test_a_worse_challenger_is_refused_and_changes_nothing(
    propose: Propose, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    first = promotion.run(judged(propose("good"), topic_dataset, step_context), step_context)
    verdict = judged(propose("bad", skill=-1.0), topic_dataset, step_context)
    assert not verdict.passed
    assert any("champion" in reason for reason in verdict.reasons)
    logged = {item.path for item in step_context.run.client.list_artifacts(verdict.run_id, "gate")}
    assert logged == {"gate/verdict.json", "gate/verdict.html", "gate/verdict.png"}
    kept = promotion.run(verdict, next_step(step_context, "b" * 64))
    assert kept == first
    assert [row["action"] for row in entries(step_context.settings, model="topics")] == ["promote", "refuse"]
    assert len(step_context.run.client.search_model_versions("name = 'topics'")) == 1


def test_a_refused_first_model_is_an_error_with_its_reasons(
    propose: Propose, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    verdict = judged(propose("bad", skill=-1.0), topic_dataset, step_context)
    with pytest.raises(GateError, match=r"must pass the gate .*majority class"):
        promotion.run(verdict, step_context)
    assert promotion.champion_version("topics", step_context.settings) is None


def test_an_equal_challenger_is_accepted(
    propose: Propose, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    promotion.run(judged(propose("good"), topic_dataset, step_context), step_context)
    verdict = judged(propose("same", tweak=0.001), topic_dataset, step_context)
    assert verdict.passed, verdict.reasons
    champion = promotion.run(verdict, next_step(step_context, "b" * 64))
    assert champion.uri == "models:/topics/2"


def test_the_champion_itself_passes_at_once_and_gains_no_version(
    propose: Propose, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    model = propose("good")
    first = promotion.run(judged(model, topic_dataset, step_context), step_context)
    verdict = judged(model, topic_dataset, step_context)
    assert verdict.passed
    assert verdict.champion_version == 1
    assert promotion.run(verdict, next_step(step_context, "b" * 64)) == first
    assert len(step_context.run.client.search_model_versions("name = 'topics'")) == 1
    assert len(entries(step_context.settings)) == 1


def test_a_promotion_is_reused_only_while_its_champion_is_in_use(
    propose: Propose, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    client, settings = step_context.run.client, step_context.settings
    promotion.run(judged(propose("good"), topic_dataset, step_context), step_context)
    verdict = judged(propose("same", tweak=0.001), topic_dataset, step_context)
    outputs = ModelOutputs(model=promotion.run(verdict, next_step(step_context, "b" * 64)))
    assert promote.still_true is not None
    assert promote.still_true(outputs, settings)
    client.set_registered_model_alias("topics", "champion", "1")
    assert not promote.still_true(outputs, settings)


def test_a_promotion_that_died_is_finished_by_the_next_attempt(
    propose: Propose, topic_dataset: DatasetRef, step_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = judged(propose("good"), topic_dataset, step_context)
    for point in ("_verify_stored", "_record", "_finish"):

        class Died(BaseException):
            pass

        def die(*_: object, **__: object) -> None:
            raise Died

        with monkeypatch.context() as patch:
            patch.setattr(promotion, point, die)
            with pytest.raises(Died):
                promotion.run(verdict, step_context)
    assert promotion.run(verdict, step_context).uri == "models:/topics/1"
    assert len(step_context.run.client.search_model_versions("name = 'topics'")) == 1
    assert [row["to_version"] for row in entries(step_context.settings)] == [1]


def test_a_champion_moved_since_the_gate_looked_stops_the_promotion(
    propose: Propose, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    stale = judged(propose("first"), topic_dataset, step_context)
    promotion.run(judged(propose("second", tweak=0.001), topic_dataset, step_context), step_context)
    with pytest.raises(GateError, match=r"must be the one that the gate compared with.*run the gate again"):
        promotion.run(stale, next_step(step_context, "b" * 64))
    assert promotion.champion_version("topics", step_context.settings) == 1


def test_of_promotions_that_race_one_goes_through(
    propose: Propose, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    models = [propose(f"model-{number}", tweak=number / 1000) for number in range(4)]
    verdicts = [judged(model, topic_dataset, step_context) for model in models]
    assert [verdict.champion_version for verdict in verdicts] == [None] * 4
    contexts = [next_step(step_context, f"{number}" * 64) for number in range(1, 5)]

    def promote(number: int) -> str:
        try:
            return promotion.run(verdicts[number], contexts[number]).uri
        except GateError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(promote, range(4)))
    assert outcomes.count("models:/topics/1") == 1
    assert sum("must be the one that the gate compared with" in outcome for outcome in outcomes) == 3
    assert len(step_context.run.client.search_model_versions("name = 'topics'")) == 1
    (row,) = entries(step_context.settings)
    assert (row["action"], row["to_version"]) == ("promote", 1)
    assert row["digest"] == models[outcomes.index("models:/topics/1")].digest


def test_an_exported_file_is_compared_with_the_model_it_was_made_from(
    make_bundle: Callable[..., Path], topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    parent = log_model(make_bundle("good"), role="student", dataset=topic_dataset, context=step_context)
    exported = log_model(
        make_bundle("bad", skill=-1.0),
        role="exported",
        dataset=topic_dataset,
        context=step_context,
        parent=parent,
    )
    verdict = judged(exported, topic_dataset, step_context)
    assert any("parent (100.00%" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("wrong", "rows", "limit", "passed", "warning"),
    [
        (0, 1000, 0.005, True, False),
        (4, 1000, 0.005, True, False),
        (12, 60, 0.005, False, False),
        (1, 60, 0.005, True, True),
        (60, 1000, 0.005, False, False),
        (60, 1000, 0.1, True, False),
    ],
)
def test_a_limit_is_broken_only_beyond_chance(
    wrong: int, rows: int, limit: float, passed: bool, warning: bool
) -> None:
    truth = ["a", "b"] * (rows // 2)
    worse = ["x" if index < wrong else value for index, value in enumerate(truth)]
    difference = paired_difference(truth, truth, worse, metric="accuracy", resamples=1000)
    check = gate.judge("other", difference, limit=limit)
    assert (check.passed, check.warning) == (passed, warning)
