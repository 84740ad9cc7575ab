"""Many steps asked about at once: those that are remembered in one question, and MLflow has the last word."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from modelmill.pipeline.request import StepRequest, StepResult
from modelmill.pipeline.reuse import reusable
from modelmill.pipeline.runner import run_step
from modelmill.registry.finished_runs import AskedRun, RunPlace, memory_file, remember, remembered
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings
from modelmill.system.usage import CPU_SECONDS, DISK_MB, MEMORY_MB, SECONDS

pytestmark = pytest.mark.usefixtures("toy_components")


def request_of(folder: Path, number: int, **config: object) -> StepRequest:
    config = {"journal": str(folder / "journal"), "number": number, **config}
    return StepRequest(pipeline="toy", step=f"s{number}", component="count", config=config)


def asked_of(settings: Settings, result: StepResult) -> AskedRun:
    return AskedRun(settings.tracking_uri, "toy", result.step_key)


@pytest.fixture
def made(tmp_path: Path, settings: Settings) -> list[StepResult]:
    return [run_step(request_of(tmp_path, number), settings) for number in range(3)]


def test_many_steps_are_one_question(
    made: list[StepResult], tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    search = MlflowClient.search_runs

    def counted(client: MlflowClient, experiments: list[str], filter_string: str = "", **more: int) -> object:
        asked.append(filter_string)
        return search(client, experiments, filter_string, **more)

    monkeypatch.setattr(MlflowClient, "search_runs", counted)
    answers = reusable([request_of(tmp_path, number) for number in range(3)], settings)
    assert [answer.result for answer in answers] == [
        result.model_copy(update={"reused": True}) for result in made
    ]
    assert answers[1].lines == (f"s1: nothing that it reads has changed, so run {made[1].run_id} is reused",)
    (question,) = asked
    assert all(result.run_id in question for result in made)


def test_what_is_not_remembered_is_looked_for(
    made: list[StepResult], tmp_path: Path, settings: Settings
) -> None:
    shutil.rmtree(settings.home / "results")
    new, wrong = request_of(tmp_path, 7), request_of(tmp_path, 1, behavior="typo")
    answers = reusable([request_of(tmp_path, 1), new, wrong], settings)
    assert [answer.result is not None for answer in answers] == [True, False, False]
    place = remembered(settings.home, asked_of(settings, made[1]))
    assert place is not None
    assert place.run_id == made[1].run_id


def test_a_run_that_is_deleted_is_not_reused(
    made: list[StepResult], tmp_path: Path, settings: Settings
) -> None:
    tracking_client(settings.tracking_uri).delete_run(made[0].run_id)
    answers = reusable([request_of(tmp_path, 0), request_of(tmp_path, 1)], settings)
    assert [answer.result is not None for answer in answers] == [False, True]


def test_a_wrong_memory_changes_nothing(made: list[StepResult], tmp_path: Path, settings: Settings) -> None:
    asked = asked_of(settings, made[0])
    for content in ("", "0 '); DROP TABLE runs", "0 " + "f" * 32, "half"):
        memory_file(settings.home, asked).write_text(content)
        (answer,) = reusable([request_of(tmp_path, 0)], settings)
        assert answer.result is not None
        assert answer.result.run_id == made[0].run_id
    (settings.home / "file").write_text("in the way")
    # Nothing is raised: it only costs a question.
    remember(settings.home / "file", asked, RunPlace("0", "f" * 32))
    assert remembered(settings.home / "file", asked) is None


def test_stores_and_pipelines_do_not_answer_for_each_other(
    made: list[StepResult], tmp_path: Path, settings: Settings
) -> None:
    """The work directory is the same; what is remembered there is of one store and one pipeline."""
    other = request_of(tmp_path, 0).model_copy(update={"pipeline": "another"})
    (answer,) = reusable([other], settings)
    assert answer.result is None
    ours = run_step(other, settings)
    assert ours.step_key == made[0].step_key
    assert ours.run_id != made[0].run_id
    for request, result in ((request_of(tmp_path, 0), made[0]), (other, ours)):
        (answer,) = reusable([request], settings)
        assert answer.result is not None
        assert answer.result.run_id == result.run_id
    elsewhere = AskedRun("http://localhost:1", "toy", made[0].step_key)
    assert remembered(settings.home, elsewhere) is None
    assert remembered(settings.home, asked_of(settings, made[0])) is not None


def test_a_step_writes_down_what_it_took(made: list[StepResult], settings: Settings) -> None:
    metrics = tracking_client(settings.tracking_uri).get_run(made[0].run_id).data.metrics
    assert metrics[SECONDS] > 0
    assert metrics[CPU_SECONDS] > 0
    assert metrics[MEMORY_MB] > 50  # a Python with MLflow in it
    assert metrics[DISK_MB] < 0.001  # the names of its attempts
