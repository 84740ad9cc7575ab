"""What a step of a run has made: its reports, and rows of the tables that leave it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.models.dagrun import DagRun
from fastapi import APIRouter, Query
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from modelmill.documents.json_content import as_json
from modelmill.documents.names import NAME_PATTERN
from modelmill.documents.versions import NotFoundError
from modelmill.errors import TableError
from modelmill.settings import Settings
from modelmill.tables.preview import check_below, preview, rows_in
from modelmill_operators.links import XCOM_STEP
from modelmill_plugin import runs
from modelmill_plugin.errors import RefusedError, error_responses
from modelmill_plugin.mlflow_answers import mlflow_client
from modelmill_plugin.report_files import REPORT, ReportFiles
from modelmill_plugin.reports_without_rows import without_rows
from modelmill_plugin.routes.runs import RunId
from modelmill_plugin.routes.tables import TableView
from modelmill_plugin.security import EDIT, SEE_RUNS, SEE_XCOMS, User
from modelmill_plugin.settings import table_roots
from modelmill_plugin.views import DagId, may

if TYPE_CHECKING:
    from mlflow import MlflowClient

router = APIRouter(tags=["results"])

Step = Annotated[
    str,
    InPath(pattern=NAME_PATTERN, description="As it was written (then its first copy), or a copy's own id."),
]
Port = Annotated[str, InPath(pattern=NAME_PATTERN, description="Name of the output.")]

_OWN_REPORTS = (
    "dataset.json",
    "scores.json",
    "labels.json",
    "decisions.json",
    "tiers.json",
    "deployment.json",
)
"""Reports that a step logs without a reference to them."""
_OF_MODELS = ("report.json", "gate/verdict.json")
"""Reports that say something of other steps' models."""
_MOST_REPORTS = 8
_MOST_LOOKS = 24
"""Reports that are looked at: of hundreds of evaluations those that are most likely to be about a model."""
_EARLIER_RUNS = 20


class StepReport(BaseModel):
    """A report that a step has logged."""

    step: str = Field(description="The task that logged it; not always the one that was asked for.")
    file: str = Field(
        description="Its path among the artifacts: report.json, gate/verdict.json, dataset.json, …."
    )
    content: Any = Field(description="The report; null if it is longer than is shown.")


class StepResult(BaseModel):
    """What a step has made."""

    step: str = Field(description="The task.")
    tasks: list[str] = Field(
        description="All copies of the step that have finished; the task is one of them."
    )
    outputs: dict[str, Any] = Field(description="References by output port.")
    reports: list[StepReport] = Field(
        description="The step's own first; then, for a model, those of the run's evaluations and gates that "
        "judge it."
    )
    metrics: dict[str, float]
    mlflow_url: str = Field(description="Page of the MLflow run; empty if it has none.")
    texts_hidden: bool = Field(description="Whether rows of data are left out: the user may not read them.")


class OutputRows(TableView):
    """Rows of a table that left a step, at the version of that run."""

    step: str = Field(description="The task.")
    kind: str = Field(description="table or dataset.")
    rows_before: int | None = Field(
        description="Rows in all, in the run before in which the step has finished; null: not known."
    )


@router.get(
    "/pipelines/{dag_id}/runs/{run_id}/steps/{step}/result",
    dependencies=[SEE_RUNS, SEE_XCOMS],
    responses=error_responses(404),
)
def read_step_result(dag_id: DagId, run_id: RunId, step: Step, user: User, session: SessionDep) -> StepResult:
    """Return what a finished step has reported, and what the run's checks say of its models."""
    run = runs.run_named(dag_id, run_id, session)
    results = runs.step_results(run, session)
    tasks = _finished(run, step, results, session)
    task, made = tasks[0], results[tasks[0]]
    outputs, logged = _outputs(made), made.get(XCOM_STEP, {})
    mlflow_run = logged.get("run_id", "")
    may_see_texts = may("PUT", dag_id, user)
    with mlflow_client() as client:
        metrics = _metrics(client, mlflow_run)
        shown = list(_reports(task, results, mlflow_run, ReportFiles(client)))
    if not may_see_texts:
        shown = [one.model_copy(update={"content": without_rows(one.content)}) for one in shown]
    return StepResult(
        step=task,
        tasks=tasks,
        outputs=as_json(outputs),
        reports=shown,
        metrics=metrics,
        mlflow_url=logged.get("run_url", ""),
        texts_hidden=not may_see_texts,
    )


# As for a table's preview: whoever may edit the pipeline can read its tables by running it.
@router.get(
    "/pipelines/{dag_id}/runs/{run_id}/steps/{step}/outputs/{port}/rows",
    dependencies=[EDIT, SEE_RUNS, SEE_XCOMS],
    responses=error_responses(404, 409),
)
def read_output_rows(
    *,
    dag_id: DagId,
    run_id: RunId,
    step: Step,
    port: Port,
    session: SessionDep,
    label: Annotated[list[str] | None, Query(max_length=20)] = None,
    rows: Annotated[int, Query(ge=1, le=100)] = 20,
) -> OutputRows:
    """Return rows of a table that left a step, as it was in that run; only what is shown is read."""
    run = runs.run_named(dag_id, run_id, session)
    results = runs.step_results(run, session)
    task = _finished(run, step, results, session)[0]
    reference = _outputs(results[task]).get(port)
    if reference is None:
        raise NotFoundError("the step must have such an output", got=f"{task}.{port}")
    if reference.get("kind") not in ("table", "dataset"):
        raise RefusedError(409, "rows are shown of tables and datasets", got=reference.get("kind"))
    place = _shown_place(reference)
    labels = label if label is not None else list(reference.get("labels") or ())[:20]
    shown = preview(place, version=int(reference["version"]), labels=labels, rows=rows)
    view = TableView.model_validate(shown, from_attributes=True)
    return OutputRows(
        **view.model_dump(),
        step=task,
        kind=reference["kind"],
        rows_before=_rows_before(run, task, port, session),
    )


def _finished(
    run: DagRun, step: str, results: Mapping[str, Mapping[str, Any]], session: SessionDep
) -> list[str]:
    """Return the tasks that a step's id stands for and that have handed something on, in order."""
    asked = runs.run_pipeline(run, session).tasks_of(step)
    done = {item.task_id for item in runs.step_instances(run, session) if item.state == "success"}
    found = sorted(task for task in asked & done if task in results)
    if not found:
        raise NotFoundError("the step must have finished in this run", got=step, remedy="choose another run")
    return found


def _outputs(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = result.get("return_value", {})
    return {name: value for name, value in found.items() if isinstance(value, dict)}


def _reports(
    task: str, results: Mapping[str, Mapping[str, Any]], mlflow_run: str, files: ReportFiles
) -> Iterator[StepReport]:
    """Yield the task's own reports, then those that judge its models."""
    made = _outputs(results[task]).values()
    models = {ref["uri"] for ref in made if ref.get("kind") == "model" and "uri" in ref}
    uris = dict.fromkeys(_report_uris(task, results, mlflow_run, models))
    reports = (
        StepReport(step=by, file=path, content=files.json(mlflow_id, path))
        for by, mlflow_id, path in itertools.islice(uris, _MOST_LOOKS)
        if files.has(mlflow_id, path)
    )
    shown = (one for one in reports if one.step == task or _judges(one.content, models))
    return itertools.islice(shown, _MOST_REPORTS)


def _report_uris(
    task: str, results: Mapping[str, Mapping[str, Any]], mlflow_run: str, models: set[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield task, MLflow run and path of reports: the task's own, then others, the likeliest first."""
    for ref in _outputs(results[task]).values():
        if (parts := REPORT.fullmatch(str(ref.get("uri", "")))) is not None:
            yield task, parts[1], parts[2]
    if re.fullmatch("[0-9a-f]{32}", mlflow_run):
        yield from ((task, mlflow_run, name) for name in _OWN_REPORTS)
    if not models:
        return

    def is_of_another(found: tuple[str, Mapping[str, Any]]) -> tuple[bool, bool]:
        other, ref = found
        judges = (ref.get("challenger") or {}).get("uri") in models
        return not judges, other.partition("__")[2] != task.partition("__")[2]  # the same copy of a group

    others = [
        (other, ref) for other, made in results.items() if other != task for ref in _outputs(made).values()
    ]
    for other, ref in sorted(others, key=is_of_another):
        parts = REPORT.fullmatch(str(ref.get("uri", "")))
        if parts is not None and parts[2] in _OF_MODELS:
            yield other, parts[1], parts[2]


def _metrics(client: MlflowClient, run_id: str) -> dict[str, float]:
    from mlflow.exceptions import MlflowException

    if not run_id:
        return {}
    try:
        found = client.get_run(run_id).data.metrics
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _judges(content: Any, models: set[str]) -> bool:
    """Whether an evaluation or a gate's report is about one of some models."""
    if not isinstance(content, dict):
        return False
    judged = [one.get("uri") for one in content.get("models") or () if isinstance(one, dict)]
    return content.get("challenger") in models or bool(models.intersection(map(str, judged)))


def _shown_place(reference: Mapping[str, Any]) -> str:
    # What a step wrote without a place of its own lies in modelmill's home.
    return check_below(str(reference["uri"]), [*table_roots(), str(Settings.from_environment().home)])


def _rows_before(run: DagRun, task: str, port: str, session: SessionDep) -> int | None:
    """Count the rows of an output in the run before, by the table's log alone."""
    for earlier in runs.runs_before(run, session, limit=_EARLIER_RUNS):
        reference = _outputs(runs.step_results(earlier, session).get(task, {})).get(port)
        if reference is not None and reference.get("kind") in ("table", "dataset"):
            try:
                return rows_in(_shown_place(reference), version=int(reference["version"]))
            except TableError:
                return None  # that version was vacuumed, or the table lies elsewhere now
    return None
