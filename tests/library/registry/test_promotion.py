"""Only what passed becomes champion, once, and only over the champion that the gate compared it with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.component import StepContext
from modelmill.errors import GateError, ModelmillError
from modelmill.registry import champion, ledger, promotion
from modelmill.registry.approval import answered
from modelmill.registry.champion_look import one_look
from modelmill.registry.ledger import Entry, append, entries
from modelmill.registry.versions import patiently
from modelmill.settings import Settings
from modelmill.steps.ports import ModelOutputs
from modelmill.steps.promote import promote

Propose = Callable[..., ModelRef]
Judged = Callable[[ModelRef], VerdictRef]
NextStep = Callable[[str], StepContext]


def test_the_first_good_model_becomes_champion_and_answers_by_alias(
    propose: Propose, judged: Judged, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    verdict = judged(propose("good"))
    assert verdict.passed, verdict.reasons
    champion = promotion.promote(verdict, step_context)
    assert champion.uri == "models:/topics/1"
    answers = mlflow.pyfunc.load_model("models:/topics@champion").predict(pd.DataFrame({"body": ["goal"]}))
    assert answers["prediction"].tolist() == ["sport"]
    (row,) = entries(step_context.settings)
    assert (row.action, row.from_version, row.to_version) == ("promote", None, 1)
    version = step_context.run.client.get_model_version("topics", "1")
    assert version.tags["modelmill.dataset"] == f"{topic_dataset.uri}@0"
    assert version.tags["modelmill.digest"] == verdict.challenger.digest


def test_a_worse_challenger_is_refused_and_changes_nothing(
    propose: Propose, judged: Judged, next_step: NextStep, step_context: StepContext
) -> None:
    first = promotion.promote(judged(propose("good")), step_context)
    verdict = judged(propose("bad", skill=-1.0))
    assert not verdict.passed
    assert any("champion" in reason for reason in verdict.reasons)
    logged = {item.path for item in step_context.run.client.list_artifacts(verdict.run_id, "gate")}
    assert logged == {"gate/verdict.json", "gate/verdict.html", "gate/verdict.png"}
    kept = promotion.promote(verdict, next_step("b" * 64))
    assert kept == first
    assert [row.action for row in entries(step_context.settings, model="topics")] == ["promote", "refuse"]
    assert len(step_context.run.client.search_model_versions("name = 'topics'")) == 1


def test_a_refused_first_model_is_an_error_with_its_reasons(
    propose: Propose, judged: Judged, next_step: NextStep, step_context: StepContext
) -> None:
    verdict = judged(propose("bad", skill=-1.0))
    with pytest.raises(GateError, match=r"must pass the gate .*majority class"):
        promotion.promote(verdict, step_context)
    assert promotion.champion_version("topics", step_context.settings) is None


def test_an_equal_challenger_is_accepted(
    propose: Propose, judged: Judged, next_step: NextStep, step_context: StepContext
) -> None:
    promotion.promote(judged(propose("good")), step_context)
    verdict = judged(propose("same", tweak=0.001))
    assert verdict.passed, verdict.reasons
    champion = promotion.promote(verdict, next_step("b" * 64))
    assert champion.uri == "models:/topics/2"


def test_the_champion_itself_passes_at_once_and_gains_no_version(
    propose: Propose, judged: Judged, next_step: NextStep, step_context: StepContext
) -> None:
    model = propose("good")
    first = promotion.promote(judged(model), step_context)
    verdict = judged(model)
    assert verdict.passed
    assert verdict.champion_version == 1
    assert promotion.promote(verdict, next_step("b" * 64)) == first
    assert len(step_context.run.client.search_model_versions("name = 'topics'")) == 1
    assert len(entries(step_context.settings)) == 1


def test_a_promotion_is_reused_only_while_its_champion_is_in_use(
    propose: Propose, judged: Judged, next_step: NextStep, step_context: StepContext
) -> None:
    client, settings = step_context.run.client, step_context.settings
    promotion.promote(judged(propose("good")), step_context)
    verdict = judged(propose("same", tweak=0.001))
    outputs = ModelOutputs(model=promotion.promote(verdict, next_step("b" * 64)))
    assert promote.still_valid is not None
    assert promote.still_valid(outputs, settings)
    client.set_registered_model_alias("topics", "champion", "1")
    assert not promote.still_valid(outputs, settings)


@pytest.mark.parametrize("others", [False, True], ids=["gone", "begun anew by another model"])
def test_a_ledger_that_was_removed_is_said_and_begun_anew(
    propose: Propose, judged: Judged, step_context: StepContext, *, others: bool
) -> None:
    settings = step_context.settings
    verdict = judged(propose("good"))
    outputs = ModelOutputs(model=promotion.promote(verdict, step_context))
    assert promote.still_valid is not None
    assert promote.still_valid(outputs, settings)
    shutil.rmtree(settings.ledger)
    if others:
        row = Entry(
            action="refuse", model="other", from_version=None, to_version=None, digest="", step_key="x"
        )
        append(settings, "other", lambda _: row, step_key="x", moves_alias=False)
    assert not promote.still_valid(outputs, settings)
    with one_look():
        assert not promote.still_valid(outputs, settings)
    assert promotion.promote(verdict, step_context) == outputs.model
    (row_of_model,) = entries(settings, model="topics")
    assert (row_of_model.action, row_of_model.to_version) == ("hand_move", 1)
    assert "the ledger knows no champion yet" in row_of_model.reasons[0]
    assert promote.still_valid(outputs, settings)


@pytest.mark.parametrize(
    "point", ["register", "verify_stored", "move", "ledger.settle", "set_alias", "reference"]
)
def test_a_promotion_that_died_is_finished_by_the_next_attempt(
    propose: Propose,
    judged: Judged,
    step_context: StepContext,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    verdict = judged(propose("good"))
    with monkeypatch.context() as patch:
        patch.setattr(*where(point), die)
        with pytest.raises(Died):
            promotion.promote(verdict, step_context)
    assert promotion.promote(verdict, step_context).uri == "models:/topics/1"
    assert promotion.champion_version("topics", step_context.settings) == 1
    assert len(step_context.run.client.search_model_versions("name = 'topics'")) == 1
    (row,) = entries(step_context.settings)
    assert (row.to_version, row.run_id) == (1, step_context.run.run_id)
    assert ledger.head(step_context.settings, "topics").settled


class Died(BaseException):
    """Stands for a process that is killed: nothing catches it."""


def die(*_: object, **__: object) -> None:
    raise Died


def where(point: str) -> tuple[object, str]:
    module = promotion if hasattr(promotion, point) else champion
    return (ledger, "settle") if point == "ledger.settle" else (module, point)


def test_a_champion_moved_since_the_gate_looked_stops_the_promotion(
    propose: Propose, judged: Judged, next_step: NextStep, step_context: StepContext
) -> None:
    stale = judged(propose("first"))
    promotion.promote(judged(propose("second", tweak=0.001)), step_context)
    with pytest.raises(GateError, match=r"must be the one that the gate compared with.*run the gate again"):
        promotion.promote(stale, next_step("b" * 64))
    assert promotion.champion_version("topics", step_context.settings) == 1


def test_of_promotions_that_race_one_goes_through(
    propose: Propose, judged: Judged, next_step: NextStep, step_context: StepContext
) -> None:
    models = [propose(f"model-{number}", tweak=number / 1000) for number in range(4)]
    verdicts = [judged(model) for model in models]
    assert [verdict.champion_version for verdict in verdicts] == [None] * 4
    contexts = [next_step(f"{number}" * 64) for number in range(1, 5)]

    def promote(number: int) -> str:
        try:
            return promotion.promote(verdicts[number], contexts[number]).uri
        except GateError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(promote, range(4)))
    assert outcomes.count("models:/topics/1") == 1
    assert sum("must be the one that the gate compared with" in outcome for outcome in outcomes) == 3
    assert len(step_context.run.client.search_model_versions("name = 'topics'")) == 1
    (row,) = entries(step_context.settings)
    assert (row.action, row.to_version) == ("promote", 1)
    assert row.digest == models[outcomes.index("models:/topics/1")].digest


def test_a_promotion_goes_forward_even_to_files_that_were_champion_before(
    propose: Propose, accepted: Callable[..., VerdictRef], next_step: NextStep, settings: Settings
) -> None:
    old, new = propose("old"), propose("new", tweak=0.001)
    for number, model in enumerate((old, new, old)):
        promotion.promote(accepted(model), next_step(f"{number}"))
    assert [row.to_version for row in entries(settings)] == [1, 2, 3]
    assert [row.digest for row in entries(settings)] == [old.digest, new.digest, old.digest]


def test_an_approval_is_written_down(
    propose: Propose, accepted: Callable[..., VerdictRef], step_context: StepContext
) -> None:
    promotion.promote(accepted(propose("good"), approved_by="Ada: looks right"), step_context)
    (row,) = entries(step_context.settings)
    assert row.reasons == ("approved by Ada: looks right",)


def test_an_alias_that_was_moved_while_a_person_thought_stops_the_promotion(
    propose: Propose, judged: Judged, next_step: NextStep, step_context: StepContext
) -> None:
    client = step_context.run.client
    for number in (1, 2):
        promotion.promote(judged(propose(f"model-{number}", tweak=number / 1000)), next_step(f"{number}"))
    asked = judged(propose("model-3", tweak=0.003))
    client.set_registered_model_alias("topics", "champion", "1")
    approved = answered(asked, approved=True, who="ada", why="looks right")
    with pytest.raises(promotion.StaleVerdictError, match=r"version 2; got 1; .*run the gate again"):
        promotion.promote(approved, next_step("3"))
    assert promotion.champion_version("topics", step_context.settings) == 1
    assert [row.action for row in entries(step_context.settings)] == ["promote", "promote", "hand_move"]


def test_where_the_ledger_cannot_be_written_nothing_is_promoted(
    propose: Propose, judged: Judged, step_context: StepContext, tmp_path: Path
) -> None:
    verdict = judged(propose("good"))
    (tmp_path / "file").write_text("no folder")
    nowhere = replace(step_context.settings, ledger=str(tmp_path / "file" / "ledger"))
    with pytest.raises(ModelmillError, match=r"file/ledger"):
        promotion.promote(verdict, replace(step_context, settings=nowhere))
    assert promotion.champion_version("topics", step_context.settings) is None
    assert promotion.promote(verdict, step_context).uri == "models:/topics/1"


@pytest.mark.parametrize("name", ["../topics", "a/b", "", "x" * 64, "topics\n", "-rf"])
def test_a_name_that_is_a_path_is_refused(
    propose: Propose, accepted: Callable[..., VerdictRef], step_context: StepContext, name: str
) -> None:
    with pytest.raises(GateError, match="a registered model's name is"):
        promotion.promote(accepted(propose("good"), name=name), step_context)


def test_processes_that_race_move_nothing_backwards_and_lose_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    """With a work directory each, as on machines of their own, and one of them killed on the way."""
    script = Path(__file__).parents[3] / "benchmarks" / "promotions.py"
    scratch = tmp_path / "race"
    command = [
        sys.executable,
        str(script),
        "--processes",
        "3",
        "--promotions",
        "3",
        "--scratch",
        str(scratch),
    ]
    ended = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=400)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    figures = dict(line.rsplit(maxsplit=1) for line in ended.stdout.splitlines())
    assert figures["promotions"] == "9"
    for name in ("lost rows", "backward moves", "looks without a champion", "errors"):
        assert figures[name] == "0", ended.stdout
    watched = json.loads((scratch / "watched.json").read_text())
    assert watched["looks"] > 9


def test_an_alias_that_somebody_else_has_just_made_is_set_again() -> None:
    """As MLflow says it where two processes set a new alias at one moment."""
    message = "(sqlite3.IntegrityError) UNIQUE constraint failed: registered_model_aliases.name"
    faults = iter([MlflowException(message, error_code=BAD_REQUEST)])

    def set_alias() -> str:
        for fault in faults:
            raise fault
        return "set"

    assert patiently(set_alias) == "set"
