"""The rows that a model gets wrong, from its card to labelling."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import APIRouter
from pydantic import BaseModel, Field

from modelmill.artifacts import DatasetRef
from modelmill.documents.names import Name
from modelmill.documents.versions import NotFoundError
from modelmill.labels.queue import LabelQueue
from modelmill.labels.wrong_rows import WrongRow, wrong_rows
from modelmill.registry.gate_details import SHOWN_LETTERS
from modelmill_plugin import runs
from modelmill_plugin.errors import RefusedError, error_responses
from modelmill_plugin.routes.labelling import PutForwardAnswer, put_forward, shown_table
from modelmill_plugin.routes.results import Step, read_step_result
from modelmill_plugin.routes.runs import RunId
from modelmill_plugin.security import EDIT, SEE_RUNS, SEE_XCOMS, User
from modelmill_plugin.views import DagId

router = APIRouter(tags=["labelling"])

_MOST_LETTERS = 60


class WrongRowsRequest(BaseModel):
    """Where the rows go."""

    name: Name | None = Field(None, description="Name of the queue; null: after the pipeline and the label.")


@router.post(
    "/pipelines/{dag_id}/runs/{run_id}/steps/{step}/labelling",
    dependencies=[EDIT, SEE_RUNS, SEE_XCOMS],
    responses=error_responses(404, 409),
)
def send_wrong_rows(
    *,
    dag_id: DagId,
    run_id: RunId,
    step: Step,
    request: WrongRowsRequest,
    user: User,
    session: SessionDep,
) -> PutForwardAnswer:
    """Put the rows that the gate of a run found wrong into a queue of rows to label."""
    reports = read_step_result(dag_id, run_id, step, user, session).reports
    report = next((one.content for one in reports if _has_mistakes(one.content)), None)
    if report is None:
        rule = "the step must have a gate's report with rows that the model gets wrong"
        raise NotFoundError(rule, got=step, remedy="choose the gate, or a model that it judged")
    dataset = _dataset(dag_id, run_id, str(report.get("dataset")), session)
    label = str(report.get("label"))
    if label not in dataset.labels:
        raise RefusedError(409, f"the report's label is one of {dataset}", got=label)
    given = [WrongRow(one["text"], one["label"], one["answer"]) for one in report["mistakes"]]
    rows, classes = wrong_rows(dataset, label, given, letters=SHOWN_LETTERS)
    is_class = bool(report.get("classes"))
    queue = LabelQueue.of_fields(
        name=request.name or _name(dag_id, label),
        kind="class" if is_class else "number",
        classes=tuple(classes) if is_class else (),
        label=label,
        key=dataset.text_column,
        source=f"{dag_id}, rows that its model gets wrong",
    )
    return put_forward(queue, rows, user, session)


def _has_mistakes(content: Any) -> bool:
    return isinstance(content, dict) and bool(content.get("mistakes")) and "dataset" in content


def _dataset(dag_id: str, run_id: str, named: str, session: SessionDep) -> DatasetRef:
    """Return the dataset of a report: one that a step of the run handed on."""
    run = runs.run_named(dag_id, run_id, session)
    for result in runs.step_results(run, session).values():
        for reference in result.get("return_value", {}).values():
            if isinstance(reference, dict) and reference.get("kind") == "dataset":
                dataset = DatasetRef.model_validate(reference)
                if str(dataset) == named:
                    return dataset.model_copy(update={"uri": shown_table(dataset.uri)})
    raise NotFoundError("the run must have the dataset that the report is about", got=named)


def _name(dag_id: str, label: str) -> str:
    said = f"{dag_id}_{label}"
    name = f"wrong_{re.sub('[^a-z0-9]+', '_', said.lower()).strip('_')}"
    if name == f"wrong_{said}" and len(name) <= _MOST_LETTERS:
        return name
    # Letters of other scripts are lost, and long ends: two labels would get one queue.
    mark = hashlib.sha256(said.encode()).hexdigest()[:8]
    return f"{name[: _MOST_LETTERS - 9].rstrip('_')}_{mark}"
